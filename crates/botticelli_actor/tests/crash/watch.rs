//! `watch = true`: files that change are taken up, however they are written.

use crate::server::Server;
use crate::signals::RARELY;
use crate::stage::{FROM_FILE, Stage, task};
use std::fs;
use std::os::unix::fs::symlink;

const WATCHED: &str = "watch = true";

fn tasks(names: &[&str]) -> String {
    names.iter().map(|name| task(name, RARELY, "")).collect()
}

fn refused(server: &Server) -> usize {
    server.log.text().matches("not reloaded, the server goes on as before").count()
}

#[test]
fn a_changed_file_is_taken_up_and_a_bad_one_is_complained_of_once() {
    let stage = Stage::sqlite();
    stage.plain_actor();
    stage.server_file(WATCHED, &tasks(&["one"]));
    let server = stage.started();

    stage.server_file(WATCHED, &tasks(&["one", "two"]));
    server.says_times(1, " added=1 changed=0 removed=0");

    stage.server_file(WATCHED, &task("bad", "{ type = \"Cron\", expression = \"0 0 25 * * * *\" }", ""));
    server.says("has hour 25");

    // As editors do it: another file takes the place of the old one.
    let folder = stage.path("");
    fs::copy(folder.join("plain.toml"), folder.join("plain.toml.new")).unwrap();
    fs::rename(folder.join("plain.toml.new"), folder.join("plain.toml")).unwrap();
    stage.server_file(WATCHED, &tasks(&["one", "two", "three"]));
    server.says_times(2, " added=1 changed=0 removed=0");
    assert_eq!(refused(&server), 1, "{}", server.log.text());

    stage.actor("plain", FROM_FILE, 2);
    server.says(" added=0 changed=3 removed=0");

    // The server's file may be there before the actor's file that it names.
    let later = tasks(&["later"]).replace("plain.toml", "later.toml");
    stage.server_file(WATCHED, &(tasks(&["one", "two", "three"]) + &later));
    server.says("config_file \"later.toml\" is not there");
    stage.actor("later", FROM_FILE, 1);
    server.says_times(3, " added=1 changed=0 removed=0");
    assert_eq!(refused(&server), 2, "{}", server.log.text());
    server.stop();
}

/// A folder as Kubernetes mounts it: the file is a link through a link, and that one is exchanged.
#[test]
fn a_folder_that_is_swapped_behind_a_link_is_taken_up() {
    let stage = Stage::sqlite();
    stage.plain_actor();
    for (version, names) in [("first", &["one"][..]), ("second", &["one", "two"])] {
        stage.server_file(WATCHED, &tasks(names));
        fs::create_dir(stage.path(version)).unwrap();
        fs::rename(stage.path("actor_server.toml"), stage.path(version).join("actor_server.toml")).unwrap();
    }
    symlink("first", stage.path("data")).unwrap();
    symlink("data/actor_server.toml", stage.path("actor_server.toml")).unwrap();
    let server = stage.started();
    symlink("second", stage.path("data.new")).unwrap();
    fs::rename(stage.path("data.new"), stage.path("data")).unwrap();
    server.says(" added=1 changed=0 removed=0");
    server.stop();
}
