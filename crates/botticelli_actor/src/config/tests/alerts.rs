//! `[[alerts]]` and `[heartbeat]`: what is said about each input that is wrong, and what comes of one that is right.

use super::*;
use botticelli_server::alert::Severity;
use botticelli_server::ids::ActorName;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A section for a webhook that has all it needs, with these keys beside them.
fn webhook(keys: &str) -> String {
    format!(
        "[[alerts]]\nname = \"ops\"\nsink = \"webhook\"\nurl = \"https://ops.example/hook\"\nsecret = \"{SECRET}\"\n{keys}\n"
    )
}

/// What is said about the file with this section and a task.
fn said(section: &str) -> String {
    Files::new(&format!("{section}\n{}", task(""))).problems()
}

fn loaded(section: &str) -> LoadedConfig {
    Files::new(&format!("{section}\n{}", task(""))).loaded()
}

#[track_caller]
fn says(section: &str, words: &[&str]) {
    let said = said(section);
    for words in words {
        assert!(said.contains(words), "{words:?} is missing: {said}");
    }
    assert!(!said.contains("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "the secret leaves: {said}");
}

#[test]
fn a_section_that_is_right_is_taken() {
    let config = loaded(&webhook(
        "min_severity = \"error\"\nrepeat_after_seconds = 3600\n[alerts.rules]\nconsecutive_failures = 0\n\
         task_overdue_seconds = 0\nposts_need_review = false\n[alerts.actors.a]\nconsecutive_failures = 1\n\
         task_overdue_seconds = 60",
    ));
    let [alert] = &config.alerts[..] else { panic!("one section") };
    let policy = &alert.policy;
    assert_eq!(
        (policy.min_severity, policy.repeat_after),
        (Severity::Error, Some(Duration::from_secs(3_600)))
    );
    assert_eq!((policy.rules.consecutive_failures, policy.rules.task_overdue), (None, None), "0: not told");
    assert!(!policy.rules.posts_need_review && policy.rules.breaker_opened);
    let own = &policy.actors[&ActorName::new("a").unwrap()];
    assert_eq!(own.consecutive_failures.map(u32::from), Some(1));
    assert_eq!(own.task_overdue, Some(Duration::from_secs(60)));
}

#[test]
fn a_name_that_can_not_be_is_named() {
    says("[[alerts]]\nsink = \"webhook\"", &["missing", "name"]);
    says(&webhook("").replace("\"ops\"", "\"\""), &["server.toml:2", "name"]);
    says(
        &webhook("").replace("\"ops\"", &format!("\"{}\"", "o".repeat(101))),
        &["name is longer than 100 bytes"],
    );
    says(&(webhook("") + &webhook("")), &["alerts[1]: another section is called \"ops\", too"]);
}

#[test]
fn a_sink_that_lacks_something_says_what() {
    says("[[alerts]]\nname = \"ops\"", &["missing", "sink"]);
    says("[[alerts]]\nname = \"ops\"\nsink = \"pigeon\"", &["pigeon", "webhook"]);
    let bare = |sink: &str| format!("[[alerts]]\nname = \"ops\"\nsink = \"{sink}\"");
    says(
        &bare("webhook"),
        &[
            "the sink webhook needs url",
            "hint: url = \"${OPS_URL}\"",
            "the sink webhook needs secret",
            "openssl rand",
        ],
    );
    says(&bare("pagerduty"), &["the sink pagerduty needs routing_key", "Events API v2"]);
    #[cfg(feature = "discord")]
    says(&bare("discord"), &["the sink discord needs channel_id or webhook"]);
}

#[test]
fn a_key_that_belongs_to_another_sink_says_to_which() {
    says(&webhook("routing_key = \"k\""), &["alerts[0]: routing_key goes with the sink pagerduty"]);
    says(&webhook("channel_id = \"1\""), &["channel_id goes with the sink discord"]);
    says(&webhook("webhook = \"ops\""), &["webhook goes with the sink discord"]);
    let pagerduty = "[[alerts]]\nname = \"ops\"\nsink = \"pagerduty\"\nrouting_key = \"k\"\n";
    says(&format!("{pagerduty}secret = \"{SECRET}\""), &["secret goes with the sink webhook"]);
    let discord =
        "[[alerts]]\nname = \"ops\"\nsink = \"discord\"\nwebhook = \"ops\"\nurl = \"https://a.example\"";
    says(discord, &["url goes with the sink webhook or pagerduty"]);
}

#[test]
fn a_url_or_a_secret_that_can_not_be_used_is_refused() {
    let with_url = |url: &str| webhook("").replace("https://ops.example/hook", url);
    says(&with_url("ops"), &["alerts[0]: url is no URL"]);
    says(&with_url("ftp://ops.example"), &["url does not begin with https:// or http://"]);
    says(
        "[[alerts]]\nname = \"ops\"\nsink = \"pagerduty\"\nrouting_key = \"k\"\nurl = \"mailto:ops\"",
        &["url does not begin with https:// or http://"],
    );
    says(&webhook("").replace(SECRET, "whsec_!!"), &["alerts[0]: secret is not base64", "hint: secret = "]);
    says(&webhook("").replace(SECRET, "whsec_AAAA"), &["secret has not 24-64 bytes"]);
    says(&webhook("").replace(SECRET, "${NOBODY}"), &["NOBODY"]);
}

#[cfg(feature = "discord")]
#[test]
fn a_place_on_discord_must_be_one() {
    let discord = |keys: &str| format!("[[alerts]]\nname = \"ops\"\nsink = \"discord\"\n{keys}\n");
    says(&discord("channel_id = \"general\""), &["alerts[0]: channel_id: "]);
    says(
        &discord("channel_id = \"1234567890123456789\"\nwebhook = \"ops\""),
        &["channel_id and webhook are both given"],
    );
    let known = "[discord.webhooks]\nops = \"https://discord.com/api/webhooks/1234567890123456789/abc\"\n";
    says(
        &format!("{}{known}", discord("webhook = \"op\"")),
        &["unknown webhook \"op\"", "did you mean \"ops\"?"],
    );
    let config = loaded(&discord("channel_id = \"1234567890123456789\""));
    let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
    assert!(warning.contains("it is told on Discord, and there is no token"), "{warning}");
}

#[test]
fn what_is_told_has_its_bounds() {
    for (keys, words) in [
        ("min_severity = \"mild\"", &["min_severity", "mild"][..]),
        ("repeat_after_seconds = 59", &["repeat_after_seconds", "60"]),
        ("repeat_after_seconds = \"often\"", &["repeat_after_seconds"]),
        ("rule = 1", &["rule", "rules"]),
        ("[alerts.rules]\nconsecutive_failures = 1001", &["consecutive_failures", "1000"]),
        ("[alerts.rules]\nconsecutive_failures = -1", &["consecutive_failures"]),
        ("[alerts.rules]\ntask_overdue_seconds = 31622401", &["task_overdue_seconds", "31622400"]),
        ("[alerts.rules]\nbreaker_opened = \"yes\"", &["breaker_opened"]),
        ("[alerts.rules]\nbreaker_closed = true", &["breaker_closed", "breaker_opened"]),
        ("[alerts.actors.a]\nconsecutive_failures = 0", &["consecutive_failures", "1"]),
        ("[alerts.actors.a]\ntask_overdue_seconds = 0", &["task_overdue_seconds", "1"]),
        ("[alerts.actors.a]\nposts_need_review = true", &["posts_need_review"]),
    ] {
        says(&webhook(keys), words);
    }
}

#[test]
fn thresholds_for_an_actor_that_there_is_not_are_refused() {
    let files = |actor: &str| {
        Files::new(&format!(
            "{}{}",
            webhook(&format!("[alerts.actors.{actor}]\nconsecutive_failures = 1")),
            task("")
        ))
    };
    let said = files("b").problems();
    assert_eq!(said, "server.toml:6: alerts[0]: actors: unknown actor \"b\"\nhint: known: a\n");
    assert_eq!(files("a").loaded().alerts.len(), 1);
    let unread = files("b").with("a.toml", "what is this?").problems();
    assert!(!unread.contains("unknown actor"), "nobody knows what it would be called: {unread}");
}

#[test]
fn a_heartbeat_calls_a_url_now_and_then() {
    says("[heartbeat]\nurl = \"here\"", &["heartbeat.url is no URL"]);
    says("[heartbeat]\nurl = \"https://a.example\"\ninterval_seconds = 0", &["interval_seconds"]);
    says("[heartbeat]\nurl = \"https://a.example\"\nevery = 60", &["every"]);
    let heartbeat = loaded("[heartbeat]\nurl = \"https://a.example\"").heartbeat.expect("there is one");
    assert_eq!(heartbeat.every, Duration::from_secs(60));
    assert!(loaded("[heartbeat]").heartbeat.is_none());
}
