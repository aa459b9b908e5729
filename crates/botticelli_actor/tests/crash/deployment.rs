//! `docs/deployment.md` tells what is: what can be typed of it is typed here, below another root.

use crate::signals::RARELY;
use crate::stage::{Stage, task};
use botticelli_actor::config::ServerSettings;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

const PAGE: &str = include_str!("../../../../docs/deployment.md");

fn blocks(language: &str) -> impl Iterator<Item = &'static str> {
    let fence = format!("```{language}\n");
    let fences = PAGE.match_indices("```").map(|(at, _)| &PAGE[at..]);
    fences.filter_map(move |text| text.strip_prefix(&fence)?.split_once("```").map(|(block, _)| block))
}

/// Types it, except for what builds, and for what only runs beside systemd.
fn typed(commands: &str, root: &Path, folder: &Path) -> String {
    let lines = commands.lines().filter(|line| !line.starts_with("cargo ") && !line.contains("systemctl "));
    let below = |line: &str| {
        let line = line
            .replace("sudo ", "")
            .replace("target/release/actor-server", env!("CARGO_BIN_EXE_actor-server"));
        [" /etc/", " /usr/"]
            .iter()
            .fold(line, |line, place| line.replace(place, &format!(" {}{}", root.display(), place.trim())))
    };
    let lines: Vec<String> = lines.map(below).collect();
    let script = format!("set -eu; PATH={}/usr/local/bin:$PATH\n{}", root.display(), lines.join("\n"));
    let mut bash = Command::new("bash");
    for name in ["DATABASE_URL", "DISCORD_TOKEN", "RUST_LOG"] {
        bash.env_remove(name);
    }
    let output = bash.arg("-c").arg(&script).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_the_page_installs_is_a_server_with_its_configuration() {
    let stage = Stage::sqlite();
    let (root, folder) = (stage.path("root"), stage.path(""));
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for folder in ["usr/local/bin", "etc/systemd/system"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let commands: Vec<&str> = blocks("sh").collect();
    let (install, others): (Vec<&str>, Vec<&str>) =
        commands.into_iter().partition(|block| block.contains("sudo install"));
    let [server, manual] = install.as_slice() else { panic!("two blocks install something: {install:?}") };
    typed(server, &root, &repository);
    typed(manual, &root, &folder);
    for file in ["man/man1/actor-server.1", "bash-completion/completions/actor-server"] {
        assert!(fs::metadata(root.join("usr/local/share").join(file)).unwrap().len() > 1000, "{file}");
    }
    let environment = fs::metadata(root.join("etc/actor-server/environment")).unwrap();
    assert_eq!(environment.permissions().mode() & 0o777, 0o600);
    let unit = fs::read_to_string(root.join("etc/systemd/system/actor-server.service")).unwrap();
    for file in
        ["usr/local/bin/actor-server", "etc/actor-server/actor_server.toml", "etc/actor-server/environment"]
    {
        assert!(unit.contains(&format!("/{file}")) && root.join(file).exists(), "{file}");
    }
    let configured = "actor-server --config /etc/actor-server/actor_server.toml";
    typed(&format!("{configured} --dry-run"), &root, &folder);
    typed(&format!("{configured} migrate"), &root, &folder);
    let asks: Vec<&str> =
        others.into_iter().filter(|block| block.contains("actor-server --config")).collect();
    assert_eq!(asks.len(), 1);
    assert!(asks.iter().all(|block| !typed(block, &root, &folder).is_empty()));
    let token = "actor-server token new --name probe --scope read";
    assert!(PAGE.contains(&format!("`{token}`")));
    typed(&token.replace("actor-server", configured), &root, &folder);
}

#[test]
fn a_role_with_the_rights_that_the_page_grants_is_enough_for_a_server() {
    let Some(stage) = Stage::postgres() else { return };
    // Roles are the whole cluster's: this one is named as the test's database is, which nobody else has.
    let role = stage.values("SELECT current_database() || '_role' AS value").remove(0);
    let sql: Vec<String> = blocks("sql").map(|block| block.replace("actor_server", &role)).collect();
    let [roles, grants] = sql.as_slice() else { panic!("two blocks of SQL: {sql:?}") };
    stage.sql(&format!("DROP DATABASE IF EXISTS {role}"));
    stage.sql(&format!("DROP ROLE IF EXISTS {role}"));
    roles
        .split_inclusive(';')
        .filter(|statement| !statement.trim().is_empty())
        .for_each(|statement| stage.sql(statement));
    stage.sql(&format!("DROP DATABASE {role}"));
    stage.plain_actor();
    stage.server_file("", &task("t", RARELY, ""));
    stage.answer(&["migrate"]);
    stage.sql(grants);
    let url = stage.database.url();
    let url =
        url.replace("user=postgres", &format!("user={role}")).replace("//postgres@", &format!("//{role}@"));
    assert!(url.contains(&role), "{url}");
    let server = crate::server::Server::start(stage.command(&[]).env("DATABASE_URL", url));
    stage.until("it posts", |stage| stage.count("actor_server_posts WHERE state = 'posted'") == 1);
    let log = server.stop().err;
    assert!(!log.contains("permission denied"), "{log}");
    stage.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn the_defaults_that_the_page_names_are_the_defaults() {
    let settings = ServerSettings::default();
    let days = settings.history_retention.map_or(0, |keep| keep.as_secs() / 86_400);
    for (key, value) in [
        ("lease_seconds", settings.lease.as_secs()),
        ("shutdown_grace_seconds", settings.shutdown_grace.as_secs()),
        ("history_retention_days", days),
    ] {
        assert!(PAGE.contains(&format!("`{key}` ({value})")), "{key} is {value}");
    }
}
