//! What can be changed, and that it is written down.

use super::server::{ApiServer, every_minute};
use botticelli_server::ids::TaskId;
use botticelli_server::ledger::Trigger;
use botticelli_server::server::{Accepted, Event, EventServer as _};
use botticelli_testkit::databases::TestStore;
use serde_json::{Value, json};

crate::promises! {
    a_trigger_answers_with_the_execution_that_then_runs,
    a_request_that_is_sent_again_runs_once,
    an_execution_that_waits_is_cancelled,
    a_history_is_filtered_and_comes_in_pages,
    a_post_is_settled_by_a_person,
    a_preview_sends_and_records_nothing,
    every_change_is_written_down,
    actors_and_nodes_are_listed,
}

async fn a_trigger_answers_with_the_execution_that_then_runs(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    let answer = server.post("/tasks/a/trigger", r#"{"parameters":{"tone":"calm"}}"#).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let execution = answer.json();
    assert_eq!((&execution["task_id"], &execution["trigger"]), (&json!("a"), &json!("manual")));
    let place = answer.header("location").expect("where it is").to_owned();
    assert_eq!(place, format!("/executions/{}", execution["id"]));
    server.rest().await;
    let over = server.get(&place).await.json();
    assert_eq!(over["outcome"], "succeeded", "{over}");
    assert_eq!(over["posts"][0]["content"], "two", "{over}");
    let task = server.get("/tasks/a").await.json();
    assert_eq!((&task["last_outcome"], &task["posts"]["posted"]), (&json!("succeeded"), &json!(2)), "{task}");
    server.post("/tasks/nobody/trigger", "").await.problem(404);
    assert_eq!(server.post("/tasks/a/trigger", r#"{"parameters":[]}"#).await.wrong_field(422), "parameters");
    server.write(&every_minute("b"));
    assert_eq!(server.post("/reload", "").await.status, 204);
    server.post("/tasks/a/trigger", "").await.problem(409);
    server.rest().await;
    server.end().await;
}

async fn a_request_that_is_sent_again_runs_once(database: TestStore) {
    let server = ApiServer::start(database, &["a", "b"]).await;
    let sent = async |task: &str, key: &str, body: &str| {
        let headers = [("Idempotency-Key", key), ("Content-Type", "application/json")];
        server.ask("POST", &format!("/tasks/{task}/trigger"), &headers, body).await
    };
    let first = sent("a", "k", r#"{"parameters":{"x":1,"y":2}}"#).await;
    server.rest().await;
    let again = sent("a", "k", r#"{"parameters":{"y":2,"x":1}}"#).await;
    assert_eq!((first.status, again.status), (202, 202));
    assert_eq!(first.json()["id"], again.json()["id"]);
    assert_eq!(again.json()["outcome"], "succeeded", "it is told what has become of it");
    assert_eq!(
        (first.header("idempotency-replayed"), again.header("idempotency-replayed")),
        (None, Some("true"))
    );
    assert_eq!(sent("a", "k", r#"{"parameters":{"x":2}}"#).await.wrong_field(422), "Idempotency-Key");
    assert_eq!(sent("a", "", "").await.wrong_field(400), "Idempotency-Key");
    assert_eq!(sent("a", &"k".repeat(256), "").await.wrong_field(400), "Idempotency-Key");
    assert_ne!(
        sent("b", "k", "").await.json()["id"],
        first.json()["id"],
        "another task's key is another one"
    );
    server.rest().await;
    let manual = server.get("/tasks/a/history?trigger=manual").await.json();
    assert_eq!(manual["items"].as_array().map(Vec::len), Some(1), "{manual}");
    server.end().await;
}

async fn an_execution_that_waits_is_cancelled(database: TestStore) {
    let server = ApiServer::start(database, &["a", "gone"]).await;
    server.write(&every_minute("a"));
    assert_eq!(server.post("/reload", "").await.status, 204);
    server.rest().await;
    // No node holds its task any more.
    let task = TaskId::new("gone").expect("a name");
    let event = Event { task, trigger: Trigger::Event, parameters: Value::Null };
    let Ok(Accepted::Execution(id)) = server.database.publish(event).await else { panic!("not published") };
    let open = server.get("/tasks/gone/history?outcome=open").await.json();
    assert_eq!(open["items"][0]["id"], id.0, "{open}");
    let cancelled = server.post(&format!("/executions/{id}/cancel"), r#"{"note":"not needed"}"#).await;
    assert_eq!((cancelled.status, &cancelled.json()["outcome"]), (202, &json!("cancelled")), "{cancelled:?}");
    server.post(&format!("/executions/{id}/cancel"), "").await.problem(409);
    server.post("/executions/999999/cancel", "").await.problem(404);
    assert_eq!(server.post("/executions/x/cancel", "").await.wrong_field(400), "id");
    server.get("/executions/999999").await.problem(404);
    server.end().await;
}

async fn a_history_is_filtered_and_comes_in_pages(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    server.advance(std::time::Duration::from_secs(180)).await;
    server.post("/tasks/a/trigger", "").await;
    server.rest().await;
    let ids = |page: &Value| -> Vec<i64> {
        page["items"].as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect()
    };
    let all = ids(&server.get("/tasks/a/history").await.json());
    assert_eq!(all.len(), 5);
    assert!(all.is_sorted_by(|newer, older| newer > older), "{all:?}");
    let mut paged = Vec::new();
    let mut path = "/tasks/a/history?limit=2".to_owned();
    loop {
        let page = server.get(&path).await.json();
        paged.extend(ids(&page));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/tasks/a/history?limit=2&cursor={cursor}");
    }
    assert_eq!(paged, all);
    assert_eq!(ids(&server.get("/tasks/a/history?trigger=manual").await.json()), [all[0]]);
    // There are three items.
    assert_eq!(ids(&server.get("/tasks/a/history?outcome=succeeded").await.json()), all[2..]);
    assert_eq!(ids(&server.get("/tasks/a/history?outcome=skipped&trigger=schedule").await.json()), [all[1]]);
    assert!(ids(&server.get("/tasks/a/history?outcome=failed").await.json()).is_empty());
    server.get("/tasks/nobody/history").await.problem(404);
    assert_eq!(server.get("/tasks/a/history?outcome=good").await.wrong_field(400), "outcome");
    server.end().await;
}

async fn a_post_is_settled_by_a_person(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    let posts = server.get("/posts?state=posted&task=a").await.json();
    let id = posts["items"][0]["id"].as_i64().expect("it has posted");
    let problem = server.post(&format!("/posts/{id}/retry"), "").await.problem(409);
    assert_eq!(problem["detail"], format!("post {id} is posted: there is nothing to retry"));
    let doubtful = format!(
        "UPDATE actor_server_posts SET state = 'needs_review', receipt = NULL, posted_at = NULL, \
         uncertain_since = created_at WHERE id = {id}"
    );
    server.database.sql(&doubtful).await;
    server.post(&format!("/posts/{id}/retry"), "").await.problem(409);
    let marked =
        server.post(&format!("/posts/{id}/mark-posted"), r#"{"message_id":"m1","link":"https://x/1"}"#).await;
    assert_eq!(marked.status, 200, "{marked:?}");
    assert_eq!(
        (&marked.json()["state"], &marked.json()["receipt"]["message_id"]),
        (&json!("posted"), &json!("m1"))
    );
    server.database.sql(&doubtful).await;
    assert_eq!(server.post(&format!("/posts/{id}/dismiss"), "").await.json()["state"], "skipped");
    assert_eq!(server.post(&format!("/posts/{id}/retry"), "").await.status, 200);
    server.rest().await;
    server.database.sql(&doubtful).await;
    assert_eq!(server.post(&format!("/posts/{id}/resend"), "").await.status, 200);
    server.rest().await;
    let shown = server.get(&format!("/posts/{id}")).await.json();
    assert!(shown["attempts_made"].as_array().is_some_and(|attempts| attempts.len() >= 2), "{shown}");
    let of_execution = format!("/posts?execution={}", shown["execution_id"]);
    assert_eq!(server.get(&of_execution).await.json()["items"][0]["id"], id);
    for (body, field) in [("{}", "message_id"), (r#"{"message_id":"a b"}"#, "message_id")] {
        assert_eq!(
            server.post(&format!("/posts/{id}/mark-posted"), body).await.wrong_field(422),
            field,
            "{body}"
        );
    }
    for action in ["retry", "resend", "dismiss"] {
        server.post(&format!("/posts/999999/{action}"), "").await.problem(404);
    }
    assert_eq!(server.get("/posts?state=lost").await.wrong_field(400), "state");
    server.get("/posts/0").await.problem(404);
    server.end().await;
}

async fn a_preview_sends_and_records_nothing(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    let preview = server.get("/tasks/a/preview?count=2").await.json();
    assert_eq!(preview["times"].as_array().map(Vec::len), Some(2), "{preview}");
    assert_eq!(preview["times"][0]["why"], "every minute");
    assert!(preview["times"][0]["local"].as_str().is_some_and(|time| time.ends_with("+00:00")), "{preview}");
    assert_eq!(preview["run"]["outcome"], "succeeded");
    assert_eq!(preview["run"]["posts"][0]["content"], "two", "the next one");
    assert_eq!(preview["run"]["posts"][0]["platform"], "file");
    let again = server.get("/tasks/a/preview").await.json();
    assert_eq!(again["run"]["posts"], preview["run"]["posts"], "the first one changed nothing");
    assert_eq!(server.get("/tasks/a/preview?posts=false").await.json()["run"], Value::Null);
    assert_eq!(server.get("/tasks/a/preview?count=0").await.wrong_field(400), "count");
    server.get("/tasks/nobody/preview").await.problem(404);
    server.end().await;
}

async fn every_change_is_written_down(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    server.post("/tasks/a/pause", r#"{"note":"lunch"}"#).await;
    server.post("/tasks/a/resume", "").await;
    let execution = server.post("/tasks/a/trigger", "").await.json()["id"].clone();
    server.post("/reload", "").await;
    server.rest().await;
    let rows = server.get("/audit").await.json();
    let actions: Vec<&str> =
        rows["items"].as_array().unwrap().iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["server.reload", "task.trigger", "task.resume", "task.pause"]);
    let pause = &rows["items"][3];
    assert_eq!(
        (&pause["who"], &pause["origin"], &pause["target"], &pause["note"]),
        (&json!("anybody"), &json!("127.0.0.1"), &json!("a"), &json!("lunch"))
    );
    assert_eq!(rows["items"][1]["detail"], json!({ "execution": execution }));
    let one = server.get("/audit?action=task.pause&target=a&limit=1").await.json();
    assert_eq!(one["items"].as_array().map(Vec::len), Some(1), "{one}");
    let secret = server.token("ops", botticelli_database::Scope::Operate).await;
    let bearer = format!("Bearer {secret}");
    let forbidden = async {
        while server.ask("GET", "/audit", &[("Authorization", &bearer)], "").await.status == 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::server::HANGS, forbidden).await.expect("soon");
    server.ask("POST", "/tasks/a/pause", &[("Authorization", &bearer)], "").await;
    let rows =
        server.database.audits(botticelli_database::AuditFilter { limit: 1, ..Default::default() }).await;
    assert_eq!(rows.expect("rows")[0].who, "token ops");
    server.rest().await;
    server.end().await;
}

async fn actors_and_nodes_are_listed(database: TestStore) {
    let server = ApiServer::start(database, &["b", "a"]).await;
    let actors = server.get("/actors").await.json();
    let writer = json!({
        "actor_name": "writer", "description": null, "skills": ["content_selection"], "knowledge": ["words"],
        "tasks": ["a", "b"],
    });
    assert_eq!(actors, json!({ "items": [writer], "next_cursor": null }));
    let nodes = server.get("/nodes").await.json();
    assert_eq!(
        (&nodes["items"][0]["node"], &nodes["items"][0]["lives"]),
        (&json!("node"), &json!(true)),
        "{nodes}"
    );
    server.end().await;
}
