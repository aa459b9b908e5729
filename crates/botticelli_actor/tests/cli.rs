//! The command line, through the real binary: what stands on stdout, on stderr, and in the exit code.

use diesel::Connection as _;
use diesel::connection::SimpleConnection as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// What one call of the binary came to.
#[derive(Debug, PartialEq)]
struct Answer {
    out: String,
    err: String,
    code: i32,
}

/// `actor-server` without what the environment of the tests might say.
fn actor_server(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_actor-server"));
    command.current_dir(folder);
    for name in ["DATABASE_URL", "DISCORD_TOKEN", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}

fn answer(command: &mut Command) -> Answer {
    let output = command.output().unwrap();
    Answer {
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap(),
    }
}

fn ask(arguments: &[&str]) -> Answer {
    answer(actor_server(&root()).args(arguments))
}

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A folder with a configuration of one task.
fn folder(server: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("actor_server.toml"), server).unwrap();
    fs::copy(root().join("examples/actors/announcement.toml"), folder.path().join("actor.toml")).unwrap();
    folder
}

const ONE_TASK: &str = "[[actors]]\nname = \"t\"\nconfig_file = \"actor.toml\"\n\
                        schedule = { type = \"Cron\", expression = \"0 30 8 * * MON *\" }\n";

#[test]
fn version_and_help_are_answers() {
    let version = ask(&["--version"]);
    assert_eq!(version.out, format!("actor-server {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!((version.err.as_str(), version.code), ("", 0));
    let help = ask(&["--help"]);
    assert_eq!(help.code, 0);
    for command in
        ["run", "next", "once", "tasks", "posts", "migrate", "token", "audit", "schema", "man", "completions"]
    {
        assert!(
            help.out.lines().any(|line| line.trim_start().starts_with(command)),
            "{command}\n{}",
            help.out
        );
    }
}

#[test]
fn help_does_not_show_what_the_environment_holds() {
    let help = answer(
        actor_server(&root())
            .arg("--help")
            .env("DATABASE_URL", "postgres://u:hunter2@h/d")
            .env("DISCORD_TOKEN", "hunter2"),
    );
    assert!(help.out.contains("DATABASE_URL") && !help.out.contains("hunter2"), "{}", help.out);
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [
        &["--no-such-flag"][..],
        &["no-such-command"],
        &["next"],
        &["next", "t", "--cron", "@daily"],
        &["next", "--cron", "@daily", "--count", "0"],
        &["next", "--cron", "@daily", "--count", "1001"],
        &["next", "--cron", "@daily", "--after", "yesterday"],
        &["next", "t", "--timezone", "UTC"],
        &["posts", "list", "--state", "lost"],
        &["next", "--cron", "@daily", "--dry-run"],
        &["--log-format", "xml"],
    ] {
        let answer = ask(arguments);
        assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{arguments:?} {answer:?}");
        assert!(answer.err.starts_with("error: "), "{arguments:?} {answer:?}");
    }
}

#[test]
fn next_says_what_it_understood_and_then_the_times() {
    let answer = ask(&[
        "next",
        "--cron",
        "0 0 9 * * * *",
        "--timezone",
        "Europe/Berlin",
        "--after",
        "2026-03-27T12:00:00Z",
        "--count",
        "2",
    ]);
    assert_eq!(
        answer,
        Answer {
            out: "at 09:00:00 every day, Europe/Berlin\n\
                  \x20 Sat 2026-03-28 09:00:00 +01:00   2026-03-28T08:00:00Z\n\
                  \x20 Sun 2026-03-29 09:00:00 +02:00   2026-03-29T07:00:00Z\n"
                .to_owned(),
            err: String::new(),
            code: 0
        }
    );
}

#[test]
fn next_prints_json_for_programs() {
    let json = |arguments: &[&str]| {
        let answer = ask(arguments);
        assert_eq!((answer.err.as_str(), answer.code), ("", 0));
        serde_json::from_str::<serde_json::Value>(&answer.out).unwrap()
    };
    assert_eq!(
        json(&[
            "next",
            "--json",
            "--cron",
            "30 2 * * *",
            "--timezone",
            "Europe/Berlin",
            "--after",
            "2026-03-29T00:00:00Z",
            "--count",
            "2"
        ]),
        serde_json::json!([
            { "scheduled_for": "2026-03-29T01:00:00Z", "local": "2026-03-29T03:00:00+02:00" },
            { "scheduled_for": "2026-03-30T00:30:00Z", "local": "2026-03-30T02:30:00+02:00" },
        ])
    );
    // A time that is the `--after` itself is not after it, and what ends has an end.
    assert_eq!(
        json(&["next", "--json", "--cron", "0 0 0 1 1 ? 2030", "--after", "2029-12-31T23:59:59+00:00"]),
        serde_json::json!([{ "scheduled_for": "2030-01-01T00:00:00Z", "local": "2030-01-01T00:00:00+00:00" }])
    );
    assert_eq!(
        json(&["next", "--json", "--cron", "0 0 0 1 1 ? 2030", "--after", "2030-01-01T00:00:00Z"]),
        serde_json::json!([])
    );
}

#[test]
fn next_explains_a_wrong_expression() {
    assert_eq!(
        ask(&["next", "--cron", "0 0 25 * * * *"]),
        Answer {
            out: String::new(),
            err: "error: cron expression \"0 0 25 * * * *\" has hour 25 (allowed: 0-23)\n\
                  hint: 7 fields: sec min hour day-of-month month day-of-week year; `actor-server next --cron \
                  \"0 0 9 * * * *\"` shows what one means\n"
                .to_owned(),
            code: 2
        }
    );
    let zone = ask(&["next", "--cron", "@daily", "--timezone", "Mars/Olympus"]);
    assert!(zone.err.starts_with("error: timezone \"Mars/Olympus\" is not known"), "{}", zone.err);
    assert_eq!(zone.code, 2);
}

#[test]
fn next_does_not_take_a_time_zone_for_a_task_which_has_its_own() {
    let folder = folder(ONE_TASK);
    let answer = answer(actor_server(folder.path()).args(["next", "t", "--timezone", "Asia/Tokyo"]));
    assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{answer:?}");
    assert!(
        answer.err.starts_with("error: the argument '[TASK]' cannot be used with '--timezone <ZONE>'\n"),
        "{answer:?}"
    );
}

#[test]
fn next_says_of_a_task_that_waits_for_no_time_that_it_has_none() {
    let at_once =
        ONE_TASK.replace("type = \"Cron\", expression = \"0 30 8 * * MON *\"", "type = \"Immediate\"");
    let answer = answer(actor_server(folder(&at_once).path()).args(["next", "t"]));
    assert_eq!(answer.out, "once, at once\n  no times of its own\n", "{answer:?}");
}

#[test]
fn next_shows_what_a_time_looks_like() {
    for wrong in ["yesterday", "2026-01-31", ""] {
        let answer = ask(&["next", "--cron", "@daily", "--after", wrong]);
        let error = format!(
            "error: invalid value '{wrong}' for '--after <TIME>': not a time in RFC 3339, such as \
             2026-01-31T09:00:00Z or 2026-01-31T10:00:00+01:00\n"
        );
        assert!(answer.err.starts_with(&error) && answer.code == 2, "{answer:?}");
    }
}

#[test]
fn next_takes_a_task_and_flags_go_before_and_after_the_command() {
    let folder = folder(ONE_TASK);
    let path = folder.path().join("actor_server.toml").display().to_string();
    let after = "2026-01-01T00:00:00Z";
    let answers = [
        ask(&["--config", &path, "next", "t", "--after", after, "--count", "1"]),
        ask(&["next", "t", "--after", after, "--count", "1", "-c", &path]),
        answer(actor_server(folder.path()).args(["next", "t", "--after", after, "--count", "1"])),
    ];
    for answer in &answers {
        assert_eq!(
            answer.out,
            "at 08:30:00 on Monday, UTC\n  Mon 2026-01-05 08:30:00 +00:00   2026-01-05T08:30:00Z\n",
            "{answer:?}"
        );
    }
}

#[test]
fn an_unknown_task_is_explained_in_the_same_words_by_every_command() {
    let folder = folder(&ONE_TASK.replace("\"t\"", "\"daily_poster\""));
    let said = |arguments: &[&str]| {
        let answer = answer(actor_server(folder.path()).args(arguments));
        assert_eq!((answer.out.as_str(), answer.code), ("", 2), "{arguments:?} {answer:?}");
        answer.err
    };
    assert_eq!(answer(actor_server(folder.path()).arg("migrate")).code, 0);
    let none = "hint: it knows none yet: a server registers those of its configuration when it starts\n";
    assert_eq!(
        said(&["tasks", "show", "x"]),
        format!("error: there is no task \"x\" in the database\n{none}")
    );
    assert_eq!(answer(actor_server(folder.path()).args(["once", "daily_poster", "--send"])).code, 0);
    for (place, commands) in [
        ("actor_server.toml", &[&["next"][..], &["once"]][..]),
        (
            "the database",
            &[
                &["tasks", "show"],
                &["tasks", "trigger"],
                &["tasks", "pause"],
                &["tasks", "resume"],
                &["tasks", "history"],
            ],
        ),
    ] {
        for command in commands {
            assert_eq!(
                said(&[*command, &["dayly_poster"]].concat()),
                format!(
                    "error: there is no task \"dayly_poster\" in {place}\nhint: did you mean \"daily_poster\"?\n"
                )
            );
            assert_eq!(
                said(&[*command, &["x"]].concat()),
                format!("error: there is no task \"x\" in {place}\nhint: tasks there: daily_poster\n")
            );
        }
    }
}

#[test]
fn tasks_show_tells_all_that_is_known_about_a_task() {
    let folder = posting_to_file("no/such/folder.jsonl", "");
    let run = |arguments: &[&str]| answer(actor_server(folder.path()).args(arguments));
    assert_eq!(run(&["once", "t", "--send"]).code, 1, "its post is deferred");
    assert_eq!(run(&["tasks", "trigger", "t"]).code, 0);
    let shown = run(&["tasks", "show", "t"]).out;
    for line in [
        "task          t",
        "actor         announcement",
        "schedule      once at 2099-01-01 00:00:00 +00:00, UTC",
        "state         active",
        "next          Thu 2099-01-01 00:00:00 +00:00   2099-01-01T00:00:00Z",
        "failures      0 in a row",
        "posts         1 deferred",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    assert!(shown.contains("\nlast outcome  execution 1 succeeded at 2"), "{shown}");
    let open = shown.lines().find(|line| line.starts_with("open          execution ")).unwrap();
    assert!(open.contains(" (manual): waits for a server, from 2"), "{shown}");
    assert_eq!(run(&["tasks", "pause", "t"]).code, 0);
    let paused = run(&["tasks", "show", "t"]).out;
    assert!(paused.contains("\nstate         paused (operator); unchanged since 2"), "{paused}");
    assert!(paused.contains("\nif resumed    Thu 2099-01-01"), "{paused}");
    let json: serde_json::Value = serde_json::from_str(&run(&["tasks", "show", "t", "--json"]).out).unwrap();
    assert_eq!(json["next_times"], serde_json::json!(["2099-01-01T00:00:00Z"]));
    assert_eq!((&json["task_id"], &json["last_execution"]["outcome"]), (&"t".into(), &"succeeded".into()));
    assert_eq!((&json["open"][0]["trigger"], &json["posts"]["deferred"]), (&"manual".into(), &1.into()));
}

#[test]
fn a_task_that_nobody_will_run_is_not_triggered() {
    let folder = posting_to_file("posts.jsonl", "");
    let config = folder.path().join("actor_server.toml");
    let text = fs::read_to_string(&config).unwrap();
    let trigger = || answer(actor_server(folder.path()).args(["tasks", "trigger", "t"]));
    let is_refused = |answer: Answer| {
        assert_eq!((answer.out.as_str(), answer.code), ("", 1), "{answer:?}");
        let refused = "error: task \"t\" is not in the server's configuration\n\
                       hint: put its [[actors]] entry back, and reload or restart the server\n";
        assert!(answer.err.ends_with(refused), "{answer:?}");
    };
    drop(Running::start(&folder));
    fs::write(&config, "").unwrap();
    let without = Running::start(&folder);
    is_refused(trigger());
    drop(without);
    is_refused(trigger());
    fs::write(&config, text).unwrap();
    let with = Running::start(&folder);
    let accepted = trigger();
    assert_eq!((accepted.err.as_str(), accepted.code), ("", 0), "{accepted:?}");
    with.stop();
    let waits = trigger();
    assert_eq!(waits.code, 0);
    let execution =
        waits.out.strip_prefix("t: ").and_then(|out| out.strip_suffix(" will run as soon as a server can\n"));
    let execution = execution.unwrap_or_else(|| panic!("{waits:?}"));
    let warning = format!("WARN no server runs on this database: {execution} starts when one does");
    assert!(waits.err.contains(&warning), "{waits:?}");
}

#[test]
fn a_dry_run_of_the_examples_shows_all_four_schedules() {
    let answer = ask(&["--config", "examples/actor_server.toml", "--dry-run"]);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{answer:?}");
    let tasks: Vec<&str> = answer.out.lines().filter(|line| !line.starts_with(' ')).collect();
    let file = root().join("examples/posts.jsonl");
    assert_eq!(
        tasks,
        [
            &format!(
                "daily_poster: actor daily_poster, at 09:00:00 every day, Europe/Berlin, to file:{}",
                file.display()
            ),
            "trending: actor trending, every 20 seconds, to console:stdout",
            "welcome: actor welcome, once, at once, to console:stdout",
            "announcement: actor announcement, once at 2026-01-01 12:00:00 +01:00, to console:stdout",
        ]
    );
    // Three times where there are three.
    assert_eq!(answer.out.lines().count(), tasks.len() + 3 + 3 + 1 + 1);
    assert!(!root().join("actor_server.db").exists());
}

#[test]
fn a_dry_run_that_finds_problems_is_exit_code_1_and_anything_else_2() {
    let folder = folder("[server]\nchek_interval_seconds = 1\n[[actors]]\nname = \"t\"\n");
    let problems = "error: actor_server.toml:2: server.chek_interval_seconds is not a known key\n\
                    hint: did you mean \"check_interval_seconds\"?\n\
                    error: actor_server.toml:3: task \"t\": config_file is missing\n\
                    error: actor_server.toml:3: task \"t\": schedule is missing\n";
    let dry = answer(actor_server(folder.path()).arg("--dry-run"));
    assert_eq!(dry, Answer { out: String::new(), err: problems.to_owned(), code: 1 });
    let next = answer(actor_server(folder.path()).args(["next", "t"]));
    assert_eq!(next, Answer { out: String::new(), err: problems.to_owned(), code: 2 });
}

#[test]
fn a_dry_run_looks_at_content_destinations_and_the_database_and_makes_nothing() {
    let folder = posting_to_file(
        "no/such/folder.jsonl",
        "\n[[knowledge]]\nname = \"gone\"\ntype = \"file\"\npath = \"gone.csv\"\n\
         [[knowledge]]\nname = \"none\"\ntype = \"file\"\npath = \"none/*.md\"\n\
         [[knowledge]]\nname = \"bad\"\ntype = \"file\"\npath = \"*.json\"\n\
         [[knowledge]]\nname = \"twice\"\ntype = \"inline\"\nitems = [{ id = 1 }, { id = 1, a = 2 }]\n\
         [[knowledge]]\nname = \"table\"\ntype = \"table\"\ntable = \"actor_server_post\"\n\
         database = \"sqlite://other.db\"\n\
         [[knowledge]]\nname = \"query\"\ntype = \"query\"\nquery = \"SELECT a FROM b WHERE c = $task\"\n\
         database = \"sqlite://other.db\"\n\
         [[knowledge]]\nname = \"own\"\ntype = \"table\"\ntable = \"actor_server_content\"\n\
         [[knowledge]]\nname = \"news\"\ntype = \"table\"\ntable = \"news\"\n\
         [[knowledge]]\nname = \"pipe\"\ntype = \"file\"\npath = \"pipe.jsonl\"\n",
    );
    let path = |name: &str| folder.path().canonicalize().unwrap().join(name);
    let actor = fs::read_to_string(path("actor.toml")).unwrap();
    let line = |text: &str| 1 + actor.lines().position(|line| line == text).unwrap();
    fs::write(path("1.json"), "[{ \"a\": 1 }").unwrap();
    fs::write(path("2.json"), [b'"', 0xff, b'"']).unwrap();
    // Whoever opens it for reading waits for somebody who writes.
    assert!(Command::new("mkfifo").arg(path("pipe.jsonl")).status().unwrap().success());
    let other = ["migrate", "--database-url", "sqlite://other.db"];
    assert_eq!(answer(actor_server(folder.path()).args(other)).code, 0);
    let dry = || answer(actor_server(folder.path()).arg("--dry-run"));
    let files = || {
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.starts_with("other.db"));
        names.sort();
        names
    };
    let before = files();
    let found = dry();
    assert_eq!((found.out.as_str(), found.code), ("", 1), "{found:?}");
    let at = |text: &str, problem: &str| {
        let wanted = format!("error: actor.toml:{}: actor \"announcement\": knowledge {problem}", line(text));
        assert!(found.err.contains(&wanted), "{wanted}\n{}", found.err);
    };
    at("path = \"gone.csv\"", "\"gone\": there is no file ");
    at("path = \"none/*.md\"", "\"none\": no file matches ");
    at("path = \"*.json\"", "\"bad\": 1.json: EOF while parsing");
    at("path = \"*.json\"", "\"bad\": 2.json:1: invalid UTF-8 (byte 1)");
    at("items = [{ id = 1 }, { id = 1, a = 2 }]", "\"twice\": items 1 and 2 have the same id");
    at(
        "table = \"actor_server_post\"",
        "\"table\": there is no table \"actor_server_post\" in sqlite://other.db (did you mean \"actor_server_posts\"?)",
    );
    at("query = \"SELECT a FROM b WHERE c = $task\"", "\"query\": sqlite://other.db: no such table: b");
    at("table = \"news\"", "\"news\": there is no table \"news\": sqlite://actor_server.db does not exist (");
    at("path = \"pipe.jsonl\"", "\"pipe\": pipe.jsonl can't be read: it is a device or a pipe, not a file");
    let folder_missing = format!(
        "error: actor_server.toml:5: task \"t\": can't create {}: its folder is not there; create it\n",
        std::path::absolute(folder.path().join("no/such/folder.jsonl")).unwrap().display()
    );
    assert!(found.err.contains(&folder_missing), "{folder_missing}\n{}", found.err);
    assert_eq!(found.err.matches("error: ").count(), 10, "{}", found.err);
    assert_eq!(files(), before, "nothing is made");

    fs::write(path("actor_server.db"), "no database ".repeat(100)).unwrap();
    let found = dry();
    assert!(
        found.err.contains(
            "error: actor_server.toml: database.url can't be used: can't connect to sqlite://actor_server.db: \
             file is not a database\nhint: the file is something else, or encrypted: name another one\n"
        ),
        "{}",
        found.err
    );
    assert_eq!(found.err.matches("error: ").count(), 10, "{}", found.err);
}

/// A typo in the URL is said, and makes nothing.
#[test]
fn a_command_where_there_is_no_database_says_so_and_makes_none() {
    let folder = folder(ONE_TASK);
    for arguments in [&["tasks", "list", "--json"][..], &["tasks", "trigger", "t"], &["posts", "list"]] {
        let said = answer(actor_server(folder.path()).args(arguments));
        let err = "error: sqlite://actor_server.db does not exist\n\
                   hint: is the URL right? `actor-server migrate`, or the first start of the server, makes it\n";
        assert_eq!(said, Answer { out: String::new(), err: err.to_owned(), code: 1 }, "{arguments:?}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is made");
}

/// As it would be at the first start, whose database has the server's tables and nothing else. Nothing is made.
#[test]
fn once_rehearses_a_task_before_there_is_a_database() {
    let once = |knowledge: &str| {
        let folder = folder(ONE_TASK);
        let file = folder.path().join("actor.toml");
        let text = fs::read_to_string(&file).unwrap();
        let inline = text.find("type = \"inline\"").unwrap()..text.find("[[skills]]").unwrap();
        fs::write(&file, text.replace(&text[inline], &format!("{knowledge}\n"))).unwrap();
        let answer = answer(actor_server(folder.path()).args(["once", "t"]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is made");
        let new = "sqlite://actor_server.db does not exist: this is how it would run on a new database";
        assert!(answer.err.contains(new), "{answer:?}");
        answer
    };
    let inline = once("type = \"inline\"\nitems = [{ id = 1, title = \"Open\", text = \"door\" }]");
    assert!(inline.code == 0 && inline.out.contains("\n    Open: door\n"), "{inline:?}");
    let empty = once("type = \"table\"\ntable = \"actor_server_content\"");
    assert!(empty.code == 0 && empty.out.contains("=> skipped (nothing_to_post)"), "{empty:?}");
    let makes = "sqlite://actor_server.db does not exist (`actor-server migrate`, or the first start, makes it, with \
                 the server's own tables only)";
    let table = once("type = \"table\"\ntable = \"news\"");
    assert!(
        table.code == 1 && table.out.contains(&format!("there is no table \"news\": {makes}")),
        "{table:?}"
    );
    let query = once("type = \"query\"\nquery = \"SELECT 1 AS id\"");
    assert!(
        query.code == 1 && query.out.contains(&format!("the query can't be asked: {makes}")),
        "{query:?}"
    );
}

#[test]
fn what_helps_with_a_database_file_that_can_not_be_read_is_said() {
    let folder = TempDir::new().unwrap();
    let said = |url: &str| answer(actor_server(folder.path()).args(["tasks", "list", "--database-url", url]));
    fs::write(folder.path().join("notes.txt"), "no database ".repeat(100)).unwrap();
    assert_eq!(
        said("sqlite://notes.txt"),
        Answer {
            out: String::new(),
            err: "error: can't connect to sqlite://notes.txt: file is not a database\n\
                  hint: the file is something else, or encrypted: name another one\n"
                .to_owned(),
            code: 1
        }
    );
    let made = ["migrate", "--database-url", "sqlite://damaged.db"];
    assert_eq!(answer(actor_server(folder.path()).args(made)).code, 0);
    let damaged = folder.path().join("damaged.db");
    let mut bytes = fs::read(&damaged).unwrap();
    // The first page holds the schema; what it says stands on the others.
    bytes[4096..].fill(0xaa);
    fs::write(&damaged, bytes).unwrap();
    let answer = said("sqlite://damaged.db");
    assert!(
        answer.err.contains("database disk image is malformed\nhint: the file is damaged: restore a copy"),
        "{answer:?}"
    );
    assert_eq!(answer.code, 1);
    assert_eq!(
        said("sqlite://a.db?mode=rwc&x=y"),
        Answer {
            out: String::new(),
            err: "error: the database URL has the parameter \"mode\" (a sqlite:// URL has none: it names the file, \
                  and no more)\nhint: such as sqlite://actor_server.db or postgres://user@host/database\n"
                .to_owned(),
            code: 2
        }
    );
}

#[test]
fn a_cron_expression_whose_years_are_over_is_warned_about() {
    let folder = folder(&ONE_TASK.replace("MON *", "MON 2020"));
    let warning =
        "WARN actor_server.toml: task \"t\": it never runs again: at 08:30:00 on Monday in 2020, UTC\n";
    for arguments in [&["--dry-run"][..], &["next", "t"]] {
        let answer = answer(actor_server(folder.path()).args(arguments));
        assert!(answer.code == 0 && answer.err.ends_with(warning), "{answer:?}");
    }
    let asked = ask(&["next", "--cron", "0 30 8 * * MON 2020"]);
    assert!(asked.err.contains("WARN it never runs again: at 08:30:00"), "{asked:?}");
    let asked_of_then = ask(&["next", "--cron", "0 30 8 * * MON 2020", "--after", "2020-01-01T00:00:00Z"]);
    assert_eq!((asked_of_then.err.as_str(), asked_of_then.code), ("", 0));
}

#[test]
fn a_missing_configuration_is_explained() {
    let folder = TempDir::new().unwrap();
    assert_eq!(
        answer(actor_server(folder.path()).args(["next", "t"])),
        Answer {
            out: String::new(),
            err: "error: actor_server.toml: there is no such file\n\
                  hint: --config FILE names another file; examples/actor_server.toml is one to start from\n"
                .to_owned(),
            code: 2
        }
    );
}

#[test]
fn secrets_are_never_printed() {
    let folder = folder(&format!("discord_token = \"hunter2-file\"\n{ONE_TASK}"));
    for url in ["postgres://user:hunter2-url@host/db", "mysql://user:hunter2-url@host/db", "hunter2-url"] {
        for arguments in [
            &["--dry-run"][..],
            &["next", "t"],
            &["--dry-run", "--log-format", "json", "--discord-token", "hunter2-flag"],
        ] {
            let answer = answer(
                actor_server(folder.path())
                    .args(arguments)
                    .env("DATABASE_URL", url)
                    .env("DISCORD_TOKEN", "hunter2-env")
                    .env("RUST_LOG", "trace"),
            );
            assert!(!format!("{answer:?}").contains("hunter2"), "{answer:?}");
        }
    }
}

#[test]
fn a_token_on_the_command_line_is_warned_about_and_one_in_the_environment_is_not() {
    let folder = folder(ONE_TASK);
    let warning = "--discord-token can be seen by other users";
    let before = answer(actor_server(folder.path()).args(["--discord-token", "x", "next", "t"]));
    let after = answer(actor_server(folder.path()).args(["next", "t", "--discord-token", "x"]));
    let environment = answer(actor_server(folder.path()).args(["next", "t"]).env("DISCORD_TOKEN", "x"));
    assert!(before.err.contains(warning) && after.err.contains(warning), "{before:?} {after:?}");
    assert_eq!((environment.err.as_str(), environment.code), ("", 0));
}

#[test]
fn the_log_goes_to_stderr_as_text_or_json() {
    let folder = folder("");
    let text = answer(actor_server(folder.path()).arg("--dry-run"));
    assert_eq!((text.out.as_str(), text.code), ("", 0));
    assert!(text.err.contains("WARN actor_server.toml: there are no [[actors]] entries"), "{}", text.err);
    let json = answer(actor_server(folder.path()).args(["--dry-run", "--log-format", "json"]));
    let line: serde_json::Value = serde_json::from_str(json.err.trim()).unwrap();
    assert_eq!(line["level"], "WARN");
    assert!(line["message"].as_str().unwrap().contains("[[actors]]"));
    let quiet = answer(actor_server(folder.path()).arg("--dry-run").env("RUST_LOG", "error"));
    assert_eq!(quiet.err, "");
    let wrong = answer(actor_server(folder.path()).arg("--dry-run").env("RUST_LOG", "botticelli_actor=loud"));
    assert!(wrong.err.starts_with("error: RUST_LOG is \"botticelli_actor=loud\""), "{}", wrong.err);
    assert_eq!(wrong.code, 2);
}

#[cfg(feature = "discord")]
#[test]
fn with_a_log_in_json_the_last_words_of_run_are_json_too() {
    let folder = folder(&ONE_TASK.replace("MON *", "MOM *").replace("actor.toml", "gone.toml"));
    let answer_of = |arguments: &[&str]| {
        answer(actor_server(folder.path()).args(["--log-format", "json"]).args(arguments))
    };
    let failed = answer_of(&["run"]);
    assert_eq!(failed.code, 2);
    let lines: Vec<serde_json::Value> =
        failed.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{failed:?}");
    assert!(lines.iter().all(|line| line["level"] == "ERROR" && line["timestamp"].is_string()), "{failed:?}");
    assert!(lines[0]["error"].as_str().unwrap().contains("MOM"), "{failed:?}");
    assert!(lines[0]["hint"].as_str().unwrap().contains("7 fields"), "{failed:?}");
    assert!(answer_of(&["next", "t"]).err.starts_with("error: "), "a command is asked by a person");
}

#[test]
fn an_answer_that_can_not_be_written_is_a_failure() {
    for arguments in [&["--help"][..], &["--version"], &["tasks", "--help"], &["schema", "server"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let status =
            actor_server(&root()).args(arguments).stdout(full).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(1), "{arguments:?}");
    }
}

/// They have all skills, also those that can be left out.
#[cfg(feature = "discord")]
#[test]
fn the_committed_schemas_are_current() {
    for (file, path) in
        [("server", "schemas/actor_server.schema.json"), ("actor", "schemas/actor.schema.json")]
    {
        let committed = fs::read_to_string(root().join(path)).unwrap();
        let current = ask(&["schema", file]);
        assert_eq!(current.code, 0);
        assert!(current.out == committed, "renew it: cargo run -- schema {file} > {path}");
    }
}

#[test]
fn the_examples_point_to_the_schemas() {
    let examples = root().join("examples");
    let mut files = vec![examples.join("actor_server.toml"), examples.join("discord.toml")];
    files.extend(fs::read_dir(examples.join("actors")).unwrap().map(|entry| entry.unwrap().path()));
    assert_eq!(files.len(), 6);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let schema = text.lines().next().unwrap().strip_prefix("#:schema ").unwrap();
        assert!(file.parent().unwrap().join(schema).exists(), "{file:?} points to {schema}");
    }
}

#[test]
fn completions_are_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let answer = ask(&["completions", shell]);
        assert!(answer.out.contains("actor-server") && answer.code == 0, "{shell}");
    }
}

#[test]
fn the_manual_page_tells_of_every_command_and_option() {
    let page = ask(&["man"]);
    assert_eq!((page.code, page.err.as_str()), (0, ""), "{page:?}");
    assert!(page.out.contains(".TH actor-server 1"), "{}", page.out);
    let text = page.out.replace("\\-", "-");
    for words in [
        "posts mark-posted",
        "token new",
        "completions",
        "--database-url",
        "--dry-run",
        "SIGHUP",
        "EXIT STATUS",
    ] {
        assert!(text.contains(words), "{words} is missing: {text}");
    }
    for line in ask(&["--help"])
        .out
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
    {
        // A description that goes on in the next line is indented further.
        let command = line.strip_prefix("  ").unwrap().split(' ').next().unwrap();
        assert!(
            matches!(command, "" | "help") || text.contains(&format!("\\fB{command}\\fR")),
            "{command} is missing: {text}"
        );
    }
    // Where there is a `man`, or what it is made of, it finds nothing wrong.
    let check = Command::new("mandoc")
        .args(["-T", "lint", "-W", "error"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut check) = check else { return };
    check.stdin.take().unwrap().write_all(page.out.as_bytes()).unwrap();
    let judged = check.wait_with_output().unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
}

#[test]
fn a_dry_run_warns_of_webhooks_that_nobody_can_call() {
    let folder = folder(
        "[api]\nenabled = false\n[[actors]]\nname = \"t\"\nconfig_file = \"actor.toml\"\n\
         schedule = { type = \"Once\", at = \"2099-01-01T00:00:00Z\" }\n\
         [[actors.triggers]]\ntype = \"webhook\"\nname = \"builds\"\n",
    );
    let dry = answer(actor_server(folder.path()).arg("--dry-run"));
    assert_eq!(dry.code, 0, "{dry:?}");
    assert!(dry.err.contains("no event can come in for the webhook \"builds\""), "{dry:?}");
}

#[test]
fn a_reader_who_goes_away_is_no_error() {
    for arguments in
        [&["schema", "server"][..], &["completions", "bash"], &["--help"], &["next", "--cron", "@daily"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = actor_server(&root()).args(arguments).stdout(writer).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!((err.as_str(), output.status.code()), ("", Some(0)), "{arguments:?}");
    }
}

/// A task whose posts go to a file; `rest` is what else its entry and the actor's file say.
fn posting_to_file(destination: &str, skills: &str) -> TempDir {
    let folder = folder(&format!(
        "[[actors]]\nname = \"t\"\nconfig_file = \"actor.toml\"\nplatform = \"file\"\n\
         destination = {destination:?}\nschedule = {{ type = \"Once\", at = \"2099-01-01T00:00:00Z\" }}\n"
    ));
    let actor = folder.path().join("actor.toml");
    let text = fs::read_to_string(&actor).unwrap() + skills;
    fs::write(&actor, text).unwrap();
    folder
}

#[test]
fn once_send_shows_the_stages_then_the_post_then_its_receipt() {
    let folder = folder(ONE_TASK);
    let answer = answer(actor_server(folder.path()).args(["once", "t", "--send"]));
    assert_eq!(answer.code, 0, "{answer:?}");
    let line = |beginning: &str| {
        let at = answer.out.lines().position(|line| line.starts_with(beginning));
        at.unwrap_or_else(|| panic!("{beginning:?} in {}", answer.out))
    };
    let order = [
        "t: actor",
        "-- content_formatter",
        "=> succeeded, with 1 post",
        "┌ ",
        "post 1 to console:stdout: posted",
    ];
    assert!(order.map(line).is_sorted(), "{}", answer.out);
    let key = answer.out.lines().nth(line("┌ ")).unwrap().rsplit(' ').next().unwrap();
    assert!(answer.out.contains(&format!(": posted, message {key} at 2")), "{}", answer.out);
}

#[test]
fn once_send_fails_where_a_post_does_and_not_where_the_actor_put_it_off() {
    let nowhere = posting_to_file("no/such/folder.jsonl", "");
    let answer_of = |folder: &TempDir| answer(actor_server(folder.path()).args(["once", "t", "--send"]));
    let failed = answer_of(&nowhere);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.out.contains(": deferred until 2"), "{failed:?}");
    assert!(
        failed.err.contains("error: post 1 is deferred\nhint: `actor-server posts show 1` tells more\n"),
        "{failed:?}"
    );

    let limited = posting_to_file(
        "posts.jsonl",
        "[[skills]]\nname = \"rate_limiting\"\nmin_interval_minutes = 60\n\
         [[knowledge.items]]\nid = \"2\"\ntitle = \"Second\"\ntext = \"post\"\n",
    );
    let (first, second) = (answer_of(&limited), answer_of(&limited));
    assert!(first.code == 0 && first.out.contains(": posted, message "), "{first:?}");
    assert!(second.code == 0 && second.out.contains(": deferred until 2"), "{second:?}");
}

/// A server that ends with its test.
struct Running(Child);

impl Running {
    fn start(folder: &TempDir) -> Self {
        Self::start_with(folder, &[])
    }

    fn start_with(folder: &TempDir, arguments: &[&str]) -> Self {
        let mut command = actor_server(folder.path());
        command.args(arguments);
        let mut server = Self(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        let mut log = BufReader::new(server.0.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(log.any(|line| line.contains("running; Ctrl-C stops")));
        // Somebody must read on, or the server would be held up.
        std::thread::spawn(move || log.for_each(drop));
        server
    }
}

impl Running {
    /// In good order, so that nobody takes it for alive.
    fn stop(mut self) {
        let process = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &process]).status().unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Also one that has stopped.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn once_send_waits_for_its_post_where_a_server_sends_it() {
    let folder = posting_to_file("posts.jsonl", "");
    let posts = folder.path().join("posts.jsonl");
    let locked = fs::File::create(&posts).unwrap();
    locked.lock().unwrap();
    let _server = Running::start(&folder);
    let mut once = actor_server(folder.path());
    let mut once = once.args(["once", "t", "--send"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(once.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.starts_with("=> ")));
    locked.unlock().unwrap();
    let states: Vec<String> = said.collect();
    assert!(states.len() == 1 && states[0].contains(": posted, message "), "{states:?}");
    assert!(once.wait().unwrap().success());
}

#[test]
fn once_send_is_carried_through_when_nobody_reads_its_output() {
    let folder = posting_to_file("posts.jsonl", "");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = actor_server(folder.path()).args(["once", "t", "--send"]).stdout(writer).status().unwrap();
    assert!(status.success());
    let history = answer(actor_server(folder.path()).args(["tasks", "history", "t", "--json"]));
    let history: serde_json::Value = serde_json::from_str(&history.out).unwrap();
    assert_eq!(history[0]["outcome"], "succeeded");
    assert_eq!(fs::read_to_string(folder.path().join("posts.jsonl")).unwrap().lines().count(), 1);
}

/// A post that failed, by an execution of its own: a folder stands where its file should be.
fn a_post_that_waits(folder: &TempDir) {
    let answer = answer(actor_server(folder.path()).args(["once", "t", "--send"]));
    assert_eq!(answer.code, 1, "{answer:?}");
}

#[test]
fn a_person_settles_a_post_that_may_be_there() {
    let folder = posting_to_file("no/such/folder.jsonl", "");
    a_post_that_waits(&folder);
    let posts = |arguments: &[&str]| answer(actor_server(folder.path()).arg("posts").args(arguments));
    let database = folder.path().join("actor_server.db");
    let in_state = |state: &str, doubt: &str| {
        let sql = format!(
            "UPDATE actor_server_posts SET state = '{state}', uncertain_since = {doubt}, deliver_at = \
             CASE WHEN '{state}' = 'deferred' THEN '2099-01-01 00:00:00+00:00' END"
        );
        let mut connection = diesel::SqliteConnection::establish(database.to_str().unwrap()).unwrap();
        connection.batch_execute(&sql).unwrap();
    };
    let nothing_doubtful = posts(&["resend", "1"]);
    assert_eq!(
        (nothing_doubtful.err.as_str(), nothing_doubtful.code),
        (
            "error: post 1 is deferred: nothing says that it may be there\n\
             hint: `actor-server posts retry 1` sends it\n",
            1
        )
    );
    in_state("needs_review", "'2026-01-01 00:00:00+00:00'");
    let retried = posts(&["retry", "1"]);
    assert_eq!(
        (retried.err.as_str(), retried.code),
        (
            "error: post 1 is needs_review: it may be there already\n\
             hint: look at the destination; then `actor-server posts mark-posted 1 --message-id ID` if it is there, \
             `actor-server posts resend 1` if it is not\n",
            1
        )
    );
    let again = posts(&["resend", "1"]);
    assert!(again.out.starts_with("post 1 will be sent again") && again.out.contains("twice"), "{again:?}");
    in_state("needs_review", "'2026-01-01 00:00:00+00:00'");
    for wrong in [&["mark-posted", "1"][..], &["mark-posted", "1", "--message-id", ""], &["resend", "x"]] {
        assert_eq!(posts(wrong).code, 2, "{wrong:?}");
    }
    let unknown = posts(&["mark-posted", "9", "--message-id", "77"]);
    assert_eq!((unknown.err.lines().next(), unknown.code), (Some("error: there is no post 9"), 2));
    let link = "https://example.org/77";
    let marked = posts(&["mark-posted", "1", "--message-id", "77", "--link", link, "--json"]);
    let marked: serde_json::Value = serde_json::from_str(&marked.out).expect("JSON");
    assert_eq!((&marked["state"], &marked["marked_posted"]), (&"posted".into(), &true.into()));
    assert_eq!((&marked["receipt"]["message_id"], &marked["receipt"]["link"]), (&"77".into(), &link.into()));
    assert_eq!(marked["posted_at"], "2026-01-01T00:00:00Z");
    let list = posts(&["list"]);
    assert!(list.out.contains("posted (marked as posted by an operator)"), "{list:?}");
    let twice = posts(&["mark-posted", "1", "--message-id", "77"]);
    assert_eq!(twice.err.lines().next(), Some("error: post 1 is posted: there is nothing to settle"));
}

#[cfg(feature = "discord")]
#[test]
fn a_trigger_says_when_the_server_leaves_the_task_out() {
    let to_discord = "name = \"t\"\nchannel_id = \"1300000000000000100\"\nenabled = true";
    let folder = folder(&ONE_TASK.replace("name = \"t\"", to_discord));
    let server = Running::start_with(&folder, &["--allow-degraded"]);
    let trigger = answer(actor_server(folder.path()).args(["tasks", "trigger", "t"]));
    assert!(trigger.out.starts_with("t: execution 1 waits for a server that can run it"), "{trigger:?}");
    assert!(
        trigger.err.contains("leaves this task out: it posts to Discord, and there is no token"),
        "{trigger:?}"
    );
    server.stop();
}

#[test]
fn a_task_whose_destination_takes_no_posts_says_so() {
    let folder = posting_to_file("no/such/folder.jsonl", "");
    a_post_that_waits(&folder);
    let ask = |arguments: &[&str]| answer(actor_server(folder.path()).args(arguments));
    let show = ask(&["tasks", "show", "t"]).out;
    let waiting = show.lines().find(|line| line.starts_with("waiting ")).unwrap_or_else(|| panic!("{show}"));
    assert!(
        waiting.contains("1 post waits since 2") && waiting.contains("its folder is not there"),
        "{waiting}"
    );
    assert!(ask(&["tasks", "list"]).out.contains("; 1 post waits since 2"));
    let json: serde_json::Value = serde_json::from_str(&ask(&["tasks", "list", "--json"]).out).unwrap();
    assert_eq!(json[0]["waiting_posts"], 1);
    assert!(json[0]["waiting_since"].is_string(), "{json}");
    assert!(json[0]["waiting_reason"].as_str().unwrap().contains("its folder is not there"), "{json}");
    ask(&["posts", "retry", "1"]);
    fs::create_dir_all(folder.path().join("no/such")).unwrap();
    // The one that waited goes first, and only then this one's.
    let second = "\n[[knowledge.items]]\nid = \"2\"\ntitle = \"Second\"\ntext = \"post\"\n";
    let actor = folder.path().join("actor.toml");
    fs::write(&actor, fs::read_to_string(&actor).unwrap() + second).unwrap();
    let sent = ask(&["once", "t", "--send"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    let json: serde_json::Value = serde_json::from_str(&ask(&["tasks", "list", "--json"]).out).unwrap();
    assert_eq!((&json[0]["waiting_posts"], &json[0]["waiting_reason"]), (&0.into(), &().into()));
}

#[test]
fn posts_show_tells_why_a_post_waits_and_what_was_asked() {
    let folder = posting_to_file("no/such/folder.jsonl", "");
    a_post_that_waits(&folder);
    let show =
        |more: &[&str]| answer(actor_server(folder.path()).args(["posts", "show", "1"]).args(more)).out;
    let text = show(&[]);
    let line = |beginning: &str| {
        let line = text.lines().find(|line| line.starts_with(beginning));
        line.unwrap_or_else(|| panic!("{beginning:?} in {text}"))
    };
    assert!(line("state ").ends_with(" deferred"), "{text}");
    assert!(line("waits until ").ends_with('Z') && line("key ").len() > 20, "{text}");
    assert!(line("1  ").contains("  post: "), "{text}");
    assert!(line("attempt 1: ").contains("no/such/folder.jsonl"), "the platform's words: {text}");
    assert!(!text.contains("may be there since") && !text.contains("\nmessage"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&show(&["--json"])).expect("JSON");
    assert_eq!((&json["waits_for"], &json["uncertain_since"]), (&().into(), &().into()));
    let exchange = &json["attempts_made"][0]["exchanges"][0];
    assert_eq!(exchange["asked"], "post");
    assert!(exchange["text"].as_str().unwrap().contains("no/such/folder.jsonl"), "{json}");
    for field in ["asked_at", "answered_at", "answer"] {
        assert!(exchange[field].is_string(), "{field}: {json}");
    }
}

#[test]
fn a_token_is_shown_once_and_changes_are_written_down() {
    let folder = folder(ONE_TASK);
    let ask = |arguments: &[&str]| answer(actor_server(folder.path()).env("USER", "ada").args(arguments));
    assert_eq!(ask(&["migrate"]).code, 0);
    let made = ask(&["token", "new", "--name", "laptop", "--scope", "operate"]);
    let token = made.out.trim().to_owned();
    assert!(made.code == 0 && token.starts_with("actor_") && token.len() == 70, "{made:?}");
    let again = ask(&["token", "new", "--name", "laptop", "--scope", "read"]);
    assert_eq!((again.code, again.err.lines().next()), (1, Some("error: there is a token \"laptop\"")));
    assert_eq!(ask(&["token", "new", "--name", "x", "--scope", "root"]).code, 2);
    let list = ask(&["token", "list"]);
    assert!(list.out.contains("laptop  operate"), "{list:?}");
    assert_eq!(ask(&["token", "revoke", "laptop"]).out, "laptop: revoked\n");
    assert_eq!(ask(&["token", "revoke", "laptop"]).code, 2);
    assert_eq!(
        ask(&["token", "new", "--name", "laptop", "--scope", "read"]).code,
        0,
        "the name is free again"
    );
    let audit = ask(&["audit", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&audit.out).unwrap();
    let told: Vec<(&str, &str)> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["who"].as_str().unwrap(), row["action"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [("user ada", "token.new"), ("user ada", "token.revoke"), ("user ada", "token.new")]);
    let everything = format!("{}{}{}", list.out, audit.out, ask(&["token", "list", "--json"]).out);
    assert!(!everything.contains(&token), "it is kept nowhere");
}
