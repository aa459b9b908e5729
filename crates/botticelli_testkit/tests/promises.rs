//! `docs/promises.md` names the tests that show what it says. They are there.

use std::fs;
use std::path::{Path, PathBuf};

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
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    sources(&root.join("crates"), &mut files);
    let code: String = files.iter().map(|file| fs::read_to_string(file).expect("a text")).collect();
    let page = fs::read_to_string(root.join("docs/promises.md")).expect("the page");
    let names = named(&page);
    assert!(names.len() > 20, "{names:?}");
    let gone: Vec<&&str> = names.iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert!(gone.is_empty(), "docs/promises.md names tests that are not there: {gone:?}");
}
