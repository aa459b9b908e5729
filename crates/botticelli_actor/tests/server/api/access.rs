//! Who may do what.

use super::server::{ApiServer, run, token};
use botticelli_actor::app::AppError;
use botticelli_database::Scope;
use botticelli_testkit::databases::TestStore;
use std::time::Duration;

crate::promises! {
    everybody_may_while_there_is_no_token,
    each_scope_may_do_its_part,
    an_address_that_others_reach_needs_a_token,
    pages_of_others_are_kept_out,
    a_reload_takes_up_the_file,
    who_asks_during_a_reload_waits,
    with_a_certificate_it_speaks_https,
}

async fn everybody_may_while_there_is_no_token(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    assert_eq!(server.get("/tasks").await.status, 200);
    let secret = server.token("ops", Scope::Read).await;
    // It is known within a second: the last answer that is given to anybody says how long that took.
    let asked_for = async {
        while server.get("/tasks").await.status == 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), asked_for).await.expect("soon");
    let answer = server.get("/tasks").await;
    answer.problem(401);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"actor-server\""));
    let bearer = format!("Bearer {secret}");
    assert_eq!(server.ask("GET", "/tasks", &[("Authorization", &bearer)], "").await.status, 200);
    server.end().await;
}

async fn each_scope_may_do_its_part(database: TestStore) {
    let mut tokens = Vec::new();
    for scope in [Scope::Events, Scope::Read, Scope::Operate, Scope::Admin] {
        tokens.push(format!("Bearer {}", token(&database, scope.as_str(), scope).await));
    }
    let server = ApiServer::start(database, &["a"]).await;
    let asked = async |method: &str, path: &str| {
        let mut statuses = Vec::new();
        for bearer in &tokens {
            statuses.push(server.ask(method, path, &[("Authorization", bearer)], "").await.status);
        }
        statuses
    };
    assert_eq!(asked("GET", "/tasks").await, [403, 200, 200, 200]);
    assert_eq!(asked("POST", "/tasks/a/pause").await, [403, 403, 200, 200]);
    assert_eq!(asked("POST", "/reload").await, [403, 403, 403, 204]);
    for wrong in ["Bearer actor_0", "Basic YTpi", "Bearer", "actor_0"] {
        server.ask("GET", "/tasks", &[("Authorization", wrong)], "").await.problem(401);
    }
    assert!(server.database.revoke_token("operate").await.expect("an answer"));
    let revoked = async {
        while server.ask("GET", "/tasks", &[("Authorization", &tokens[2])], "").await.status == 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), revoked).await.expect("soon");
    server.rest().await;
    server.end().await;
}

async fn an_address_that_others_reach_needs_a_token(database: TestStore) {
    let listen = "listen = \"0.0.0.0:0\"";
    let Err((error, database)) = ApiServer::try_start(database, listen, "").await else {
        panic!("it is open to anybody")
    };
    assert!(matches!(error, AppError::Api(_)), "{error}");
    assert!(error.to_string().contains("there is no token yet"), "{error}");
    token(&database, "ops", Scope::Read).await;
    let server =
        ApiServer::try_start(database, listen, "").await.map_err(|(error, _)| error).expect("it starts");
    server.get("/tasks").await.problem(401);
    server.end().await;
}

async fn pages_of_others_are_kept_out(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    server.ask("GET", "/tasks", &[("Host", "evil.example")], "").await.problem(421);
    server.ask("POST", "/tasks/a/pause", &[("Origin", "https://evil.example")], "").await.problem(403);
    server.ask("GET", "/tasks", &[("Sec-Fetch-Site", "cross-site")], "").await.problem(403);
    server.send("GET /tasks HTTP/1.1\r\nConnection: close\r\n\r\n").await.problem(400);
    let localhost = format!("localhost:{}", server.address.port());
    assert_eq!(server.ask("GET", "/tasks", &[("Host", &localhost)], "").await.status, 200);
    assert!(!server.get("/tasks").await.json()["items"][0]["is_paused"].as_bool().unwrap());
    server.end().await;
}

async fn a_reload_takes_up_the_file(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    server.write(&super::server::every_minute("b"));
    assert_eq!(server.post("/reload", "").await.status, 204);
    server.rest().await;
    let tasks = server.get("/tasks?paused=false").await.json();
    assert_eq!(tasks["items"][0]["task_id"], "b", "{tasks}");
    server.write("what is this?");
    let problem = server.post("/reload", "").await.problem(409);
    assert!(problem["detail"].as_str().unwrap().contains("actor_server.toml:"), "{problem}");
    server.end().await;
}

async fn who_asks_during_a_reload_waits(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    for round in 0..20 {
        let (reloaded, other, actors, again) = tokio::join!(
            server.post("/reload", ""),
            server.post("/reload", ""),
            server.get("/actors"),
            server.get("/actors")
        );
        let statuses = [reloaded.status, other.status, actors.status, again.status];
        assert_eq!(statuses, [204, 204, 200, 200], "round {round}: {actors:?} {again:?}");
    }
    server.end().await;
}

async fn with_a_certificate_it_speaks_https(database: TestStore) {
    // A certificate and key for nothing but this test.
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/api/tls");
    let tls = |key: &str| {
        format!("tls_certificate_file = \"{folder}/certificate.pem\"\ntls_key_file = \"{folder}/{key}\"\n")
    };
    let Err((error, database)) = ApiServer::try_start(database, &tls("certificate.pem"), "").await else {
        panic!("a certificate is no key")
    };
    assert!(error.to_string().contains("certificate.pem"), "{error}");
    let server = ApiServer::start_with(database, &tls("key.pem"), "").await;
    let url = format!("https://localhost:{}/health", server.address.port());
    let certificate = format!("{folder}/certificate.pem");
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sS", "--cacert", &certificate, &url]);
    let output = run(curl).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"healthy\":true"), "{output:?}");
    server.end().await;
}
