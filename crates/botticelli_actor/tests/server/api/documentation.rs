//! `docs/api.md` tells what is: its commands work as they stand there.

use super::server::{ApiServer, every_minute, run, token};
use botticelli_database::Scope;
use botticelli_server::ids::TaskId;
use botticelli_server::ledger::Trigger;
use botticelli_server::server::{Accepted, Event, EventServer as _};
use botticelli_testkit::databases::TestStore;
use serde_json::Value;

crate::promises! {
    the_commands_of_the_page_work,
}

const PAGE: &str = include_str!("../../../../../docs/api.md");

async fn the_commands_of_the_page_work(database: TestStore) {
    let secret = token(&database, "docs", Scope::Admin).await;
    let server = ApiServer::start(database, &["daily_poster", "gone"]).await;
    server.write(
        &(every_minute("daily_poster") + "[[actors.triggers]]\ntype = \"webhook\"\nname = \"builds\"\n"),
    );
    let bearer = format!("Bearer {secret}");
    let authorized = [("Authorization", bearer.as_str())];
    assert_eq!(server.ask("POST", "/reload", &authorized, "").await.status, 204);
    let posts = server.ask("GET", "/posts", &authorized, "").await.json();
    let (post, execution) = (&posts["items"][0]["id"], &posts["items"][0]["execution_id"]);
    let commands: Vec<&str> =
        PAGE.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let mut tried = 0;
    for command in commands.iter().filter(|command| command.starts_with("curl ")) {
        // What each command is about is as its example needs it.
        server.rest().await;
        let waiting = waiting(&server).await;
        let state = if command.contains("/retry") { "failed" } else { "needs_review" };
        let doubtful = format!(
            "UPDATE actor_server_posts SET state = '{state}', deliver_at = NULL, receipt = NULL, posted_at = NULL, \
             uncertain_since = created_at WHERE id = {post}"
        );
        server.database.sql(&doubtful).await;
        let here = command
            .replace("127.0.0.1:8080", &server.address.to_string())
            .replace("/executions/18/", &format!("/executions/{waiting}/"))
            .replace("/executions/17", &format!("/executions/{execution}"))
            .replace("/posts/12", &format!("/posts/{post}"));
        let script =
            format!("set -eu\ncurl() {{ command curl -sS --fail-with-body --max-time 20 \"$@\"; }}\n{here}");
        let mut bash = std::process::Command::new("bash");
        bash.arg("-c").arg(script).env("TOKEN", &secret);
        let output = run(bash).await;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command}{out}{err}");
        tried += 1;
    }
    let document = server.get("/openapi.json").await.json();
    let operations = operations(&document);
    for (method, path) in &operations {
        let row = format!("`{} {path}`", method.to_uppercase());
        assert!(PAGE.contains(&row), "docs/api.md does not tell of {row}");
    }
    assert!(tried >= operations.len(), "{tried} commands for {} operations", operations.len());
    server.rest().await;
    server.end().await;
}

fn operations(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().expect("paths");
    let of = |(path, methods): (&String, &Value)| {
        let methods: Vec<String> = methods.as_object().expect("methods").keys().cloned().collect();
        methods.into_iter().map(|method| (method, path.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

/// An execution that no node takes.
async fn waiting(server: &ApiServer) -> i64 {
    let task = TaskId::new("gone").expect("a name");
    let event = Event { task, trigger: Trigger::Event, parameters: Value::Null };
    match server.database.publish(event).await {
        Ok(Accepted::Execution(id)) => id.0,
        other => panic!("not published: {other:?}"),
    }
}
