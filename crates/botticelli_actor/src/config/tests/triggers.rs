//! `[[actors.triggers]]`: what is said about each input that is wrong.

use super::*;
use crate::config::triggers::Sender;
use botticelli_server::after::Ends;
use botticelli_server::server::Gathering;

/// A task without a schedule, with this trigger.
fn reacting(name: &str, trigger: &str) -> String {
    format!("[[actors]]\nname = \"{name}\"\nconfig_file = \"a.toml\"\n[[actors.triggers]]\n{trigger}\n")
}

/// What is said of a task with this trigger, without the line.
fn said(trigger: &str) -> String {
    said_of(&reacting("t", trigger))
}

fn said_of(file: &str) -> String {
    let problems = Files::new(file).problems();
    let lines = problems.lines().map(|line| match line.strip_prefix("server.toml:") {
        Some(rest) => rest.split_once(": ").map_or(rest, |(_, said)| said).to_owned(),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

const ON_POSTGRESQL: &str = "[database]\nurl = \"postgres://db/x\"\n";

#[test]
fn every_key_of_a_trigger_is_taken() {
    let files = Files::new(&format!(
        "{ON_POSTGRESQL}{}{}{}{}",
        task(""),
        reacting(
            "w",
            "type = \"webhook\"\nname = \"deploys\"\ngithub_secret = \"0123456789abcdef\"\n\
             filter = { x-github-event = \"push\", \"/n\" = 1 }\ndebounce_seconds = 5\nmax_waiting = 7"
        ),
        reacting(
            "f",
            "type = \"after\"\ntask = \"t\"\non = \"finished\"\nfilter = { \"/trigger\" = \"manual\" }\n\
             batch_seconds = 60\nbatch_max = 3\nmax_waiting = 8\n[[actors.triggers]]\ntype = \"after\"\ntask = \"w\""
        ),
        reacting(
            "n",
            "type = \"postgres\"\nchannel = \"orders\"\ndatabase = \"postgres://me:hunter2@other/y\"\n\
             run_after_gap = true\nfilter = { \"/new\" = true }\n[[actors.triggers]]\ntype = \"postgres\"\n\
             channel = \"orders\""
        ),
    ));
    let config = files.loaded();
    let webhook = &config.webhooks[0];
    assert!(matches!(webhook.sender, Sender::GitHub(_)) && webhook.filter.len() == 2);
    assert_eq!(webhook.gathering, Gathering::Last { quiet: Duration::from_secs(5) });
    assert_eq!(webhook.max_waiting.get(), 7);
    let [first, second] = config.tasks[2].after.as_slice() else { panic!("{:?}", config.tasks[2].after) };
    assert_eq!((first.task.as_str(), first.on, first.max_waiting.get()), ("t", Ends::Finished, 8));
    assert_eq!(first.filter["/trigger"], "manual");
    assert!(matches!(first.gathering, Gathering::All { most, .. } if most.get() == 3));
    assert_eq!((second.task.as_str(), second.on), ("w", Ends::Succeeded));
    let [other, own] = config.channels.as_ref() else { panic!("{:?}", config.channels) };
    assert_eq!((other.name.as_str(), other.run_after_gap, other.database.is_some()), ("orders", true, true));
    assert_eq!((own.run_after_gap, own.database.is_some(), own.gathering), (false, false, Gathering::Each));
    assert!(!format!("{:?}", config.channels).contains("hunter2"));
    assert!(config.tasks.iter().skip(1).all(|task| task.schedule == ScheduleType::Event));
}

#[test]
fn the_definition_of_a_task_does_not_depend_on_its_triggers() {
    let definition = |trigger: &str| {
        let files = Files::new(&format!("{}[[actors.triggers]]\n{trigger}", task("")));
        files.loaded().tasks[0].definition.clone()
    };
    let one = definition("type = \"webhook\"\nname = \"a\"");
    assert_eq!(
        one,
        definition("type = \"webhook\"\nname = \"b\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"")
    );
}

#[test]
fn a_disabled_task_has_no_triggers() {
    let files = Files::new(&format!(
        "{ON_POSTGRESQL}{}enabled = false\n{}",
        "[[actors]]\nname = \"t\"\nconfig_file = \"a.toml\"\n",
        "[[actors.triggers]]\ntype = \"webhook\"\nname = \"a\"\n[[actors.triggers]]\ntype = \"postgres\"\nchannel = \"c\""
    ));
    let config = files.loaded();
    assert!(config.webhooks.is_empty() && config.channels.is_empty());
}

#[test]
fn a_trigger_of_no_known_kind_is_refused() {
    assert_eq!(
        said("type = \"websocket\""),
        "task \"t\": triggers[0].type is \"websocket\" (allowed: \"webhook\", \"after\", \"postgres\")\n\
         hint: did you mean \"webhook\"?"
    );
    assert_eq!(said("name = \"x\""), "task \"t\": triggers[0].type is missing");
    assert_eq!(
        said("type = \"webhook\"\nname = \"x\"\nsecrets = \"y\""),
        "task \"t\": triggers[0].secrets is not a known key\nhint: did you mean \"secret\"?"
    );
}

#[test]
fn what_is_wrong_with_a_webhook_is_said_without_its_secret() {
    let webhook = |keys: &str| said(&format!("type = \"webhook\"\n{keys}"));
    let name = |name: &str| webhook(&format!("name = \"{name}\""));
    for wrong in ["", "a/b", ".hidden", "with space", &"x".repeat(101)] {
        let expected = format!(
            "task \"t\": triggers[0]: name is {wrong:?} (allowed: 1-100 of a-z, A-Z, 0-9, \".\", \"_\" and \"-\")\n\
             hint: it is the last part of a path: name = \"deploys\""
        );
        assert_eq!(name(wrong), expected);
    }
    let secret = webhook("name = \"x\"\nsecret = \"hunter2hunter2\"");
    assert!(
        secret.starts_with("task \"t\": triggers[0]: secret is no secret of Standard Webhooks"),
        "{secret}"
    );
    let github = webhook("name = \"x\"\ngithub_secret = \"hunter2\"");
    assert!(github.contains("github_secret can be guessed (allowed: 16 characters or more)"), "{github}");
    let both = webhook("name = \"x\"\nsecret = \"hunter2\"\ngithub_secret = \"hunter2hunter2hunter2\"");
    assert!(both.contains("secret and github_secret are both given"), "{both}");
    for said in [secret, github, both] {
        assert!(!said.contains("hunter2"), "{said}");
    }
    assert_eq!(
        webhook("name = \"x\"\nfilter = { \"no header\" = \"y\" }"),
        "task \"t\": triggers[0]: filter: \"no header\" is neither a JSON pointer, such as \"/action\", nor the name of a header"
    );
    assert_eq!(
        webhook("name = \"x\"\nfilter = { x-event = 1 }"),
        "task \"t\": triggers[0]: filter: the header \"x-event\" is compared with a text"
    );
    let twice = "name = \"x\"\n[[actors.triggers]]\ntype = \"webhook\"\nname = \"x\"";
    assert_eq!(webhook(twice), "task \"t\": triggers[1]: the task has another webhook \"x\"");
    let one = reacting("one", "type = \"webhook\"\nname = \"x\"\ngithub_secret = \"0123456789abcdef\"");
    let other = reacting("other", "type = \"webhook\"\nname = \"x\"");
    assert_eq!(
        said_of(&(one + &other)),
        "task \"other\": triggers[0]: task \"one\" has a webhook \"x\", too, but another secret for it"
    );
}

#[test]
fn what_does_not_go_together_is_said_of_every_kind() {
    for kind in [
        "type = \"webhook\"\nname = \"x\"",
        "type = \"after\"\ntask = \"t\"",
        "type = \"postgres\"\nchannel = \"x\"\ndatabase = \"postgres://db/x\"",
    ] {
        let said = |keys: &str| said(&format!("{kind}\n{keys}"));
        let both = said("debounce_seconds = 1\nbatch_seconds = 1");
        let expected = "task \"t\": triggers[0]: debounce_seconds and batch_seconds are both given\n\
             hint: the first runs for the last event only, the second for all of them";
        assert!(both.starts_with(expected), "{both}");
        let lonely = said("batch_max = 2");
        assert!(
            lonely.starts_with("task \"t\": triggers[0]: batch_max needs batch_seconds beside it"),
            "{lonely}"
        );
        for (keys, expected) in [
            ("debounce_seconds = 0", "triggers[0].debounce_seconds is 0 (allowed: a whole number, 1-86400)"),
            (
                "batch_seconds = 90000",
                "triggers[0].batch_seconds is 90000 (allowed: a whole number, 1-86400)",
            ),
            ("batch_max = 1001", "triggers[0].batch_max is 1001 (allowed: a whole number, 1-1000)"),
            ("max_waiting = 0", "triggers[0].max_waiting is 0 (allowed: a whole number, 1-10000)"),
        ] {
            let said = said(keys);
            assert!(said.contains(expected), "{said}");
        }
        let filter = said("filter = { \"/a\" = [1] }");
        assert!(
            filter.contains("filter: \"/a\" is compared with a text, a number, true or false"),
            "{filter}"
        );
    }
}

#[test]
fn what_is_wrong_with_a_task_that_runs_after_others_is_said() {
    let after = |name: &str, keys: &str| reacting(name, &format!("type = \"after\"\n{keys}"));
    let with_t = |keys: &str| said_of(&(task("") + &after("f", keys)));
    assert_eq!(said_of(&after("f", "")), "task \"f\": triggers[0].task is missing");
    assert_eq!(
        with_t("task = \"tt\""),
        "task \"f\": there is no task \"tt\" to run after\nhint: did you mean \"t\"?"
    );
    assert_eq!(
        with_t("task = \"something_else\""),
        "task \"f\": there is no task \"something_else\" to run after\n\
         hint: the name of another [[actors]] entry of this file"
    );
    assert_eq!(
        with_t("task = \"t\"\non = \"fails\""),
        "task \"f\": triggers[0].on is \"fails\" (allowed: \"succeeded\", \"failed\", \"finished\")\n\
         hint: did you mean \"failed\"?"
    );
    assert_eq!(
        with_t("task = \"t\"\nfilter = { outcome = \"failed\" }"),
        "task \"f\": triggers[0]: filter: \"outcome\" is no JSON pointer\n\
         hint: it begins with a slash: filter = { \"/outcome\" = … }"
    );
    assert_eq!(
        with_t("task = \"t\"\n[[actors.triggers]]\ntype = \"after\"\ntask = \"t\"\non = \"finished\""),
        "task \"f\": triggers[1]: the task has another trigger for the same ends of \"t\"\n\
         hint: one end is one run: `on` says which ends are meant"
    );
    Files::new(
        &(task("")
            + &after(
                "f",
                "task = \"t\"\n[[actors.triggers]]\ntype = \"after\"\ntask = \"t\"\non = \"failed\"",
            )),
    )
    .loaded();
}

#[test]
fn tasks_that_run_after_each_other_in_a_circle_are_refused_by_name() {
    let after =
        |name: &str, upstream: &str| reacting(name, &format!("type = \"after\"\ntask = \"{upstream}\""));
    let hint = "hint: each of them would run for ever";
    let circle = |names: &str| format!("tasks that run after each other in a circle: {names}\n{hint}");
    assert_eq!(said_of(&after("a", "a")), format!("task \"a\": {}", circle("\"a\" after \"a\"")));
    assert_eq!(
        said_of(&(after("a", "b") + &after("b", "a"))),
        format!("task \"a\": {}", circle("\"a\" after \"b\" after \"a\""))
    );
    let two = [("x", "a"), ("a", "c"), ("b", "a"), ("c", "b"), ("p", "q"), ("q", "p")];
    let two: String = two.iter().map(|(name, upstream)| after(name, upstream)).collect();
    assert_eq!(
        said_of(&two),
        format!(
            "task \"a\": {}\ntask \"p\": {}",
            circle("\"a\" after \"c\" after \"b\" after \"a\""),
            circle("\"p\" after \"q\" after \"p\"")
        )
    );
}

#[test]
fn what_is_wrong_with_a_channel_is_said() {
    let on = |database: &str, keys: &str| {
        said_of(&format!("{database}{}", reacting("t", &format!("type = \"postgres\"\n{keys}"))))
    };
    assert_eq!(on(ON_POSTGRESQL, ""), "task \"t\": triggers[0].channel is missing");
    for wrong in ["", "a b", "it's", "\u{fc}", &"x".repeat(64)] {
        assert_eq!(
            on(ON_POSTGRESQL, &format!("channel = \"{wrong}\"")),
            format!(
                "task \"t\": triggers[0]: channel is {wrong:?} (allowed: 1-63 of a-z, A-Z, 0-9, \".\", \"_\" and \"-\")\n\
                 hint: channel = \"orders\" hears NOTIFY orders"
            )
        );
    }
    assert!(
        on(ON_POSTGRESQL, "channel = \"actor_server\"")
            .contains("channel \"actor_server\" is the servers' own")
    );
    let example = "hint: database = \"postgres://user@host/database\" names one that does";
    assert_eq!(
        on("", "channel = \"orders\""),
        format!(
            "task \"t\": triggers[0]: the server's own database is SQLite, which sends no notifications\n{example}"
        )
    );
    assert_eq!(
        on("", "channel = \"orders\"\ndatabase = \"sqlite://x.db\""),
        format!("task \"t\": triggers[0]: database is SQLite, which sends no notifications\n{example}")
    );
    assert_eq!(
        on("", "channel = \"orders\"\ndatabase = \"mysql://me:hunter2@db/x\""),
        format!(
            "task \"t\": triggers[0]: database has the scheme \"mysql\" (allowed: sqlite, postgres)\n{example}"
        )
    );
    let twice = "channel = \"orders\"\n[[actors.triggers]]\ntype = \"postgres\"\nchannel = \"orders\"";
    assert_eq!(
        on(ON_POSTGRESQL, twice),
        "task \"t\": triggers[1]: the task has another trigger for the channel \"orders\""
    );
    Files::new(&reacting("t", "type = \"postgres\"\nchannel = \"orders\"\ndatabase = \"postgres://db/x\""))
        .loaded();
}
