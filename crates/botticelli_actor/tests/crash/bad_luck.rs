//! Databases that can't be used, disks that are full, content that can't be read: one clear message, and it goes on
//! where it can.

use crate::ledger::Ledger;
use crate::server::{Ended, PATIENCE, Server};
use crate::stage::{EVERY_SECOND, FROM_FILE, Stage, task};
use botticelli_actor::clock::SystemClock;
use botticelli_server::clock::Clock as _;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::time::Duration;

/// What it says besides its log: the error, and the hint if there is one.
fn complaint(ended: &Ended) -> Vec<&str> {
    assert_eq!(ended.status.code(), Some(1), "{}", ended.err);
    assert_eq!(ended.out, "");
    let lines: Vec<&str> = ended.err.lines().filter(|line| !line.contains(" INFO ")).collect();
    assert!(lines.len() <= 2 && lines[0].starts_with("error: "), "one message: {}", ended.err);
    assert!(lines.get(1).is_none_or(|line| line.starts_with("hint: ")), "{}", ended.err);
    lines
}

/// What the server and a command say about a database that can't be used: the same.
fn refused(stage: &Stage, url: &str) -> String {
    let by = |arguments: &[&str]| {
        let ended = stage.ask(&[&["--database-url", url], arguments].concat());
        complaint(&ended).join("\n")
    };
    let said = by(&[]);
    assert_eq!(said, by(&["tasks", "list"]), "a server, and a command");
    said
}

fn stage() -> Stage {
    let stage = Stage::sqlite();
    stage.plain_actor();
    stage.server_file("", &task("t", EVERY_SECOND, ""));
    stage
}

fn url_of(path: &std::path::Path) -> String {
    format!("sqlite://{}", path.display())
}

#[test]
fn a_file_that_is_no_database_is_named_and_left_alone() {
    let stage = stage();
    let text = "Dear diary, ".repeat(1_000);
    stage.write("diary.db", &text);
    let path = stage.path("diary.db");
    let said = refused(&stage, &url_of(&path));
    assert!(said.contains("diary.db") && said.contains("file is not a database"), "{said}");
    assert!(said.contains("\nhint: "), "{said}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), text);
}

#[test]
fn a_corrupt_database_is_named() {
    let stage = stage();
    let path = stage.path("corrupt.db");
    let url = url_of(&path);
    stage.answer(&["migrate", "--database-url", &url]);
    let length = std::fs::metadata(&path).unwrap().len();
    let mut file = File::options().write(true).open(&path).unwrap();
    // The first page says what the file is; all others are noise.
    file.seek(SeekFrom::Start(4_096)).unwrap();
    file.write_all(&vec![0x5a; usize::try_from(length - 4_096).unwrap()]).unwrap();
    drop(file);
    let said = refused(&stage, &url);
    assert!(said.contains("corrupt.db") && said.contains("malformed"), "{said}");
    assert!(said.contains("\nhint: "), "{said}");
}

#[test]
fn a_folder_that_can_not_be_written_to_is_named() {
    let stage = stage();
    let items = stage.path("items.jsonl/actor_server.db");
    let nowhere = stage.path("no/such/folder.db");
    for path in [std::path::Path::new("/proc/actor_server.db"), &items, &nowhere] {
        let by = |arguments: &[&str]| {
            let ended = stage.ask(&[&["--database-url", &url_of(path)], arguments].concat());
            let said = complaint(&ended).join("\n");
            assert!(said.contains(path.to_str().unwrap()), "{said}");
            said
        };
        assert!(by(&[]).contains("\nhint: the folder must exist"), "{}", by(&[]));
        // A command does not try to make it.
        assert!(by(&["tasks", "list"]).contains(" does not exist\nhint: is the URL right"));
    }
}

#[test]
fn a_database_of_a_newer_server_is_left_alone() {
    for stage in Stage::each() {
        stage.plain_actor();
        stage.server_file("", &task("t", EVERY_SECOND, ""));
        stage.answer(&["migrate"]);
        stage.sql("UPDATE actor_server_meta SET min_binary = '99.1.0'");
        let said = refused(&stage, stage.database.url());
        assert!(said.contains("needs actor-server 99.1.0 or newer; this is"), "{said}");
        assert!(said.contains("hint: install that version"), "{said}");
        assert_eq!(stage.count("actor_server_state"), 0);
    }
}

#[test]
fn a_postgresql_that_does_not_answer_is_named_without_its_password() {
    let stage = stage();
    // Nobody listens on port 1.
    let said = refused(&stage, "postgres://someone:hunter2@127.0.0.1:1/somewhere?connect_timeout=5");
    assert!(said.contains("127.0.0.1:1") && said.contains("refused"), "{said}");
    assert!(said.contains("\nhint: is the server running there") && !said.contains("hunter2"), "{said}");
    let said = refused(&stage, "postgres://someone:hunter2@no-such-host.invalid/somewhere?connect_timeout=5");
    assert!(said.contains("no-such-host.invalid") && !said.contains("hunter2"), "{said}");
}

#[test]
fn a_postgresql_that_says_no_is_named_with_its_reason() {
    let Some(postgres) = Stage::postgres() else { return };
    let stage = stage();
    let url = postgres.database.url();
    let name = &postgres.wait(postgres.database.value("SELECT current_database() AS value"));
    let said = refused(&stage, &url.replace(name.as_str(), "no_such_database"));
    assert!(said.contains(r#"database "no_such_database" does not exist"#), "{said}");
    assert!(said.contains("\nhint: "), "{said}");
}

/// PostgreSQL throws everybody out, and lets nobody in for so long.
fn lock_everybody_out(stage: &Stage, seconds: u32) {
    let open =
        |open| format!("UPDATE pg_database SET datallowconn = {open} WHERE datname = current_database()");
    stage.sql(&format!(
        "DO $$ BEGIN {}; COMMIT; \
             PERFORM pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid(); \
             PERFORM pg_sleep({seconds}); \
             {}; END $$",
        open(false),
        open(true)
    ));
}

#[test]
fn a_server_goes_on_when_its_postgresql_was_away() {
    let Some(stage) = Stage::postgres() else { return };
    stage.plain_actor();
    stage.actor("slow", "type = \"query\"\nquery = \"SELECT 'item-' || n AS id FROM generate_series(1, 300) AS n, pg_sleep(0.3)\"", 1);
    let tasks = (0..12).map(|n| {
        let entry = task(
            &format!("t{n}"),
            EVERY_SECOND,
            "catch_up = \"all\"\nbackoff_initial_seconds = 1\nmax_consecutive_failures = 1000",
        );
        if n % 3 == 0 { entry.replace("plain.toml", "slow.toml") } else { entry }
    });
    // The second time it is away for longer than the lease.
    stage.server_file("lease_seconds = 4", &tasks.collect::<String>());
    let before = SystemClock.now();
    let server = stage.started();
    let first_start = (before, SystemClock.now());
    for seconds in [1, 6] {
        let done = stage.count("actor_server_executions");
        stage.until("it works", |stage| stage.count("actor_server_executions") > done + 20);
        lock_everybody_out(&stage, seconds);
    }
    let behind = SystemClock.now().format("%F %T%.6f+00:00");
    let behind = format!("actor_server_state WHERE next_run <= '{behind}'");
    stage.until("the missed occurrences are made up for", |stage| stage.count(&behind) == 0);
    stage.comes_to_rest();
    let ended = server.stop();
    assert!(ended.err.contains("the database is back"), "{}", ended.err);

    let ledger = Ledger::of(&stage);
    eprintln!("{}", ledger.summary());
    ledger.accounts_for_every_occurrence(first_start);
    ledger.has_every_post_exactly_once(|_| 1);
}

/// A limit on the length of files stands in for a full disk: writing fails, and reading goes on.
#[test]
fn a_full_disk_loses_nothing() {
    let stage = stage();
    let tasks: String = (0..8).map(|n| task(&format!("t{n}"), EVERY_SECOND, "catch_up = \"all\"")).collect();
    stage.server_file("shutdown_grace_seconds = 1", &tasks);
    stage.answer(&["migrate"]);
    // In blocks of 512 bytes: enough for the tables, and for a little of the log that is written ahead.
    let mut command = std::process::Command::new("sh");
    let script = "trap '' XFSZ; ulimit -f 700 || exit 77; exec \"$0\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_actor-server")]).current_dir(stage.path(""));
    for name in ["DATABASE_URL", "DISCORD_TOKEN"] {
        command.env_remove(name);
    }
    command.env("RUST_LOG", "info,botticelli_actor=debug");
    let before = SystemClock.now();
    let server = Server::start(&mut command);
    server.says("running; Ctrl-C stops");
    let first_start = (before, SystemClock.now());
    server.says("scheduling waits for the database error=the database can't be written");
    // Some seconds, in which it reads what it can.
    server.says_times(3, "no heartbeat");
    // What is smaller may just have found room.
    let said = |words: &str| server.log.text().matches(words).count();
    assert!(said("the database is back") <= 1 && said("scheduling waits") <= 2, "{}", server.log.text());
    assert!(!server.log.text().contains("panicked"));
    server.signal("TERM");
    let ended = server.ended_within(PATIENCE);
    assert!(ended.status.code().is_some(), "it ended by itself: {}", ended.err);

    // There is room again.
    let server = stage.started();
    let done = stage.count("actor_server_posts WHERE state = 'posted'");
    stage.until("it goes on", |stage| stage.count("actor_server_posts WHERE state = 'posted'") > done + 20);
    stage.comes_to_rest();
    server.stop();
    let ledger = Ledger::of(&stage);
    ledger.accounts_for_every_occurrence(first_start);
    ledger.has_no_failures_but_poison();
    ledger.has_every_post_exactly_once(|_| 1);
}

/// A restored backup, `rm`, `mv`: the server would go on with a file that nobody finds.
#[test]
fn a_database_that_is_moved_away_ends_the_server_and_what_it_said_is_true() {
    let stage = stage();
    let tasks: String = (0..8).map(|n| task(&format!("t{n}"), EVERY_SECOND, "catch_up = \"all\"")).collect();
    stage.server_file("shutdown_grace_seconds = 5", &tasks);
    let server = stage.started();
    server.says_times(20, " posted ");
    let path = stage.database.url().trim_start_matches("sqlite://").to_owned();
    let names = ["", "-wal", "-shm"].map(|end| (format!("{path}{end}"), format!("{path}.moved{end}")));
    for (from, to) in &names {
        std::fs::rename(from, to).unwrap();
    }
    let ended = server.ended_within(PATIENCE);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.err);
    let said =
        "was deleted, moved or replaced while it was in use: nothing can be stored any more; stop the server";
    assert!(ended.err.lines().any(|line| line.contains(" ERROR ") && line.contains(said)), "{}", ended.err);
    assert!(!std::fs::exists(&path).unwrap(), "it makes no new one");

    for (from, to) in &names {
        // The log was written back when the last connection was closed.
        if std::fs::exists(to).unwrap() {
            std::fs::rename(to, from).unwrap();
        }
    }
    let lines = |words: &str| ended.err.lines().filter(|line| line.contains(words)).count();
    assert_eq!(lines(" INFO posted "), stage.count("actor_server_posts WHERE state = 'posted'"));
    assert_eq!(lines(" INFO succeeded "), stage.count("actor_server_executions WHERE outcome = 'succeeded'"));
    assert!(stage.count("actor_server_posts WHERE state = 'posted'") >= 20);
}

#[test]
fn content_that_can_not_be_read_fails_its_own_task_and_says_why() {
    for stage in Stage::each() {
        let bad = |name: &str, knowledge: &str| {
            stage.actor(name, knowledge, 1);
            let entry = task(name, "{ type = \"Immediate\" }", "max_attempts = 1");
            entry.replace("plain.toml", &format!("{name}.toml"))
        };
        File::create(stage.path("huge.jsonl")).unwrap().set_len(65 << 20).unwrap();
        stage.write("latin1.jsonl", b"{\"id\": \"caf\xe9\"}\n");
        stage.write("broken.json", "[{\"id\": 1},");
        let pipe = stage.path("pipe.jsonl");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let tasks = [
            bad("huge", "type = \"file\"\npath = \"huge.jsonl\""),
            bad("latin1", "type = \"file\"\npath = \"latin1.jsonl\""),
            bad("broken", "type = \"file\"\npath = \"broken.json\""),
            bad("missing", "type = \"file\"\npath = \"missing.csv\""),
            bad("pipe", "type = \"file\"\npath = \"pipe.jsonl\""),
            bad("table", "type = \"table\"\ntable = \"no_such_table\""),
            bad("column", "type = \"query\"\nquery = \"SELECT nothing FROM actor_server_content\""),
            bad(
                "writes",
                "type = \"query\"\nquery = \"WITH c AS (SELECT 1) SELECT id, text FROM actor_server_content, c\"",
            ),
            bad("good", FROM_FILE),
        ];
        stage.server_file("", &tasks.concat());
        let server = stage.started();
        stage.until("all have ended", |stage| stage.count("actor_server_executions") == tasks.len());
        let outcome = |task: &str| {
            let history = stage.json(&["tasks", "history", task, "--json"]);
            assert_eq!(history.len(), 1, "{history:?}");
            let error = history[0]["error_message"].as_str().unwrap_or_default().to_owned();
            (history[0]["outcome"].as_str().unwrap().to_owned(), error)
        };
        for (task, culprit) in [
            ("huge", "huge.jsonl"),
            ("latin1", "latin1.jsonl"),
            ("broken", "broken.json"),
            ("missing", "missing.csv"),
            ("pipe", "pipe.jsonl can't be read: it is a device or a pipe, not a file"),
            ("table", "no_such_table"),
            ("column", "nothing"),
        ] {
            let (outcome, error) = outcome(task);
            assert!(outcome == "failed" && error.contains(culprit), "{task}: {outcome}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        assert_eq!(outcome("good").0, "succeeded");
        assert_eq!(outcome("writes").0, "skipped", "nobody has filled the table");
        stage.until("the good one's post is there", |stage| stage.posted_lines().len() == 1);
        server.stop();
    }
}

#[test]
fn configuration_that_is_no_text_or_without_end_is_named() {
    let stage = stage();
    let refused = |file: &str| {
        let ended = stage.ask(&["--config", file]);
        assert_eq!((ended.status.code(), ended.err.lines().count() <= 2), (Some(2), true), "{}", ended.err);
        assert!(ended.err.starts_with("error: ") && ended.err.contains(file), "{}", ended.err);
    };
    stage.write("latin1.toml", b"# caf\xe9\n");
    refused("latin1.toml");
    File::create(stage.path("huge.toml")).unwrap().set_len(1 << 30).unwrap();
    refused("huge.toml");
    assert!(std::process::Command::new("mkfifo").arg(stage.path("pipe.toml")).status().unwrap().success());
    refused("pipe.toml");
}

/// Such a server may take its time to find out, but not for ever.
#[test]
fn a_signal_while_it_waits_for_a_database_stops_it() {
    let stage = stage();
    // Takes connections and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("postgres://someone@127.0.0.1:{port}/somewhere");
    let server = Server::start(&mut stage.command(&["--database-url", &url]));
    let _held = listener.accept().unwrap();
    server.signal("TERM");
    let ended = server.ended_within(Duration::from_secs(5));
    assert_eq!(ended.status.code(), Some(0), "{}", ended.err);
}
