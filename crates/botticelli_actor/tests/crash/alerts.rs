//! Who is to be told is told: a real receiver, and a server that is killed in between.

use crate::receiver::{Arrived, Receiver};
use crate::server::PATIENCE;
use crate::stage::{EVERY_SECOND, Stage, task};
use botticelli_actor::alerts::signature::SigningKey;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// So soon an alert arrives.
const SOON: Duration = Duration::from_secs(10);

impl Arrived {
    fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn is_signed(&self) -> bool {
        let key = SigningKey::parse(&SECRET.into()).unwrap();
        let timestamp = self.headers["webhook-timestamp"].parse().unwrap();
        key.sign(self.id(), timestamp, &self.body) == self.headers["webhook-signature"]
    }
}

impl Receiver {
    /// Waits for a request about this.
    fn hears(&self, kind: &str) -> Arrived {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.0.lock().unwrap();
        loop {
            if let Some(found) = state.arrived.iter().find(|arrived| arrived.json()["type"] == kind) {
                return found.clone();
            }
            let left = deadline.checked_duration_since(Instant::now());
            let left = left.unwrap_or_else(|| panic!("{kind} did not arrive"));
            state = self.state.1.wait_timeout(state, left).unwrap().0;
        }
    }

    /// As its owner sees it: the same id is the same message.
    fn seen(&self) -> Vec<Arrived> {
        let mut seen: Vec<Arrived> = Vec::new();
        for arrived in self.arrived() {
            match seen.iter().find(|before| before.id() == arrived.id()) {
                Some(before) => assert_eq!(before.body, arrived.body, "the same message says the same"),
                None => seen.push(arrived),
            }
        }
        seen
    }
}

fn alerts(receiver: &Receiver, rules: &str) -> String {
    format!(
        "[[alerts]]\nname = \"ops\"\nsink = \"webhook\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\n\
         [alerts.rules]\n{rules}\n",
        receiver.url
    )
}

const FRAGILE: &str = "lease_seconds = 2\nbackoff_initial_seconds = 1\nbackoff_max_seconds = 1";

#[test]
fn a_failing_actor_is_told_within_ten_seconds_and_its_recovery_each_once_although_the_server_is_killed() {
    for stage in Stage::each() {
        let receiver = Receiver::start(None);
        stage.actor("plain", "type = \"query\"\nquery = \"SELECT id FROM not_yet\"", 1);
        let tasks = task("t", EVERY_SECOND, "max_consecutive_failures = 1000");
        stage.server_file(FRAGILE, &(alerts(&receiver, "consecutive_failures = 1") + &tasks));
        let server = stage.started();
        stage.until("it fails", |stage| stage.count("actor_server_executions WHERE outcome = 'failed'") > 0);
        let failed = Instant::now();
        let started = receiver.hears("alert.started");
        let took = started.at.saturating_duration_since(failed);
        assert!(took < SOON, "{took:?}");
        assert!(started.is_signed());
        let summary = started.json()["data"]["summary"].as_str().unwrap().to_owned();
        assert!(summary.starts_with("task \"t\" has failed") && summary.contains("not_yet"), "{summary}");

        // It has arrived, and the server does not know.
        server.kill();
        receiver.answers(204);
        let server = stage.started();
        let told = "actor_server_posts WHERE platform = 'alert_webhook' AND state = 'posted'";
        stage.until("it is told, and known to be", |stage| stage.count(told) == 1);
        let failures = "actor_server_executions WHERE outcome = 'failed'";
        let before = stage.count(failures);
        stage.until("it goes on failing", |stage| stage.count(failures) > before + 2);
        assert_eq!(receiver.seen().len(), 1, "once");
        assert_eq!(stage.json(&["alerts", "list", "--json"])[0]["subject"], "t");

        server.kill();
        stage.sql("CREATE TABLE not_yet (id integer)");
        stage.sql("INSERT INTO not_yet VALUES (1)");
        let server = stage.started();
        let ended = receiver.hears("alert.ended");
        assert!(ended.is_signed());
        stage.until("that is known, too", |stage| stage.count(told) == 2);
        assert_eq!(stage.json(&["alerts", "list", "--json"]), Vec::<Value>::new());
        server.stop();
        let seen: Vec<Value> = receiver.seen().iter().map(Arrived::json).collect();
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert_eq!(seen[0]["data"]["incident"], seen[1]["data"]["incident"]);
        assert!(!seen[1]["data"]["ended_at"].is_null());
    }
}

#[test]
fn a_database_that_is_away_is_told_from_memory_and_that_it_is_back() {
    for stage in Stage::each() {
        let receiver = Receiver::start(Some(200));
        stage.plain_actor();
        let tasks = task("t", "{ type = \"Interval\", seconds = 86400 }", "");
        stage.server_file("", &(alerts(&receiver, "") + &tasks));
        let server = stage.started();
        stage.until("its one run is over", |stage| {
            stage.count("actor_server_posts WHERE state = 'posted'") == 1
        });
        let lock = stage.wait(stage.database.lock());
        let told = receiver.hears("alert.started").json();
        assert_eq!(told["data"]["rule"], "database_unreachable");
        drop(lock);
        let over = receiver.hears("alert.ended").json();
        assert_eq!(over["data"]["incident"], told["data"]["incident"]);
        server.stop();
        assert_eq!(receiver.seen().len(), 2);
    }
}

#[test]
fn a_test_says_what_the_sink_answers_and_keeps_its_secrets() {
    let stage = Stage::sqlite();
    stage.plain_actor();
    let receiver = Receiver::start(Some(204));
    stage.server_file("", &(alerts(&receiver, "") + &task("t", EVERY_SECOND, "")));
    let answer = stage.answer(&["alerts", "test"]);
    assert!(answer.starts_with("ops: alert_webhook:ops has taken it, as "), "{answer}");
    assert!(receiver.hears("alert.test").is_signed());

    receiver.answers(401);
    let ended = stage.ask(&["alerts", "test", "ops"]);
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(ended.out.trim_end(), "ops: alert_webhook:ops has not taken it: HTTP 401 Unauthorized");
    let ended = stage.ask(&["alerts", "test", "opps"]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.err.contains("did you mean \"ops\"?"), "{}", ended.err);

    // Nobody listens there: the error names no URL.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = Receiver { url: format!("http://{}/T0KEN", nobody.local_addr().unwrap()), ..receiver };
    drop(nobody);
    stage.server_file("", &(alerts(&gone, "") + &task("t", EVERY_SECOND, "")));
    let ended = stage.ask(&["alerts", "test"]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(!format!("{}{}", ended.out, ended.err).contains("T0KEN"), "{}{}", ended.out, ended.err);
}

#[test]
fn the_heartbeat_goes_on_while_all_is_well_and_ends_with_the_server() {
    let stage = Stage::sqlite();
    stage.plain_actor();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/T0KEN", listener.local_addr().unwrap());
    let heartbeat = format!("[heartbeat]\nurl = \"{url}\"\ninterval_seconds = 1\n");
    stage.server_file("", &(heartbeat + &task("t", EVERY_SECOND, "")));
    let server = stage.started();
    for _ in 0..2 {
        let (stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        assert!(line.starts_with("GET /T0KEN HTTP/1.1"), "{line}");
        write!(&stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    }
    let ended = server.stop();
    assert!(!ended.err.contains("T0KEN"), "{}", ended.err);
}
