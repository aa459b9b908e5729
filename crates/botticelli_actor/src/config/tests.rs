//! What is said about each input that is wrong, and what comes of one that is right.

use super::*;
use crate::actor::PipelineActor;
use crate::skills::SkillRegistry;
use botticelli_server::outbox::OnUnknown;
use botticelli_server::schedule::ScheduleType;
use botticelli_server::task::{CatchUp, Overlap};
use secrecy::{ExposeSecret, SecretString};
use std::fs;
use std::time::Duration;
use tempfile::TempDir;

mod alerts;
mod triggers;

/// The files of one test, in a folder of their own.
struct Files(TempDir);

impl Files {
    fn new(server: &str) -> Self {
        Self(TempDir::new().unwrap()).with("server.toml", server).with("a.toml", "[actor]\nname = \"a\"\n")
    }

    fn with(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.0.path().join(path), content).unwrap();
        self
    }

    fn given(&self) -> Given {
        Given { config: self.0.path().join("server.toml"), database_url: None, discord_token: None }
    }

    fn load(&self) -> Result<LoadedConfig, Problems> {
        load(&self.given(), &environment, &|_: &ActorFile, _: &SecretString| Vec::new())
    }

    fn loaded(&self) -> LoadedConfig {
        self.load().unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// What would be printed, without the folder's name.
    fn problems(&self) -> String {
        self.shown(&self.load().expect_err("a problem"))
    }

    fn shown(&self, problems: &Problems) -> String {
        let mut text = String::new();
        for problem in &problems.0 {
            text.push_str(&format!("{problem}\n"));
            if let Some(hint) = &problem.hint {
                text.push_str(&format!("hint: {hint}\n"));
            }
        }
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn environment(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some("hunter2hunter2".to_owned()),
        "ZONE" => Some("Europe/Berlin".to_owned()),
        _ => None,
    }
}

/// One task, with these keys beside the usual ones, and a schedule.
fn task(keys: &str) -> String {
    let schedule = "[actors.schedule]\ntype = \"Interval\"\nseconds = 60\n";
    format!("[[actors]]\nname = \"t\"\nconfig_file = \"a.toml\"\n{keys}\n{schedule}")
}

fn with_schedule(schedule: &str) -> String {
    format!("[[actors]]\nname = \"t\"\nconfig_file = \"a.toml\"\n[actors.schedule]\n{schedule}\n")
}

#[test]
fn a_small_file_has_all_defaults() {
    let files = Files::new(&task(""));
    let config = files.loaded();
    assert_eq!(config.settings, ServerSettings::default());
    assert_eq!(config.settings.check_interval, Duration::from_secs(60));
    assert_eq!(config.settings.history_retention, Some(Duration::from_secs(90 * 86_400)));
    assert_eq!(config.database_url.expose_secret(), "sqlite://actor_server.db");
    assert!(config.warnings.is_empty());
    let [task] = config.tasks.as_slice() else { panic!("{:?}", config.tasks) };
    assert_eq!((task.id.as_str(), task.actor_name.as_str(), task.enabled), ("t", "a", true));
    assert_eq!(task.destinations[0].to_string(), "console:stdout");
    assert_eq!(task.policy, botticelli_server::task::TaskPolicy::default());
    assert!(matches!(task.schedule, ScheduleType::Interval(_)));
}

#[test]
fn every_key_is_taken() {
    let files = Files::new(&format!(
        "[server]\ncheck_interval_seconds = 7\nmax_consecutive_failures = 2\nmax_concurrent_executions = 3\n\
         shutdown_grace_seconds = 0\nlease_seconds = 5\nhistory_retention_days = 0\nbackoff_initial_seconds = 2\n\
         backoff_max_seconds = 9\n\
         [database]\nurl = \"postgres://db/x\"\n{}",
        task(
            "platform = \"file\"\ndestination = \"out/posts.jsonl\"\nenabled = false\ncatch_up = \"all\"\n\
             catch_up_limit = 4\noverlap = \"queue_one\"\njitter_seconds = 5\nmisfire_grace_seconds = 6\n\
             timeout_seconds = 7\nmax_attempts = 8\nmax_consecutive_failures = 9\ncooldown_seconds = 10\n\
             backoff_initial_seconds = 1\nbackoff_max_seconds = 3\non_unknown = \"at_most_once\""
        )
    ));
    let config = files.loaded();
    assert_eq!(config.settings.check_interval, Duration::from_secs(7));
    assert_eq!(config.settings.max_consecutive_failures.get(), 2);
    assert_eq!(config.settings.max_concurrent_executions.get(), 3);
    assert_eq!(config.settings.shutdown_grace, Duration::ZERO);
    assert_eq!(config.settings.lease, Duration::from_secs(5));
    assert_eq!(config.settings.history_retention, None);
    assert_eq!(config.database_url.expose_secret(), "postgres://db/x");
    let task = &config.tasks[0];
    assert_eq!(task.destinations[0].target, files.0.path().join("out/posts.jsonl").display().to_string());
    assert!(!task.enabled);
    let policy = &task.policy;
    assert!(matches!(policy.catch_up, CatchUp::All { limit } if limit.get() == 4));
    assert_eq!(policy.overlap, Overlap::QueueOne);
    assert_eq!(policy.jitter, Duration::from_secs(5));
    assert_eq!(policy.misfire_grace, Some(Duration::from_secs(6)));
    assert_eq!(policy.timeout, Duration::from_secs(7));
    assert_eq!((policy.max_attempts.get(), policy.max_consecutive_failures.get()), (8, 9));
    assert_eq!(policy.cooldown, Some(Duration::from_secs(10)));
    assert_eq!((policy.backoff.initial.as_secs(), policy.backoff.max.as_secs()), (1, 3));
    assert_eq!(policy.on_unknown, OnUnknown::AtMostOnce);
}

#[test]
fn the_actor_and_the_server_say_what_a_task_does_not() {
    let files = Files::new(&format!(
        "[server]\nmax_consecutive_failures = 7\nbackoff_initial_seconds = 11\n{}",
        task("")
    ))
    .with("a.toml", "[actor]\nname = \"a\"\n[execution]\ntimeout_seconds = 44\n");
    let policy = &files.loaded().tasks[0].policy;
    assert_eq!(policy.max_consecutive_failures.get(), 7);
    assert_eq!(policy.backoff.initial, Duration::from_secs(11));
    assert_eq!(policy.timeout, Duration::from_secs(44));
}

#[test]
fn the_command_line_wins_over_the_file() {
    let files = Files::new(&format!(
        "discord_token = \"from the file\"\n[database]\nurl = \"sqlite://f\"\n{}",
        task("")
    ));
    let config = load(
        &Given {
            database_url: Some("postgres://flag".into()),
            discord_token: Some("flag-token".into()),
            ..files.given()
        },
        &environment,
        &|_: &ActorFile, _: &SecretString| Vec::new(),
    )
    .unwrap();
    assert_eq!(config.database_url.expose_secret(), "postgres://flag");
    assert_eq!(config.discord_token.unwrap().expose_secret(), "flag-token");
}

#[test]
fn a_token_in_the_file_is_taken_with_a_warning() {
    let files = Files::new(&format!("discord_token = \"s3cret-token\"\n{}", task("")));
    let config = files.loaded();
    assert_eq!(config.warnings.len(), 1);
    assert!(
        config.warnings[0].contains("set the environment variable DISCORD_TOKEN"),
        "{:?}",
        config.warnings
    );
    assert!(!format!("{config:?}").contains("s3cret"));
    assert_eq!(config.discord_token.unwrap().expose_secret(), "s3cret-token");
}

#[test]
fn webhooks_without_an_api_are_warned_about() {
    let webhook = "[[actors.triggers]]\ntype = \"webhook\"\nname = \"builds\"\n";
    let warnings =
        |api: &str, keys: &str| Files::new(&format!("{api}{}{webhook}", task(keys))).loaded().warnings;
    let [warning] = &warnings("[api]\nenabled = false\n", "")[..] else { panic!("no warning") };
    assert!(warning.contains("for the webhook \"builds\": [api] has `enabled = false`"), "{warning}");
    assert_eq!(warnings("", ""), [""; 0]);
    assert_eq!(
        warnings("[api]\nenabled = false\n", "enabled = false"),
        [""; 0],
        "a task that is off has none"
    );
    assert_eq!(Files::new(&format!("[api]\nenabled = false\n{}", task(""))).loaded().warnings, [""; 0]);
}

#[test]
fn keys_without_effect_are_warned_about() {
    let warning = |server: &str| {
        let config = Files::new(server).loaded();
        let [warning] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
        warning.split_once("server.toml: ").unwrap().1.to_owned()
    };
    assert_eq!(
        warning(&task("catch_up_limit = 3")),
        "task \"t\": catch_up_limit has no effect without catch_up = \"all\""
    );
    assert_eq!(warning(""), "there are no [[actors]] entries: there is nothing to run");
}

#[test]
fn all_problems_of_all_files_come_in_one_run() {
    let files = Files::new(
        r#"[server]
chek_interval_seconds = 5
max_concurrent_executions = 0
[[actors]]
name = "daily"
config_file = "bad.toml"
overlap = "sometimes"
jitter_seconds = -1
[actors.schedule]
type = "Cron"
timezone = "Europe/Berlin"
expression = "0 0 25 * * * *"
[[actors]]
name = "daily"
config_file = "gone.toml"
schedule = { type = "Immediate", every_start = true }
[[actors]]
nam = "x"
config_file = "bad.toml"
"#,
    )
    .with(
        "bad.toml",
        "[actor]\nname = \"bad\"\ncolor = 1\n\n[execution]\nmax_retries = 99\n[[skills]]\nenabled = 3\n",
    );
    assert_eq!(
        files.problems(),
        r#"server.toml:2: server.chek_interval_seconds is not a known key
hint: did you mean "check_interval_seconds"?
server.toml:3: server.max_concurrent_executions is 0 (allowed: a whole number, 1-1000)
server.toml:8: task "daily": jitter_seconds is -1 (allowed: a whole number, 0-86400)
server.toml:7: task "daily": overlap is "sometimes" (allowed: "skip", "queue_one", "allow")
server.toml:12: task "daily": cron expression "0 0 25 * * * *" has hour 25 (allowed: 0-23)
hint: 7 fields: sec min hour day-of-month month day-of-week year; `actor-server next --cron "0 0 9 * * * *"` shows what one means
bad.toml:3: actor "bad": actor.color is not a known key
hint: known keys: name, description
bad.toml:6: actor "bad": execution.max_retries is 99 (allowed: a whole number, 0-20)
bad.toml:8: actor "bad": skills[0]: enabled is 3 (allowed: a boolean)
bad.toml:7: actor "bad": skills[0]: name is missing
server.toml:14: task "daily": another task in line 5 has the same name
hint: the history of a task is kept under its name
server.toml:15: task "daily": config_file "gone.toml" is not there
hint: looked for gone.toml and, from the working directory, gone.toml
server.toml:18: actors[2]: nam is not a known key
hint: did you mean "name"?
server.toml:17: actors[2]: name is missing
server.toml:17: actors[2]: schedule is missing
"#
    );
}

#[test]
fn one_wrong_key_hides_no_other_problem_of_its_table() {
    let files = Files::new(
        r#"[server]
lease_seconds = 1
backoff_initial_seconds = 20
backoff_max_seconds = 10
[database]
url = "mysql://x"
[[actors]]
name = "t"
config_file = "a.toml"
platform = "file"
jitter_seconds = -1
[actors.schedule]
type = "Cron"
expression = "0 0 25 * * * *"
timezone = "Mars/Olympus"
[[actors]]
schedule = { type = "Once", timezone = "Mars/Olympus", ad = 1 }
"#,
    )
    .with(
        "a.toml",
        r#"[actor]
name = "a"
[[knowledge]]
name = "one"
type = 7
[[knowledge]]
name = "two"
type = "inline"
items = 3
[[knowledge]]
name = "two"
type = "inline"
items = []
[[skills]]
name = "content_selection"
source = "three"
limit = "x"
[[skills]]
source = "four"
"#,
    );
    let check = |file: &ActorFile, _: &SecretString| {
        PipelineActor::build(file, &SkillRegistry::standard(), "sqlite://x").err().unwrap_or_default()
    };
    let problems = load(&files.given(), &environment, &check).expect_err("problems");
    insta::assert_snapshot!(files.shown(&problems));
}

#[test]
fn wrong_schedules_are_explained_at_their_key() {
    let said = |schedule: &str| Files::new(&with_schedule(schedule)).problems();
    assert_eq!(
        said("type = \"Interval\"\nseconds = 0"),
        "server.toml:6: task \"t\": interval has seconds = 0 (allowed: 1-316224000)\n\
         hint: for a time of day, a week or a month take type = \"Cron\"\n"
    );
    assert_eq!(
        said("type = \"Cron\"\nexpression = \"@daily\"\ntimezone = \"Europe/Berln\""),
        "server.toml:7: task \"t\": timezone \"Europe/Berln\" is not known (allowed: IANA names such as \
         \"Europe/Berlin\", or \"UTC\")\n"
    );
    assert_eq!(
        said("type = \"Once\"\nat = 2026-01-01T00:00:00"),
        "server.toml:6: task \"t\": once has at = \"2026-01-01T00:00:00\" without an offset (allowed: an offset, such \
         as 2026-01-01T00:00:00Z, or a `timezone`)\nhint: timezone = \"Europe/Berlin\" makes it Berlin's wall clock\n"
    );
    assert_eq!(
        said("type = \"Cronn\""),
        "server.toml:5: task \"t\": schedule.type is \"Cronn\" (allowed: \"Cron\", \"Interval\", \"Once\", \
         \"Immediate\", \"Event\")\nhint: did you mean \"Cron\"?\n"
    );
    assert_eq!(
        said("type = \"Interval\"\nsecond = 5"),
        "server.toml:6: task \"t\": schedule.second is not a known key\nhint: did you mean \"seconds\"?\n\
         server.toml:4: task \"t\": schedule.seconds is missing\n"
    );
    assert_eq!(
        said("type = \"Interval\"\nseconds = \"5m\""),
        "server.toml:6: task \"t\": schedule.seconds is \"5m\" (allowed: a whole number, 1-316224000)\n"
    );
    assert_eq!(
        said("type = \"Interval\"\nseconds = 99999999999999999999"),
        "server.toml:6: task \"t\": schedule.seconds is 99999999999999999999 (allowed: a whole number, 1-316224000)\n"
    );
    assert_eq!(
        said("type = \"Cron\"\nexpression = \"@daily\"\nfold = \"secnd\""),
        "server.toml:7: task \"t\": schedule.fold is \"secnd\" (allowed: \"first\", \"second\", \"both\")\n\
         hint: did you mean \"second\"?\n"
    );
    assert_eq!(said("seconds = 5"), "server.toml:4: task \"t\": schedule.type is missing\n");
}

#[test]
fn a_time_may_stand_in_toml_s_own_form() {
    let config = Files::new(&with_schedule("type = \"Once\"\nat = 2026-01-01T12:00:00+01:00")).loaded();
    assert_eq!(
        config.tasks[0].schedule.first_occurrence(chrono::DateTime::UNIX_EPOCH),
        Some("2026-01-01T11:00:00Z".parse().unwrap())
    );
}

#[test]
fn wrong_destinations_are_explained() {
    let said = |keys: &str| Files::new(&task(keys)).problems();
    assert_eq!(
        said("platform = \"file\""),
        "server.toml:4: task \"t\": platform = \"file\" needs a destination: the file that posts are appended to\n\
         hint: destination = \"posts.jsonl\"\n"
    );
    assert_eq!(
        said("destination = \"posts.jsonl\""),
        "server.toml:4: task \"t\": destination is \"posts.jsonl\" (allowed with platform = \"console\": \"stdout\")\n\
         hint: platform = \"file\" appends posts to a file\n"
    );
    assert_eq!(
        said("platform = \"flie\""),
        "server.toml:4: task \"t\": platform is \"flie\" (allowed: \"console\", \"file\", \"discord\", \"discord_webhook\")\n\
         hint: did you mean \"file\"?\n"
    );
    assert_eq!(
        said("channel_id = 123\nplatform = \"console\""),
        "server.toml:4: task \"t\": channel_id is 123 (allowed: a string)\n"
    );
}

/// A configuration with two webhooks.
fn with_webhooks(keys: &str) -> String {
    let url = "https://discord.com/api/webhooks/12/s3cret";
    format!("[discord.webhooks]\nherald = \"{url}\"\nnews = \"{url}\"\n{}", task(keys))
}

#[cfg(feature = "discord")]
#[test]
fn a_task_may_post_to_several_places() {
    let files = Files::new(&with_webhooks(
        "destinations = [{ channel_id = \"1300000000000000100\" }, { platform = \"file\", destination = \"p.jsonl\" },\n\
         { platform = \"discord_webhook\", destination = \"herald\" }, {}]",
    ));
    let config = files.loaded();
    let places: Vec<String> = config.tasks[0].destinations.iter().map(ToString::to_string).collect();
    let file = format!("file:{}", files.0.path().join("p.jsonl").display());
    assert_eq!(places, ["discord:1300000000000000100", &file, "discord_webhook:herald", "console:stdout"]);
}

#[cfg(feature = "discord")]
#[test]
fn wrong_places_on_discord_are_explained() {
    let said = |keys: &str| Files::new(&with_webhooks(keys)).problems();
    let channel_hint = "hint: channel_id = \"1234567890123456789\": in Discord switch on User Settings, Advanced, \
                        Developer Mode; then right click on the channel, Copy Channel ID\n";
    let webhook_hint = "hint: [discord.webhooks] herald = \"${HERALD_URL}\", and destination = \"herald\"\n";
    assert_eq!(
        said("channel_id = \"#general\""),
        format!(
            "server.toml:7: task \"t\": channel_id: \"#general\" is no id of Discord's: those are numbers of 17 to 20 \
             digits\n{channel_hint}"
        )
    );
    assert_eq!(
        said("platform = \"discord\""),
        format!("server.toml:7: task \"t\": platform = \"discord\" needs a channel_id\n{channel_hint}")
    );
    assert_eq!(
        said("channel_id = \"1\"\ndestination = \"2\""),
        "server.toml:8: task \"t\": channel_id and destination are both given\n\
         hint: the channel's id is all that Discord needs\n"
    );
    assert_eq!(
        said("platform = \"discord_webhook\"\ndestination = \"hearld\""),
        "server.toml:8: task \"t\": destination: unknown webhook \"hearld\"\n\
         hint: did you mean \"herald\"? (known: herald, news)\n"
    );
    assert_eq!(
        said("platform = \"discord_webhook\"\ndestination = \"https://discord.com/api/webhooks/12/s3cret\""),
        format!(
            "server.toml:8: task \"t\": destination is a URL, which is not shown here (allowed: the webhook's \
             name)\n{webhook_hint}"
        )
    );
    assert_eq!(
        said("platform = \"discord_webhook\""),
        format!(
            "server.toml:7: task \"t\": platform = \"discord_webhook\" needs a destination: the webhook's \
             name\n{webhook_hint}"
        )
    );
}

#[cfg(feature = "discord")]
#[test]
fn wrong_addresses_of_discord_are_explained_and_not_shown() {
    let said = |section: &str| Files::new(&format!("[discord]\n{section}\n{}", task(""))).problems();
    assert_eq!(
        said("api_base_url = \"https://me:s3cret@proxy\""),
        "server.toml:2: discord.api_base_url has more than a host and a path\n\
         hint: such as https://discord.com/api/v10\n"
    );
    assert_eq!(
        said("[discord.webhooks]\nherald = \"https://example.org/s3cret\""),
        "server.toml:3: discord.webhooks.herald: the webhook's URL does not begin with https://discord.com/\n\
         hint: copy it in Discord: Edit Channel, Integrations, Webhooks, Copy Webhook URL; keep it in an environment \
         variable\n"
    );
    assert_eq!(
        said("webhooks = \"https://discord.com/api/webhooks/12/s3cret\""),
        "server.toml:2: discord.webhooks: a webhook needs a name (allowed: a table, [discord.webhooks] name = \
         \"${URL}\")\n"
    );
    let environment = |name: &str| (name == "DISCORD_API_BASE_URL").then(|| "me:s3cret".to_owned());
    let files = Files::new(&task(""));
    let check = |_: &ActorFile, _: &SecretString| Vec::new();
    let given = Given { discord_token: Some("two words".into()), ..files.given() };
    assert_eq!(
        files.shown(&load(&given, &environment, &check).unwrap_err()),
        "DISCORD_TOKEN (or --discord-token): the Discord token has characters that no token has\n\
         hint: copy it from the Bot page of https://discord.com/developers/applications\n\
         environment: DISCORD_API_BASE_URL does not begin with https:// or http:// and a host\n\
         hint: such as https://discord.com/api/v10\n"
    );
}

#[cfg(feature = "discord")]
#[test]
fn how_discord_is_reached_can_be_set_and_the_environment_wins() {
    let section = "[discord]\napi_base_url = \"http://file/api\"\nconnect_timeout_seconds = 1\n\
                   request_timeout_seconds = 2\nnonce_window_seconds = 3\nhistory_grace_seconds = 0\n";
    let files = Files::new(&format!("{section}{}", with_webhooks("")));
    let discord = files.loaded().discord;
    assert_eq!(discord.api_base_url, "http://file/api");
    let times =
        [discord.connect_timeout, discord.request_timeout, discord.nonce_window, discord.history_grace];
    assert_eq!(times.map(|time| time.as_secs()), [1, 2, 3, 0]);
    assert_eq!(discord.webhooks.0.len(), 2);
    assert!(!format!("{discord:?}").contains("s3cret"));
    let environment = |name: &str| (name == "DISCORD_API_BASE_URL").then(|| "http://env/api".to_owned());
    let check = |_: &ActorFile, _: &SecretString| Vec::new();
    let config = load(&files.given(), &environment, &check).unwrap();
    assert_eq!(config.discord.api_base_url, "http://env/api");
}

#[cfg(feature = "discord")]
#[test]
fn without_a_token_enabled_tasks_of_the_bot_are_named_each_once() {
    let both = "destinations = [{ channel_id = \"1\" }, { channel_id = \"2\" }]";
    let not_enabled = task("channel_id = \"3\"\nenabled = false").replace("\"t\"", "\"off\"");
    let webhook = task("platform = \"discord_webhook\"\ndestination = \"news\"").replace("\"t\"", "\"w\"");
    let files = Files::new(&format!("{}{not_enabled}{webhook}", with_webhooks(both)));
    let config = files.loaded();
    let [(task, problem)] = config.without_token().try_into().expect("one task");
    assert_eq!(task.as_str(), "t");
    assert_eq!(
        files.shown(&problem.into()),
        "server.toml:7: task \"t\": it posts to Discord, and there is no token\n\
         hint: set the environment variable DISCORD_TOKEN; --allow-degraded runs the other tasks without it\n"
    );
    let with_token = LoadedConfig { discord_token: Some("token".into()), ..config };
    assert!(with_token.without_token().is_empty());
}

#[test]
fn wrong_lists_of_places_are_explained() {
    let said = |keys: &str| Files::new(&task(keys)).problems();
    assert_eq!(
        said("platform = \"console\"\ndestinations = [{ platform = \"console\" }]"),
        "server.toml:4: task \"t\": destinations and platform are both given\nhint: move it into destinations\n"
    );
    assert_eq!(
        said("destinations = []"),
        "server.toml:4: task \"t\": destinations is empty\nhint: destinations = [{ platform = \"console\" }]\n"
    );
    assert_eq!(
        said("destinations = [{ platform = \"file\" },\n{},\n{ platform = \"console\" }]"),
        "server.toml:4: task \"t\": destinations[0]: platform = \"file\" needs a destination: the file that posts are \
         appended to\nhint: destination = \"posts.jsonl\"\n\
         server.toml:6: task \"t\": destinations[2] is the same place as destinations[1]\n\
         hint: each place gets each post once\n"
    );
    assert_eq!(
        said("destinations = [{ platfrom = \"file\" }]"),
        "server.toml:4: task \"t\": destinations[0].platfrom is not a known key\nhint: did you mean \"platform\"?\n"
    );
    assert_eq!(
        said("channel_id = \"1\"\nplatform = \"console\""),
        "server.toml:4: task \"t\": channel_id goes with platform = \"discord\", not with \"console\"\n\
         hint: leave one of the two out\n"
    );
}

#[cfg(not(feature = "discord"))]
#[test]
fn a_build_without_discord_says_so() {
    let what = "this program was built without Discord\nhint: build it with the cargo feature `discord`; the platforms \
                console and file are there without it\n";
    let said = |server: &str| Files::new(server).problems();
    assert_eq!(
        said(&task("channel_id = \"1\"")),
        format!("server.toml:4: task \"t\": platform \"discord\": {what}")
    );
    assert_eq!(
        said(&with_webhooks("platform = \"discord_webhook\"\ndestination = \"herald\"")),
        format!(
            "server.toml:1: discord: {what}server.toml:8: task \"t\": platform \"discord_webhook\": {what}"
        )
    );
}

#[test]
fn wrong_names_and_waits_are_explained() {
    let said = |server: &str| Files::new(server).problems();
    assert_eq!(
        said(&task("").replace("\"t\"", "\" t\"")),
        "server.toml:2: task \" t\": name: task name \" t\" begins or ends with a space\n"
    );
    assert_eq!(
        said(&task("backoff_initial_seconds = 1000")),
        "server.toml:4: task \"t\": the first wait after a failure is 1000 seconds, the longest 900\n\
         hint: backoff_initial_seconds may not be more than backoff_max_seconds\n"
    );
    assert_eq!(
        said(&format!("[server]\nbackoff_max_seconds = 1\n{}", task(""))),
        "server.toml:1: the first wait after a failure is 5 seconds, the longest 1\n\
         hint: backoff_initial_seconds may not be more than backoff_max_seconds\n"
    );
    assert_eq!(
        said("[actors]\nname = \"t\""),
        "server.toml:1: actors is a table (allowed: an array)\nhint: write [[actors]], with two brackets\n"
    );
}

#[test]
fn one_actor_file_serves_many_tasks_and_two_files_need_two_names() {
    let both = format!("{}{}", task(""), task("").replace("\"t\"", "\"u\"").replace("a.toml", "./a.toml"));
    let config = Files::new(&both).loaded();
    assert_eq!((config.tasks.len(), config.actors.len()), (2, 1));

    let other = both.replacen("a.toml", "b.toml", 1).replace("./", "");
    assert_eq!(
        Files::new(&other).with("b.toml", "[actor]\nname = \"a\"\n").problems(),
        "b.toml:2: actor \"a\": a.toml has the same name\n\
         hint: several tasks may share one actor file; two files need two names\n"
    );
}

#[test]
fn files_that_can_not_be_read_are_explained() {
    let said = |content: &[u8]| Files::new("").with("server.toml", content).problems();
    assert_eq!(
        said(b"[server]\n# caf\xe9\n"),
        "server.toml:2: the file is not UTF-8 text: byte 15 can't be read\n"
    );
    assert_eq!(said(&vec![b'#'; 32 * 1024 * 1024 + 1]), "server.toml: the file is longer than 32 MiB\n");
    assert_eq!(
        said(b"[server]\ncheck_interval_seconds = \n"),
        "server.toml:2: this is not TOML: string values must be quoted, expected literal string\n"
    );
    assert_eq!(said(b"[server]\n[server]\n"), "server.toml:2: this is not TOML: duplicate key\n");

    let files = Files::new("");
    let at = |config: &str| Given { config: files.0.path().join(config), ..files.given() };
    let problems = |given: Given| {
        files.shown(&load(&given, &environment, &|_: &ActorFile, _: &SecretString| Vec::new()).unwrap_err())
    };
    assert_eq!(
        problems(at("nothing.toml")),
        "nothing.toml: there is no such file\n\
         hint: --config FILE names another file; examples/actor_server.toml is one to start from\n"
    );
    assert_eq!(
        problems(at("server.toml/")),
        "server.toml/: the file can't be read: Not a directory (os error 20)\n"
    );
    fs::create_dir(files.0.path().join("folder")).unwrap();
    assert_eq!(problems(at("folder")), "folder: this is a directory, not a file\n");
}

#[test]
fn the_same_holds_for_actor_files() {
    let said = |content: &[u8]| Files::new(&task("")).with("a.toml", content).problems();
    assert_eq!(said(b"\xff"), "a.toml:1: the file is not UTF-8 text: byte 1 can't be read\n");
    assert_eq!(said(b""), "a.toml: actor is missing\n");
    assert_eq!(said(b"[actor]"), "a.toml:1: actor.name is missing\n");
    assert_eq!(
        said(b"actor = 1\nskills = [1]"),
        "a.toml:1: actor is 1 (allowed: a table)\na.toml:2: skills[0] is 1 (allowed: a table)\n"
    );
}

#[test]
fn an_empty_name_of_an_actor_file_is_said() {
    assert_eq!(
        Files::new(&task("").replace("a.toml", "")).problems(),
        "server.toml:3: task \"t\": config_file is empty\n\
         hint: it names the file of the actor, for example \"actors/daily_poster.toml\"\n"
    );
}

#[test]
fn variables_are_put_in_and_a_missing_one_is_named_once() {
    let schedule = with_schedule("type = \"Cron\"\nexpression = \"@daily\"\ntimezone = \"${ZONE}\"");
    assert_eq!(Files::new(&schedule).loaded().tasks[0].schedule.timezone(), "Europe/Berlin");
    assert_eq!(
        Files::new(&format!("[database]\nurl = \"${{NOT_SET}}\"\n{}", task(""))).problems(),
        "server.toml:2: database.url needs the environment variable NOT_SET, which is not set\n"
    );
}

#[test]
fn secrets_do_not_show_in_problems() {
    let said = [
        Files::new(&task("platform = \"${SECRET}\"")).problems(),
        Files::new(&task(""))
            .with("a.toml", "[actor]\nname = \"a\"\n[cache]\nstrategy = \"x${SECRET}\"")
            .problems(),
        Files::new(&task(&format!("jitter_seconds = \"{}${{SECRET}}\"", "x".repeat(570)))).problems(),
        Files::new(&format!("[database]\nurl = \"mysql://user:hunter2hunter2@host\"\n{}", task("")))
            .problems(),
        Files::new(&format!("[database]\nurl = \"hunter2hunter2\"\n{}", task(""))).problems(),
        Files::new("discord_token = [\"hunter2hunter2\"]").problems(),
    ];
    for said in &said {
        assert!(!said.contains("hunter2"), "{said}");
    }
    assert!(said[0].contains("platform is \"${SECRET}\" (allowed:"), "{}", said[0]);
    assert_eq!(
        said[3],
        "server.toml:2: database.url has the scheme \"mysql\" (allowed: sqlite, postgres)\n\
         hint: such as sqlite://actor_server.db or postgres://user@host/database\n"
    );
}

#[test]
fn what_the_skills_refuse_is_reported_at_its_line() {
    let files = Files::new(&task("")).with(
        "a.toml",
        "[actor]\nname = \"a\"\n[[skills]]\nname = \"formatter\"\n\n[skills.limits]\nlenght = 3\n",
    );
    let check = |file: &ActorFile, _: &SecretString| {
        assert_eq!(file.skills[0].settings["limits"]["lenght"].as_integer(), Some(3));
        let fault = Fault::new("limits", "limits.lenght is not a known key").hint("did you mean \"length\"?");
        vec![
            Fault { path: KeyPath::from("limits").key("lenght"), ..fault }
                .within(KeyPath::entry("skills", 0)),
        ]
    };
    let problems = load(&files.given(), &environment, &check).unwrap_err();
    assert_eq!(
        files.shown(&problems),
        "a.toml:7: actor \"a\": limits.lenght is not a known key\nhint: did you mean \"length\"?\n"
    );
}

#[test]
fn a_number_beyond_all_bounds_is_one_problem_among_the_others() {
    let files = Files::new(
        "[server]\ncheck_interval_seconds = 99999999999999999999\nlease_seconds = -9223372036854775809\nchek_interval_seconds = 1\n\
         [[actors]]\nname = \"t\"\nconfig_file = \"a.toml\"\n\
         schedule = { type = \"Interval\", seconds = 10000000000000000000 }\n",
    );
    assert_eq!(
        files.problems(),
        "server.toml:2: server.check_interval_seconds is 99999999999999999999 (allowed: a whole number, 1-3600)\n\
         server.toml:4: server.chek_interval_seconds is not a known key\n\
         hint: did you mean \"check_interval_seconds\"?\n\
         server.toml:3: server.lease_seconds is -9223372036854775809 (allowed: a whole number, 2-600)\n\
         server.toml:8: task \"t\": schedule.seconds is 10000000000000000000 (allowed: a whole number, 1-316224000)\n"
    );
}

#[test]
fn the_same_definition_has_the_same_hash_wherever_it_is() {
    let hash = |files: &Files| files.loaded().tasks[0].definition.clone();
    let one = Files::new(&task(""));
    assert_eq!(hash(&one), hash(&Files::new(&format!("# elsewhere\n{}", task("")))));
    assert_eq!(
        hash(&one),
        hash(&Files::new(&task("").replace("a.toml", "b.toml")).with("b.toml", "[actor]\nname = \"a\"\n"))
    );
    assert_ne!(hash(&one), hash(&Files::new(&task("jitter_seconds = 1"))));
    assert_ne!(hash(&one), hash(&Files::new(&task("")).with("a.toml", "[actor]\nname = \"b\"\n")));
}
