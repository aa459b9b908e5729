//! What can be looked at.

use super::server::{ApiServer, token};
use botticelli_database::Scope;
use botticelli_server::server::ActorServer as _;
use botticelli_testkit::databases::TestStore;
use serde_json::{Value, json};
use std::time::Duration;

crate::promises! {
    health_tells_how_the_server_is,
    tasks_come_in_pages,
    executions_of_all_tasks_come_in_pages,
    an_answer_that_is_known_is_not_sent_again,
    the_document_describes_every_route,
}

async fn health_tells_how_the_server_is(database: TestStore) {
    let secret = token(&database, "reader", Scope::Read).await;
    let server = ApiServer::start(database, &["a", "b"]).await;
    let answer = server.get("/health").await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({ "healthy": true })),
        "the rest is not for everybody"
    );
    let bearer = format!("Bearer {secret}");
    let health = server.ask("GET", "/health", &[("Authorization", &bearer)], "").await.json();
    assert_eq!(health["scheduled_tasks"], 2, "{health}");
    assert_eq!(health["failed_tasks"], json!([]));
    assert_eq!(health["database_reachable"], true);
    assert_eq!(health["node"], "node");
    assert!(health["last_execution"].is_string(), "{health}");
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    server.end().await;
}

async fn tasks_come_in_pages(database: TestStore) {
    let server = ApiServer::start(database, &["a", "b", "c"]).await;
    let all = server.get("/tasks").await.json();
    assert_eq!(names(&all), ["a", "b", "c"]);
    assert_eq!(all["next_cursor"], Value::Null);
    assert_eq!(all["items"][0]["schedule_text"], "every minute");
    assert_eq!(all["items"][0]["last_outcome"], "succeeded");
    let first = server.get("/tasks?limit=2").await.json();
    assert_eq!(names(&first), ["a", "b"]);
    let cursor = first["next_cursor"].as_str().expect("there is another page");
    let second = server.get(&format!("/tasks?limit=2&cursor={cursor}")).await.json();
    assert_eq!((names(&second), &second["next_cursor"]), (vec!["c"], &Value::Null));
    let paused = server.post("/tasks/b/pause", r#"{"note":"for a while"}"#).await.json();
    assert_eq!((&paused["is_paused"], &paused["pause_note"]), (&json!(true), &json!("for a while")));
    assert_eq!(names(&server.get("/tasks?paused=true").await.json()), ["b"]);
    assert_eq!(names(&server.get("/tasks?paused=false&actor=writer").await.json()), ["a", "c"]);
    assert_eq!(names(&server.get("/tasks?pause_reason=operator").await.json()), ["b"]);
    assert!(names(&server.get("/tasks?actor=nobody").await.json()).is_empty());
    let resumed = server.post("/tasks/b/resume", "").await.json();
    assert_eq!((&resumed["is_paused"], &resumed["pause_note"]), (&json!(false), &Value::Null));
    server.rest().await;
    server.end().await;
}

async fn executions_of_all_tasks_come_in_pages(database: TestStore) {
    let server = ApiServer::start(database, &["a", "b"]).await;
    server.advance(Duration::from_secs(120)).await;
    server.post("/tasks/b/trigger", "").await;
    server.rest().await;
    let list = async |query: &str| {
        let answer = server.get(&format!("/executions?{query}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let ids = |page: &Value| -> Vec<i64> {
        page["items"]
            .as_array()
            .expect("rows")
            .iter()
            .map(|row| row["id"].as_i64().expect("a number"))
            .collect()
    };
    let all = ids(&list("").await);
    assert!(all.len() == 7 && all.is_sorted_by(|one, other| one > other), "{all:?}");
    let first = list("limit=4").await;
    let cursor = first["next_cursor"].as_str().expect("there is more");
    let second = list(&format!("limit=4&cursor={cursor}")).await;
    assert_eq!([ids(&first), ids(&second)].concat(), all);
    assert_eq!(second["next_cursor"], Value::Null);
    assert_eq!(names(&list("task=a").await), ["a"; 3]);
    assert_eq!(names(&list("trigger=manual").await), ["b"]);
    assert_eq!(ids(&list("outcome=failed").await), [0; 0]);
    assert_eq!(ids(&list("outcome=succeeded&trigger=schedule").await), all[1..]);
    let second_minute = list("").await["items"][3]["started_at"].as_str().expect("a time").to_owned();
    let since = ids(&list(&format!("since={second_minute}")).await);
    let until = ids(&list(&format!("until={second_minute}")).await);
    assert_eq!([since.as_slice(), &until].concat(), all);
    assert_eq!((since.len(), until.len()), (5, 2));
    for (query, field) in [("since=yesterday", "since"), ("outcome=late", "outcome"), ("node=n", "node")] {
        assert_eq!(server.get(&format!("/executions?{query}")).await.wrong_field(400), field, "{query}");
    }
    server.get(&format!("/executions?cursor={}", "7461736b733a61")).await.problem(400);
    server.end().await;
}

fn names(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap_or_else(|| panic!("no page: {page}"));
    items.iter().map(|task| task["task_id"].as_str().expect("a name")).collect()
}

async fn an_answer_that_is_known_is_not_sent_again(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    let first = server.get("/tasks").await;
    let tag = first.header("etag").expect("a tag").to_owned();
    let again = server.ask("GET", "/tasks", &[("If-None-Match", &tag)], "").await;
    assert_eq!((again.status, again.body.as_str(), again.header("etag")), (304, "", Some(tag.as_str())));
    server.advance(Duration::from_secs(60)).await;
    let changed = server.ask("GET", "/tasks", &[("If-None-Match", &tag)], "").await;
    assert_eq!(changed.status, 200, "it has run again since");
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
    server.end().await;
}

async fn the_document_describes_every_route(database: TestStore) {
    let server = ApiServer::start(database, &[]).await;
    let document = server.get("/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let list = &document["paths"]["/tasks"]["get"];
    let parameters: Vec<&str> =
        list["parameters"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(parameters, ["actor", "cursor", "limit", "origin", "pause_reason", "paused"]);
    assert_eq!(list["security"], json!([{ "token": ["read"] }]));
    let text = document.to_string();
    for (at, _) in text.match_indices("\"$ref\":\"#") {
        let target = text[at + 9..].split('"').next().unwrap();
        assert!(document.pointer(target).is_some(), "{target} leads nowhere");
    }
    let page = server.get("/docs").await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.body.contains("id=\"pause_task\""), "the page lists the routes");
    server.app.stop().await.expect("it stops");
}
