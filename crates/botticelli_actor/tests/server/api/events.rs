//! `POST /events/{name}`: what happens elsewhere makes tasks run, once.

use super::server::{Answered, ApiServer, token};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use botticelli_database::{PostFilter, Scope};
use botticelli_server::server::ActorServer as _;
use botticelli_testkit::databases::TestStore;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::time::Duration;

crate::promises! {
    a_signed_event_runs_its_tasks_once,
    what_is_not_signed_by_the_secret_is_refused,
    events_that_belong_together_are_one_run,
    what_is_too_much_is_refused_and_what_was_taken_is_run_after_the_pause,
    a_token_with_the_scope_events_may_send_and_no_other,
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A task that posts what arrives, and has this trigger.
fn listener(name: &str, trigger: &str) -> String {
    format!(
        "[[actors]]\nname = \"{name}\"\nconfig_file = \"listener.toml\"\nplatform = \"file\"\n\
         destination = \"{name}.jsonl\"\n[[actors.triggers]]\ntype = \"webhook\"\n{trigger}\n"
    )
}

async fn start(database: TestStore, entries: &str) -> ApiServer {
    ApiServer::start_with(database, "", entries).await
}

fn tag(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Sends a body that is signed now; `sent` goes over the wire in its place.
async fn send_other(server: &ApiServer, id: &str, signed: &str, sent: &str) -> Answered {
    let key = BASE64_STANDARD.decode(&SECRET["whsec_".len()..]).expect("a secret");
    let timestamp = server.database.time().timestamp().to_string();
    let tag = BASE64_STANDARD.encode(tag(&key, &format!("{id}.{timestamp}.{signed}")));
    let signature = format!("v1,{tag}");
    let headers = [
        ("Content-Type", "application/json"),
        ("webhook-id", id),
        ("webhook-timestamp", &timestamp),
        ("webhook-signature", &signature),
    ];
    server.ask("POST", "/events/deploys", &headers, sent).await
}

async fn send(server: &ApiServer, id: &str, body: &str) -> Answered {
    send_other(server, id, body, body).await
}

fn execution(answered: &Answered) -> i64 {
    assert_eq!(answered.status, 202, "{answered:?}");
    answered.json()["executions"][0]["execution_id"].as_i64().unwrap_or_else(|| panic!("none: {answered:?}"))
}

/// The texts of the task's posts, oldest first.
async fn texts(server: &ApiServer) -> Vec<String> {
    server.rest().await;
    let filter = PostFilter { limit: 100, ..PostFilter::default() };
    let mut posts = server.database.posts(filter).await.expect("posts");
    posts.sort_by_key(|post| post.id);
    posts.into_iter().map(|post| post.content).collect()
}

async fn a_signed_event_runs_its_tasks_once(database: TestStore) {
    let trigger = format!("name = \"deploys\"\nsecret = \"{SECRET}\"\nfilter = {{ \"/status\" = \"done\" }}");
    let all = format!("name = \"deploys\"\nsecret = \"{SECRET}\"");
    let server = start(database, &(listener("one", &trigger) + &listener("all", &all))).await;
    let body = r#"{"status":"done","text":"deployed"}"#;
    let first = send(&server, "msg_1", body).await;
    assert_eq!(first.json()["executions"].as_array().map(Vec::len), Some(2), "{first:?}");
    let again = send(&server, "msg_1", body).await;
    assert_eq!(execution(&again), execution(&first));
    assert_eq!(again.json()["executions"][1]["again"], true);
    assert_eq!(texts(&server).await, ["deployed", "deployed"]);
    let other = send(&server, "msg_2", r#"{"status":"begun","text":"deploying"}"#).await;
    assert_eq!(other.json()["filtered"][0], "one", "{other:?}");
    assert_eq!(texts(&server).await, ["deployed", "deployed", "deploying"]);
    // The same event from a server that was started anew.
    server.app.stop().await.expect("it stops");
    let server = ApiServer { address: restart(&server).await, ..server };
    assert_eq!(execution(&send(&server, "msg_1", body).await), execution(&first));
    assert_eq!(texts(&server).await.len(), 3);
    server.end().await;
}

async fn restart(server: &ApiServer) -> std::net::SocketAddr {
    server.app.start().await.expect("it starts");
    server.app.api_address().await.expect("it listens")
}

async fn what_is_not_signed_by_the_secret_is_refused(database: TestStore) {
    let github =
        "name = \"pushes\"\ngithub_secret = \"0123456789abcdef\"\nfilter = { x-github-event = \"push\" }";
    let trigger = format!("name = \"deploys\"\nsecret = \"{SECRET}\"");
    let server = start(database, &(listener("one", &trigger) + &listener("two", github))).await;
    let body = r#"{"text":"deployed"}"#;
    send_other(&server, "msg_1", body, r#"{"text":"hacked"}"#).await.problem(401);
    server.post("/events/deploys", body).await.problem(401);
    server.post("/events/nothing", body).await.problem(404);
    let hex: String = tag(b"0123456789abcdef", body).iter().map(|byte| format!("{byte:02x}")).collect();
    let push = async |signature: String, kind: &str, body: &str| {
        let headers = [
            ("Content-Type", "application/json"),
            ("X-Hub-Signature-256", &signature),
            ("X-GitHub-Delivery", "72d3162e"),
            ("X-GitHub-Event", kind),
        ];
        server.ask("POST", "/events/pushes", &headers, body).await
    };
    push(format!("sha256={hex}"), "push", r#"{"text":"hacked"}"#).await.problem(401);
    push(format!("sha256={}", "0".repeat(64)), "push", body).await.problem(401);
    let ping = push(format!("sha256={hex}"), "ping", body).await;
    assert_eq!(ping.json()["filtered"][0], "two", "{ping:?}");
    assert_eq!(texts(&server).await, [""; 0]);
    assert_eq!(push(format!("sha256={hex}"), "push", body).await.status, 202);
    assert_eq!(texts(&server).await, ["deployed"]);
    send(&server, "msg_2", "{").await.problem(400);
    server.end().await;
}

async fn events_that_belong_together_are_one_run(database: TestStore) {
    let last = format!("name = \"deploys\"\nsecret = \"{SECRET}\"\ndebounce_seconds = 10");
    let all = format!("name = \"deploys\"\nsecret = \"{SECRET}\"\nbatch_seconds = 60\nbatch_max = 3");
    let server = start(database, &(listener("last", &last) + &listener("all", &all))).await;
    let first = send(&server, "msg_1", r#"{"text":"1"}"#).await;
    server.advance(Duration::from_secs(9)).await;
    assert_eq!(execution(&send(&server, "msg_2", r#"{"text":"2"}"#).await), execution(&first));
    server.advance(Duration::from_secs(9)).await;
    assert_eq!(texts(&server).await, [""; 0]);
    server.advance(Duration::from_secs(1)).await;
    assert_eq!(texts(&server).await, ["2"], "the last one, 10 seconds after it");
    // The third event fills the batch.
    let third = send(&server, "msg_3", r#"{"text":"3"}"#).await;
    assert_eq!(third.json()["executions"][1]["execution_id"], first.json()["executions"][1]["execution_id"]);
    assert_eq!(texts(&server).await.len(), 2, "one of the batch");
    server.end().await;
}

async fn what_is_too_much_is_refused_and_what_was_taken_is_run_after_the_pause(database: TestStore) {
    let trigger = format!("name = \"deploys\"\nsecret = \"{SECRET}\"\nmax_waiting = 2");
    let server = start(database, &listener("one", &trigger)).await;
    assert_eq!(server.post("/tasks/one/pause", "").await.status, 200);
    for id in ["msg_1", "msg_2"] {
        assert_eq!(send(&server, id, &format!(r#"{{"text":"{id}"}}"#)).await.status, 202);
    }
    let refused = send(&server, "msg_3", r#"{"text":"msg_3"}"#).await;
    refused.problem(429);
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert_eq!(send(&server, "msg_1", r#"{"text":"msg_1"}"#).await.status, 202, "it is here already");
    assert_eq!(texts(&server).await, [""; 0], "the task is paused");
    assert_eq!(server.post("/tasks/one/resume", "").await.status, 200);
    assert_eq!(texts(&server).await, ["msg_1", "msg_2"], "in their order");
    server.end().await;
}

async fn a_token_with_the_scope_events_may_send_and_no_other(database: TestStore) {
    let events = token(&database, "ci", Scope::Events).await;
    let read = token(&database, "eye", Scope::Read).await;
    let server = start(database, &listener("one", "name = \"deploys\"")).await;
    let ask = async |token: &str, key: &str, body: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("Content-Type", "application/json"),
            ("Authorization", bearer.as_str()),
            ("Idempotency-Key", key),
        ];
        server.ask("POST", "/events/deploys", &headers, body).await
    };
    ask(&read, "k1", r#"{"text":"a"}"#).await.problem(403);
    let first = ask(&events, "k1", r#"{"text":"a"}"#).await;
    assert_eq!(execution(&ask(&events, "k1", r#"{"text":"a"}"#).await), execution(&first));
    ask(&events, "k1", r#"{"text":"b"}"#).await.problem(422);
    assert_eq!(texts(&server).await, ["a"]);
    server.end().await;
}
