//! Tasks that are made over the API.

use super::server::{ApiServer, HANGS, JSON, every_minute, token};
use botticelli_actor::app::App;
use botticelli_database::Scope;
use botticelli_server::ids::TaskId;
use botticelli_server::server::{ActorServer as _, TaskScheduler as _};
use botticelli_server::task::Task;
use botticelli_testkit::databases::TestStore;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

crate::promises! {
    a_task_is_made_replaced_and_removed,
    what_is_wrong_with_a_task_is_told_by_its_field,
    tasks_of_the_file_are_left_to_the_file,
    whoever_changes_a_task_knows_what_it_is,
    a_task_outlives_restarts_and_reloads,
    a_name_that_the_api_has_is_refused_to_the_file,
    new_parameters_lose_no_occurrence_and_run_none_twice,
    a_removed_task_starts_nothing_and_what_is_open_of_it_ends,
    what_is_changed_is_written_down_and_what_is_not_is_not,
}

mod cluster {
    crate::promises! { postgres only:
        every_node_that_has_the_actor_takes_up_what_is_changed,
    }

    async fn every_node_that_has_the_actor_takes_up_what_is_changed(
        database: botticelli_testkit::databases::TestStore,
    ) {
        super::every_node_that_has_the_actor_takes_up_what_is_changed(database).await;
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// Posts to a file once a minute.
fn made(name: &str) -> Value {
    json!({
        "name": name, "actor": "writer", "platform": "file", "destination": "made.jsonl",
        "schedule": { "type": "Interval", "seconds": 60 },
    })
}

fn with(mut task: Value, key: &str, value: Value) -> Value {
    task[key] = value;
    task
}

async fn create(server: &ApiServer, task: &Value) -> Value {
    let answer = server.post("/tasks", &task.to_string()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    server.rest().await;
    answer.json()
}

async fn put(server: &ApiServer, name: &str, task: &Value) -> super::server::Answered {
    server.ask("PUT", &format!("/tasks/{name}"), &JSON, &task.to_string()).await
}

async fn tag(server: &ApiServer, name: &str) -> String {
    server.get(&format!("/tasks/{name}")).await.header("etag").expect("a tag").to_owned()
}

/// The nominal times of what has run, oldest first, as minutes and seconds.
async fn runs(server: &ApiServer, name: &str) -> Vec<String> {
    let history = server.get(&format!("/tasks/{name}/history?limit=100")).await.json();
    let time = |row: &Value| row["scheduled_for"].as_str().expect("a time")[14..19].to_owned();
    let mut times: Vec<String> = history["items"].as_array().expect("rows").iter().map(time).collect();
    times.reverse();
    times
}

async fn a_task_is_made_replaced_and_removed(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    let task = with(made("b c"), "note", json!("a try"));
    let answer = server.post("/tasks", &task.to_string()).await;
    assert_eq!((answer.status, answer.header("location")), (201, Some("/tasks/b%20c")), "{answer:?}");
    assert!(answer.header("etag").is_some());
    let shown = answer.json();
    assert_eq!((&shown["origin"], &shown["actor_name"]), (&json!("api"), &json!("writer")));
    assert_eq!(shown["entry"], made("b c"), "it can be put as it is");
    server.rest().await;
    assert_eq!(runs(&server, "b%20c").await, ["00:00"], "it has run at once");
    let posts = server.get("/posts?task=b%20c").await.json();
    let place = posts["items"][0]["destination"].as_str().expect("a place");
    assert_eq!(std::path::Path::new(place), server.folder.path().join("made.jsonl"), "{posts}");
    let names = async |query: &str| -> Vec<String> {
        let tasks = server.get(&format!("/tasks{query}")).await.json();
        tasks["items"].as_array().unwrap().iter().map(|task| task["task_id"].to_string()).collect()
    };
    assert_eq!(names("").await, ["\"a\"", "\"b c\""]);
    assert_eq!(names("?origin=api").await, ["\"b c\""]);
    assert_eq!(names("?origin=file").await, ["\"a\""]);
    assert_eq!(server.get("/tasks?origin=god").await.wrong_field(400), "origin");
    let actors = server.get("/actors").await.json();
    assert_eq!(actors["items"][0]["tasks"], json!(["a", "b c"]), "{actors}");
    assert_eq!(server.get("/tasks/b%20c/preview").await.json()["run"]["outcome"], "succeeded");
    assert_eq!(
        server.post("/tasks", &made("b c").to_string()).await.problem(409)["hint"],
        "PUT /tasks/b%20c replaces it"
    );

    let every_hour = json!({ "type": "Interval", "seconds": 3600 });
    let replaced = put(&server, "b%20c", &with(made("b c"), "schedule", every_hour)).await;
    assert_eq!((replaced.status, &replaced.json()["schedule_text"]), (200, &json!("every hour")));
    server.rest().await;
    let removed = server.ask("DELETE", "/tasks/b%20c", &[], "").await;
    assert_eq!((removed.status, removed.body.as_str()), (204, ""));
    server.rest().await;
    let gone = server.get("/tasks/b%20c").await.json();
    assert_eq!((&gone["pause_reason"], &gone["entry"]), (&json!("definition"), &Value::Null), "{gone}");
    assert_eq!(runs(&server, "b%20c").await, ["00:00"], "its history stays");
    assert_eq!(server.get("/tasks/b%20c/preview").await.status, 409);
    server.post("/tasks/b%20c/trigger", "").await.problem(409);
    server.post("/tasks/b%20c/resume", "").await.problem(409);
    server.ask("DELETE", "/tasks/b%20c", &[], "").await.problem(404);
    put(&server, "b%20c", &made("b c")).await.problem(404);
    let again = create(&server, &made("b c")).await;
    assert_eq!((&again["is_paused"], &again["origin"]), (&json!(false), &json!("api")), "{again}");
    server.end().await;
}

async fn what_is_wrong_with_a_task_is_told_by_its_field(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    let bad_cron = json!({ "type": "Cron", "expression": "0 0 25 * * * *" });
    let wrong = [
        (with(made("b"), "name", json!("")), "name"),
        (with(made("b"), "name", json!(7)), "name"),
        (with(made("b"), "name", Value::Null), "name"),
        (with(made("b"), "name", json!("alert: x")), "name"),
        (with(made("b"), "actor", json!("writre")), "actor"),
        (with(made("b"), "actor", json!(["writer"])), "actor"),
        (with(made("b"), "actor", Value::Null), "actor"),
        (with(made("b"), "schedule", Value::Null), "schedule"),
        (with(made("b"), "schedule", json!("daily")), "schedule"),
        (with(made("b"), "schedule", bad_cron), "schedule.expression"),
        (with(made("b"), "schedule", json!({ "type": "Interval", "seconds": 0 })), "schedule.seconds"),
        (with(made("b"), "catch_up", json!("some")), "catch_up"),
        (with(made("b"), "overlap", json!(1)), "overlap"),
        (with(made("b"), "enabled", json!("yes")), "enabled"),
        (with(made("b"), "max_attempts", json!(0)), "max_attempts"),
        (with(made("b"), "max_attempts", json!(18_446_744_073_709_551_615_u64)), "max_attempts"),
        (with(made("b"), "backoff_initial_seconds", json!(9_000)), "backoff_initial_seconds"),
        (with(made("b"), "platform", json!("pigeon")), "platform"),
        (with(made("b"), "platform", json!("discord")), "destination"),
        (with(made("b"), "destination", json!("/etc/made.jsonl")), "destination"),
        (with(made("b"), "destination", json!("../made.jsonl")), "destination"),
        (with(made("b"), "destination", json!("actor_server.toml")), "destination"),
        (with(made("b"), "destinations", json!([{ "platform": "console" }])), "platform"),
        (with(made("b"), "config_file", json!("writer.toml")), "config_file"),
        (with(made("b"), "triggers", json!([])), "triggers"),
        (with(made("b"), "jiter_seconds", json!(1)), "jiter_seconds"),
        (with(made("b"), "note", json!("")), "note"),
    ];
    for (task, field) in wrong {
        let answer = server.post("/tasks", &task.to_string()).await;
        assert_eq!(answer.wrong_field(422), field, "{task} {answer:?}");
    }
    let several = json!({
        "name": "b", "actor": "nobody", "overlap": "sometimes", "schedule": { "type": "Interval", "seconds": 60 },
        "destinations": [{ "platform": "console" }, { "platform": "file" }],
    });
    let problem = server.post("/tasks", &several.to_string()).await.problem(422);
    let fields: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["actor", "overlap", "destinations[1].platform"], "{problem}");
    let cron = with(made("b"), "schedule", json!({ "type": "Cron", "expression": "0 0 25 * * * *" }));
    let problem = server.post("/tasks", &cron.to_string()).await.problem(422);
    assert_eq!(
        problem["errors"][0]["detail"], "cron expression \"0 0 25 * * * *\" has hour 25 (allowed: 0-23)",
        "in the words of the file"
    );
    assert_eq!(server.post("/tasks", "").await.wrong_field(422), "actor");
    assert_eq!(server.post("/tasks", r#"{"name":"b","name":"c"}"#).await.wrong_field(422), "name");
    server.post("/tasks", "{").await.problem(400);
    server.post("/tasks", "[1]").await.problem(422);
    server.ask("POST", "/tasks", &[("Content-Type", "text/plain")], "{}").await.problem(415);
    let long = with(made("b"), "destination", json!("x".repeat(2_000_000)));
    server.post("/tasks", &long.to_string()).await.problem(413);
    #[cfg(feature = "discord")]
    {
        let channel = json!({
            "name": "b", "actor": "writer", "channel_id": "123456789012345678",
            "schedule": { "type": "Interval", "seconds": 60 },
        });
        assert_eq!(
            server.post("/tasks", &channel.to_string()).await.wrong_field(422),
            "channel_id",
            "there is no token"
        );
    }
    server.get("/tasks/b").await.problem(404);
    create(&server, &made("b")).await;
    assert_eq!(put(&server, "b", &with(made("b"), "actor", json!("nobody"))).await.wrong_field(422), "actor");
    assert_eq!(put(&server, "b", &made("c")).await.wrong_field(422), "name");
    put(&server, "unknown", &made("unknown")).await.problem(404);
    server.ask("DELETE", "/tasks/unknown", &[], "").await.problem(404);
    server.ask("PATCH", "/tasks/b", &[], "").await.problem(405);
    server.end().await;
}

async fn tasks_of_the_file_are_left_to_the_file(database: TestStore) {
    let operate = format!("Bearer {}", token(&database, "ops", Scope::Operate).await);
    let admin = format!("Bearer {}", token(&database, "admin", Scope::Admin).await);
    let server = ApiServer::start(database, &["a"]).await;
    let sent = async |who: &str, method: &str, path: &str| {
        let headers = [("Authorization", who), ("Content-Type", "application/json")];
        let body = if method == "DELETE" { String::new() } else { made("a").to_string() };
        server.ask(method, path, &headers, &body).await
    };
    for (method, path) in [("POST", "/tasks"), ("PUT", "/tasks/a"), ("DELETE", "/tasks/a")] {
        sent(&operate, method, path).await.problem(403);
        let problem = sent(&admin, method, path).await.problem(409);
        assert_eq!(problem["detail"], "task \"a\" is one of the server's file, and is changed there");
    }
    // Its name stays the file's, with the history that is kept under it.
    server.write(&every_minute("b"));
    assert_eq!(sent(&admin, "POST", "/reload").await.status, 422, "it takes no task");
    assert_eq!(server.ask("POST", "/reload", &[("Authorization", &admin)], "").await.status, 204);
    server.rest().await;
    sent(&admin, "POST", "/tasks").await.problem(409);
    server.end().await;
}

async fn whoever_changes_a_task_knows_what_it_is(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    create(&server, &made("b")).await;
    let first = tag(&server, "b").await;
    server.advance(MINUTE).await;
    let ran = tag(&server, "b").await;
    assert_ne!(first, ran, "it has run");
    let sent = async |method: &str, tag: &str, seconds: u64| {
        let schedule = json!({ "type": "Interval", "seconds": seconds });
        let body = if method == "DELETE" {
            String::new()
        } else {
            with(made("b"), "schedule", schedule).to_string()
        };
        let headers = [("If-Match", tag), ("Content-Type", "application/json")];
        let answer = server.ask(method, "/tasks/b", &headers, &body).await;
        server.rest().await;
        answer
    };
    assert_eq!(sent("PUT", &first, 120).await.status, 200, "what has run is the same task");
    sent("PUT", &first, 180).await.problem(412);
    sent("DELETE", &ran, 0).await.problem(412);
    sent("PUT", "\"other\", W/\"x-1\"", 180).await.problem(412);
    assert_eq!(sent("PUT", "b", 180).await.wrong_field(400), "If-Match");
    assert_eq!(server.get("/tasks/b").await.json()["schedule_text"], "every 2 minutes");
    assert_eq!(sent("PUT", "*", 180).await.status, 200);
    let last = tag(&server, "b").await;
    assert_eq!(sent("DELETE", &format!("\"other\", {last}"), 0).await.status, 204);
    assert_eq!(sent("DELETE", "*", 0).await.status, 404);
    server.end().await;
}

async fn a_task_outlives_restarts_and_reloads(database: TestStore) {
    let mut server = ApiServer::start(database, &["a"]).await;
    create(&server, &made("b")).await;
    server.restart().await;
    server.advance(MINUTE).await;
    assert_eq!(runs(&server, "b").await, ["00:00", "01:00"]);
    // The actor is another one from now on, and so is the definition.
    let writer = server.folder.path().join("writer.toml");
    let text = std::fs::read_to_string(&writer).expect("read").replace("text = \"", "text = \"new ");
    std::fs::write(writer, text).expect("written");
    assert_eq!(server.post("/reload", "").await.status, 204);
    server.rest().await;
    server.advance(MINUTE).await;
    assert_eq!(runs(&server, "b").await, ["00:00", "01:00", "02:00"]);
    let last = server.get("/posts?task=b&limit=1").await.json();
    assert!(last["items"][0]["content"].as_str().unwrap().starts_with("new "), "{last}");
    // Without the actor the task is left alone, and kept.
    server.write(&every_minute("a").replace("writer", "listener"));
    assert_eq!(server.post("/reload", "").await.status, 204);
    server.rest().await;
    assert_eq!(server.get("/tasks/b").await.json()["is_paused"], false);
    assert_eq!(held(&server.app).await, ["a"]);
    server.write(&every_minute("a"));
    assert_eq!(server.post("/reload", "").await.status, 204);
    server.rest().await;
    assert_eq!(held(&server.app).await, ["a", "b"]);
    server.end().await;
}

async fn held(app: &Arc<App>) -> Vec<String> {
    let held = app.engine().await.expect("it runs").scheduled().await.expect("an answer");
    held.into_iter().map(String::from).collect()
}

async fn a_name_that_the_api_has_is_refused_to_the_file(database: TestStore) {
    let mut server = ApiServer::start(database, &["a"]).await;
    create(&server, &made("b")).await;
    server.write(&(every_minute("a") + &every_minute("b") + &every_minute("c")));
    let problem = server.post("/reload", "").await.problem(409);
    let told = "actor_server.toml: task \"b\": a task of this name was made over the API";
    assert!(problem["detail"].as_str().unwrap().contains(told), "{problem}");
    server.get("/tasks/c").await.problem(404);
    assert_eq!(server.get("/tasks/b").await.json()["origin"], "api");
    assert_eq!(server.ask("DELETE", "/tasks/b", &[], "").await.status, 204);
    assert_eq!(server.post("/reload", "").await.status, 204);
    server.rest().await;
    let taken_over = server.get("/tasks/b").await.json();
    assert_eq!((&taken_over["origin"], &taken_over["is_paused"]), (&json!("file"), &json!(false)));
    server.post("/tasks", &made("b").to_string()).await.problem(409);
    server.restart().await;
    assert_eq!(held(&server.app).await, ["a", "b", "c"]);
    server.end().await;
}

async fn new_parameters_lose_no_occurrence_and_run_none_twice(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    create(&server, &made("b")).await;
    for attempts in 1..=6 {
        // Also while the next occurrence has been claimed, a moment before its time.
        server.advance(Duration::from_millis(29_900)).await;
        assert_eq!(put(&server, "b", &with(made("b"), "max_attempts", json!(attempts))).await.status, 200);
        server.rest().await;
        server.advance(Duration::from_millis(100)).await;
    }
    assert_eq!(runs(&server, "b").await, ["00:00", "01:00", "02:00", "03:00"]);
    // A pause is a person's, whatever the task is.
    server.post("/tasks/b/pause", "").await;
    put(&server, "b", &made("b")).await;
    assert_eq!(server.get("/tasks/b").await.json()["pause_reason"], "operator");
    server.end().await;
}

async fn a_removed_task_starts_nothing_and_what_is_open_of_it_ends(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    create(&server, &made("b")).await;
    // Claimed, and its time has not come.
    server.advance(Duration::from_millis(59_900)).await;
    let id = TaskId::new("b").expect("a name");
    let event = botticelli_server::server::Event {
        task: id,
        trigger: botticelli_server::ledger::Trigger::Event,
        parameters: Value::Null,
    };
    put(&server, "b", &with(made("b"), "enabled", json!(false))).await;
    server.rest().await;
    use botticelli_server::server::EventServer as _;
    server.database.publish(event).await.expect("it waits until the task is resumed");
    assert_eq!(server.ask("DELETE", "/tasks/b", &[], "").await.status, 204);
    server.advance(MINUTE).await;
    let history = server.get("/tasks/b/history").await.json();
    let rows = history["items"].as_array().unwrap();
    let outcomes: Vec<&str> = rows.iter().map(|row| row["outcome"].as_str().unwrap_or("open")).collect();
    assert_eq!(outcomes, ["cancelled", "succeeded"], "{history}");
    server.end().await;
}

async fn what_is_changed_is_written_down_and_what_is_not_is_not(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    create(&server, &with(made("b"), "note", json!("a try"))).await;
    let before = tag(&server, "b").await;
    assert_eq!(put(&server, "b", &made("b")).await.status, 200);
    assert_eq!(tag(&server, "b").await, before, "the same again changes nothing");
    put(&server, "b", &with(made("b"), "enabled", json!(false))).await;
    server.ask("DELETE", "/tasks/b", &JSON, r#"{"note":"enough"}"#).await;
    let rows = server.get("/audit?target=b").await.json();
    let told: Vec<(&Value, &Value)> =
        rows["items"].as_array().unwrap().iter().map(|row| (&row["action"], &row["note"])).collect();
    let (remove, replace, create) = (json!("task.remove"), json!("task.replace"), json!("task.create"));
    assert_eq!(told, [(&remove, &json!("enough")), (&replace, &Value::Null), (&create, &json!("a try"))]);
    assert_eq!(rows["items"][2]["detail"], json!({ "entry": made("b") }));
    server.rest().await;
    server.end().await;
}

async fn every_node_that_has_the_actor_takes_up_what_is_changed(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    let (second, _files) = server.beside("second", &every_minute("a")).await;
    let (without, _files) = server.beside("without", &every_minute("a").replace("writer", "listener")).await;
    // The file that was read last is that of `without`.
    let follows = async |app: &Arc<App>, revision: i64| {
        let mut taken_up = app.api_revision();
        let seen = tokio::time::timeout(HANGS, taken_up.wait_for(|seen| *seen >= revision)).await;
        seen.expect("it is told").expect("it runs");
        held(app).await
    };
    let seen = || *server.app.api_revision().borrow();
    let made_one = server.post("/tasks", &made("b").to_string()).await;
    assert_eq!(made_one.status, 201, "{made_one:?}");
    assert_eq!(follows(&second, seen()).await, ["a", "b"]);
    assert_eq!(follows(&without, seen()).await, ["a"], "it has no such actor");
    let shown = server.get("/tasks/b").await.json();
    assert_eq!(shown["is_paused"], false, "and leaves the task alone: {shown}");
    put(&server, "b", &with(made("b"), "overlap", json!("allow"))).await;
    assert_eq!(follows(&second, seen()).await, ["a", "b"]);
    let same = async |app: &Arc<App>| {
        let id = TaskId::new("b").expect("a name");
        let of = |task: &Arc<Task>| (task.id == id).then(|| task.definition.clone());
        app.with_config(|config| config.tasks.iter().find_map(of)).await
    };
    assert_eq!(same(&second).await, same(&server.app).await);
    assert_eq!(server.ask("DELETE", "/tasks/b", &[], "").await.status, 204);
    assert_eq!(follows(&second, seen()).await, ["a"]);
    second.stop().await.expect("it stops");
    without.stop().await.expect("it stops");
    server.end().await;
}
