//! What stands in `docs/` and `deploy/` is true, as far as that can be tried.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

/// What stands in the page between backticks and looks like the name of a test.
fn named(page: &str) -> Vec<&str> {
    let words = page.split('`').skip(1).step_by(2);
    words.filter(|word| word.matches('_').count() >= 3 && !word.contains(['.', ' ', '/'])).collect()
}

#[test]
fn the_tests_that_the_promises_name_are_there() {
    let root = root();
    let mut files = Vec::new();
    sources(&root.join("crates"), &mut files);
    let code: String = files.iter().map(|file| fs::read_to_string(file).expect("a text")).collect();
    let page = fs::read_to_string(root.join("docs/promises.md")).expect("the page");
    let names = named(&page);
    assert!(names.len() > 20, "{names:?}");
    let gone: Vec<&&str> = names.iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert!(gone.is_empty(), "docs/promises.md names tests that are not there: {gone:?}");
}

/// The program is not installed where tests run, so another one stands for it.
#[test]
fn systemd_takes_the_unit() {
    let unit = fs::read_to_string(root().join("deploy/systemd/actor-server.service")).expect("the unit");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("actor-server.service");
    assert!(unit.contains("ExecStart=/usr/local/bin/actor-server "));
    fs::write(&file, unit.replace("/usr/local/bin/actor-server", "/bin/true")).expect("a file");
    let Ok(verified) = Command::new("systemd-analyze").arg("verify").arg(&file).output() else {
        eprintln!("not tried: systemd-analyze is not here");
        return;
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_manifests_are_yaml_and_ask_where_the_server_answers() {
    let path = root().join("deploy/kubernetes/actor-server.yaml");
    let manifests = fs::read_to_string(&path).expect("the manifests");
    for probe in ["/health/ready", "/health/live"] {
        assert!(manifests.contains(&format!("path: {probe}, port: http")), "{probe}");
    }
    let script = "import sys, yaml; print([d['kind'] for d in yaml.safe_load_all(open(sys.argv[1]))])";
    match Command::new("python3").args(["-c", script]).arg(&path).output() {
        Ok(read) if read.status.success() => {
            let kinds = String::from_utf8_lossy(&read.stdout);
            assert_eq!(kinds.trim(), "['Deployment', 'PodDisruptionBudget', 'Service']");
        }
        Ok(failed) if String::from_utf8_lossy(&failed.stderr).contains("No module named") => {
            eprintln!("not tried: python3 has no yaml here");
        }
        Ok(failed) => panic!("{}", String::from_utf8_lossy(&failed.stderr)),
        Err(_) => eprintln!("not tried: python3 is not here"),
    }
}
