//! Whatever is sent, the answer says what is wrong with it.

use super::server::ApiServer;
use botticelli_testkit::databases::TestStore;

crate::promises! {
    a_wrong_request_is_told_what_is_wrong,
    a_slow_or_huge_client_is_cut_off,
}

async fn a_wrong_request_is_told_what_is_wrong(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    server.get("/nothing").await.problem(404);
    let answer = server.ask("DELETE", "/health", &[], "").await;
    answer.problem(405);
    assert_eq!(answer.header("allow"), Some("GET,HEAD"));
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=many", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=zz", "cursor"),
        ("cursor=706f7374733a61", "cursor"),
        ("paused=perhaps", "paused"),
        ("actor=", "actor"),
        ("actor=%00", "actor"),
        ("pause_reason=hunger", "pause_reason"),
        ("nonsense=1", "nonsense"),
    ] {
        let answer = server.get(&format!("/tasks?{query}")).await;
        assert_eq!(answer.wrong_field(400), field, "{query}");
    }
    assert_eq!(server.post("/tasks/%20/pause", "").await.wrong_field(400), "task_id");
    server.post("/tasks/%FF/pause", "").await.problem(400);
    server.post("/tasks/unknown/pause", "").await.problem(404);
    server.post("/tasks/a/pause", "{").await.problem(400);
    for (body, field) in [
        (r#"{"note":1}"#, "note"),
        (r#"{"note":""}"#, "note"),
        (r#"{"not":"x"}"#, "not"),
        (r#"{"note":"\u0000"}"#, "note"),
    ] {
        assert_eq!(server.post("/tasks/a/pause", body).await.wrong_field(422), field, "{body}");
    }
    server.post("/tasks/a/pause", "[1]").await.problem(422);
    let plain = [("Content-Type", "text/plain")];
    server.ask("POST", "/tasks/a/pause", &plain, r#"{"note":"x"}"#).await.problem(415);
    let long = format!(r#"{{"note":"{}"}}"#, "x".repeat(2_000_000));
    server.post("/tasks/a/pause", &long).await.problem(413);
    server.get("/tasks/b").await.problem(404);
    server.end().await;
}

async fn a_slow_or_huge_client_is_cut_off(database: TestStore) {
    let entries = super::server::every_minute("a");
    let limits = "request_timeout_seconds = 1\nmax_body_bytes = 1024\n";
    let server = ApiServer::start_with(database, limits, &entries).await;
    let head = format!("POST /tasks/a/pause HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", server.address);
    server
        .send(&format!("{head}Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{{"))
        .await
        .problem(408);
    let huge = format!("{head}X-Huge: {}\r\n\r\n", "x".repeat(300_000));
    assert_eq!(server.send(&huge).await.status, 431);
    let long = format!(r#"{{"note":"{}"}}"#, "x".repeat(2_000));
    server.post("/tasks/a/pause", &long).await.problem(413);
    server.end().await;
}
