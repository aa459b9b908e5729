//! The program, and its README.

use crate::support::Http;
use discord_double::{Entry, Id, Scenario, standard};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_discord-double");
const README: &str = include_str!("../../README.md");

/// A running program, which does not outlive its test.
struct Running {
    child: Child,
    about: Value,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child =
            Command::new(PROGRAM).args(arguments).stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let about = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { child, about }
    }

    fn bot(&self) -> Http {
        Http::new(self.about["base_url"].as_str().expect("a URL"), standard::TOKEN)
    }

    fn control(&self) -> Http {
        Http::new(self.about["control_url"].as_str().expect("a URL"), "")
    }

    fn signal(&mut self, signal: &str) -> Option<i32> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill is there");
        assert!(sent.success());
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, and that is fine.
        if self.child.kill().is_ok() {
            self.child.wait().expect("it ends");
        }
    }
}

fn failing(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(PROGRAM).args(arguments).output().expect("the program runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn general() -> String {
    format!("/channels/{}/messages", standard::GENERAL)
}

fn entries(path: &Path) -> Vec<Entry> {
    let text = fs::read_to_string(path).expect("the ledger is there");
    text.lines().map(|line| serde_json::from_str(line).expect("an entry")).collect()
}

#[test]
fn it_answers_within_100_milliseconds_of_its_start() {
    // The machine may be busy with other tests: one of ten must be undisturbed.
    let mut times = (0..10).map(|_| {
        let begin = Instant::now();
        let running = Running::start(&[]);
        let took = begin.elapsed();
        drop(running);
        took
    });
    assert!(times.any(|took| took < Duration::from_millis(100)));
}

#[test]
fn sigterm_and_sigint_stop_it_with_exit_code_0() {
    for signal in ["-TERM", "-INT"] {
        assert_eq!(Running::start(&[]).signal(signal), Some(0), "{signal}");
    }
}

#[tokio::test]
async fn the_ledger_file_survives_a_kill_and_goes_on_afterwards() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.jsonl");
    let file = path.to_str().expect("a name");
    let mut running = Running::start(&["--ledger", file]);
    let posted = running.bot().post(&general(), json!({"content": "one"})).await;
    assert_eq!(running.signal("-KILL"), None);
    assert_eq!(entries(&path).len(), 1);
    // A line that was cut off by a worse crash is not an entry.
    let whole = fs::read_to_string(&path).expect("it is there");
    fs::write(&path, format!("{whole}{{\"seq\": 2, \"at\"")).expect("it can be written");
    let running = Running::start(&["--ledger", file]);
    running.bot().post(&general(), json!({"content": "two"})).await;
    let entries = entries(&path);
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(entries[0].message_id.to_string(), posted.json["id"]);
    let visible = running.control().get("/visible").await;
    assert_eq!(visible.json.as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn the_control_server_tells_and_is_told() {
    let running = Running::start(&["--seed", "3"]);
    let (bot, control) = (running.bot(), running.control());
    assert_eq!(control.get("/").await.json, running.about);
    let fault =
        json!({"what": {"type": "fail_after_commit", "status": 502}, "when": {"route": "create_message"}});
    assert_eq!(control.post("/faults", fault).await.status, 204);
    assert_eq!(control.get("/faults").await.json[0]["times"], 1);
    assert_eq!(bot.post(&general(), json!({"content": "<@5> hi", "nonce": "n"})).await.status, 502);
    let visible = control.get(&format!("/visible?channel={}", standard::GENERAL)).await;
    assert_eq!(visible.json[0]["content"], "<@5> hi");
    assert_eq!((&visible.json[0]["pings"]["users"], &visible.json[0]["nonce"]), (&json!(["5"]), &json!("n")));
    let ledger = control.get("/ledger").await;
    assert_eq!((&ledger.json[0]["event"], &ledger.json[0]["request"]), (&json!("created"), &json!(1)));
    assert_eq!(control.get("/ledger?after=1").await.json, json!([]));
    let requests = control.get("/requests").await;
    assert_eq!(
        (&requests.json[0]["fault"], &requests.json[0]["status"]),
        (&json!("fail_after_commit"), &json!(200))
    );

    let change =
        json!([{"type": "revoke_token", "token": standard::TOKEN}, {"type": "advance_clock", "millis": 5}]);
    assert_eq!(control.post("/world", change).await.status, 204);
    assert_eq!(bot.post(&general(), json!({"content": "x"})).await.status, 401);
    assert_eq!(control.get("/invalid-requests").await.json["total"], 1);
    let wrong = control.post("/world", json!({"type": "delete_channel", "channel": "9"})).await;
    assert_eq!((wrong.status, &wrong.json["error"]), (422, &json!("channel 9 does not exist")));
    let wrong = control.post("/faults", json!({"what": {"type": "ban"}, "when": {"route": "nowhere"}})).await;
    assert_eq!(wrong.status, 422);

    let mut settings = control.get("/settings").await.json;
    settings["nonce"]["window_seconds"] = json!(1.5);
    assert_eq!(control.send("PUT", "/settings", Some(settings)).await.expect("a reply").status, 204);
    assert_eq!(control.get("/settings").await.json["nonce"]["window_seconds"], 1.5);
    control.post("/faults", json!([{"what": {"type": "drop_reply"}}, {"what": {"type": "ban"}}])).await;
    assert_eq!(control.delete("/faults").await.status, 204);
    assert_eq!(control.get("/faults").await.json, json!([]));
}

#[tokio::test]
async fn a_scenario_makes_the_world_and_its_bad_luck() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("scenario.toml");
    let text = README.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    // The storm would make this test one of luck.
    let text = text.expect("the README shows one").replace("storm = 0.02", "storm = 0.0");
    fs::write(&path, text.replace("probability = 0.1", "probability = 0.0")).expect("it can be written");
    let running = Running::start(&["--scenario", path.to_str().expect("a name")]);
    assert_eq!(running.about["bot_tokens"], json!(["secret"]));
    let bot = Http::new(running.about["base_url"].as_str().expect("a URL"), "secret");
    let mut statuses = Vec::new();
    for n in 0..3 {
        statuses.push(bot.post("/channels/2000/messages", json!({"content": n.to_string()})).await.status);
    }
    assert_eq!(statuses, [200, 200, 502]);
    assert_eq!(running.control().get("/visible").await.json.as_array().map(Vec::len), Some(3));
}

#[test]
fn a_scenario_can_be_json_and_what_is_wrong_in_it_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("scenario.json");
    let name = path.to_str().expect("a name");
    let write = |text: Value| fs::write(&path, text.to_string()).expect("it can be written");
    let pins = json!({"limits": {"buckets": {"pins": {"limit": 1, "window_ms": 1}}}});
    write(
        json!({"seed": 5, "settings": pins, "guilds": [{"id": "77", "name": "g", "everyone": ["VIEW_CHANNEL"]}]}),
    );
    let options = Scenario::read(&path).expect("it is right").options();
    assert_eq!(options.settings.limits.buckets.len(), 9);
    assert_eq!((options.seed, options.world.guild(Id(77)).map(|guild| guild.name.as_str())), (5, Some("g")));
    for (wrong, said) in [
        (json!({"sead": 1}), "sead"),
        (json!({"faults": [{"what": {"type": "ban"}, "when": {"route": "nowhere"}}]}), "nowhere"),
        (json!({"faults": [{"what": {"type": "ban"}, "probability": 2.0}]}), "between 0 and 1"),
        (json!({"settings": {"limits": {"routes": {"nowhere": "pins"}}}}), "nowhere"),
        (json!({"settings": {"limits": {"buckets": {"bin": {"limit": 1, "window_ms": 1}}}}}), "bin"),
        (json!({"guilds": [{"name": "g", "everyone": ["FLY"]}]}), "FLY"),
        (json!({"guilds": [{"name": "g", "channels": [{"name": "c", "kind": "pipe"}]}]}), "pipe"),
    ] {
        write(wrong);
        let (code, message) = failing(&["--scenario", name]);
        assert_eq!((code, message.contains(said)), (Some(2), true), "{message}");
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn wrong_usage_is_2_and_failure_is_1() {
    assert_eq!(failing(&["--nonce-window", "-1"]).0, Some(2));
    assert_eq!(failing(&["--storm", "1.5"]).0, Some(2));
    assert_eq!(failing(&["--faster-limits", "0"]).0, Some(2));
    assert_eq!(failing(&["--scenario", "/no/such/file"]).0, Some(2));
    let (code, message) = failing(&["--ledger", "/no/such/folder/ledger"]);
    assert_eq!((code, message.contains("/no/such/folder/ledger")), (Some(1), true), "{message}");
    let running = Running::start(&[]);
    let taken = running.about["base_url"].as_str().and_then(|url| url.split('/').nth(2)).expect("an address");
    let (code, message) = failing(&["--listen", taken]);
    assert_eq!((code, message.contains(taken)), (Some(1), true), "{message}");
}

#[test]
fn the_readme_holds_what_the_program_prints() {
    let mut child = Command::new(PROGRAM)
        .args(["behaviours", "--markdown"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut printed = String::new();
    child.stdout.as_mut().expect("it is piped").read_to_string(&mut printed).expect("text");
    assert!(child.wait().expect("it ends").success());
    assert!(printed.lines().count() > 50);
    assert!(
        README.contains(&printed),
        "put what `discord-double behaviours --markdown` prints into the README"
    );
    let routes = Command::new(PROGRAM).arg("routes").output().expect("it runs");
    assert!(String::from_utf8_lossy(&routes.stdout).contains("create_message"));
}

#[test]
fn the_flags_reach_the_settings() {
    let running = Running::start(&[
        "--no-limits",
        "--nonce-window",
        "2.5",
        "--nonce-scope",
        "author-and-channel",
        "--storm",
        "0.5",
    ]);
    let control = running.control();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (settings, faults) =
        runtime.block_on(async { (control.get("/settings").await, control.get("/faults").await) });
    assert_eq!(settings.json["limits"]["enabled"], false);
    assert_eq!(settings.json["nonce"], json!({"window_seconds": 2.5, "scope": "author_and_channel"}));
    assert_eq!(faults.json[0]["probability"], 0.5);
    let running = Running::start(&["--faster-limits", "10"]);
    let settings = runtime.block_on(running.control().get("/settings"));
    assert_eq!(settings.json["limits"]["global"]["window_ms"], 100);
}
