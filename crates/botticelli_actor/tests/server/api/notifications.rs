//! Notifications of PostgreSQL: a payload is an event, and times in which nobody listened are told.

use super::server::ApiServer;
use botticelli_database::PostFilter;
use botticelli_testkit::databases::TestStore;
use std::time::Duration;

crate::promises! {
    postgres only:
    a_notification_runs_its_tasks_with_its_payload,
    a_gap_is_told_and_runs_what_wants_to_know,
    a_reload_changes_who_listens_and_loses_nothing,
}

/// A task that posts what is notified, as JSON.
fn hearing(folder: &tempfile::TempDir, name: &str, keys: &str) -> String {
    let actor = folder.path().join("hearing.toml");
    let text = "[actor]\nname = \"hearing\"\n[[knowledge]]\nname = \"event\"\ntype = \"event\"\n\
                [[skills]]\nname = \"content_selection\"\nlimit = 10\n\
                [[skills]]\nname = \"content_formatter\"\ntemplate = \"{{ task }} {{ item | tojson }}\"\n";
    std::fs::write(&actor, text).expect("written");
    format!(
        "[[actors]]\nname = \"{name}\"\nconfig_file = \"{}\"\nplatform = \"file\"\ndestination = \"{name}.jsonl\"\n\
         [[actors.triggers]]\ntype = \"postgres\"\n{keys}\n",
        actor.display()
    )
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let look = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(super::server::HANGS, look).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

async fn listens(database: &TestStore, channel: &str) {
    let heard = format!(
        "SELECT count(*) AS value FROM actor_server_listeners WHERE channel = '{channel}' AND heard_until IS NOT NULL"
    );
    until("it listens", async || database.value(&heard).await == "1").await;
}

async fn notify(server: &ApiServer, channel: &str, payload: &str) {
    server.database.sql(&format!("SELECT pg_notify('{channel}', '{payload}')")).await;
}

/// Waits for so many posts; their texts, in order of their letters.
async fn posts(server: &ApiServer, count: usize) -> Vec<String> {
    let read = async || {
        let filter = PostFilter { limit: 100, ..PostFilter::default() };
        let posts = server.database.posts(filter).await.expect("posts");
        posts.into_iter().map(|post| post.content).collect::<Vec<_>>()
    };
    until("so many posts", async || read().await.len() >= count).await;
    server.rest().await;
    let mut posts = read().await;
    posts.sort();
    posts
}

async fn a_notification_runs_its_tasks_with_its_payload(database: TestStore) {
    let folder = tempfile::tempdir().expect("a folder");
    let entries = hearing(&folder, "all", "channel = \"orders\"")
        + &hearing(&folder, "big", "channel = \"orders\"\nfilter = { \"/size\" = \"big\" }")
        + &hearing(&folder, "other", "channel = \"Users.v1\"");
    let server = ApiServer::start_with(database, "", &entries).await;
    listens(&server.database, "orders").await;
    listens(&server.database, "Users.v1").await;
    notify(&server, "orders", r#"{"size": "big"}"#).await;
    notify(&server, "orders", "just words").await;
    notify(&server, "Users.v1", "7").await;
    notify(&server, "nobody", "hears").await;
    let expected = [
        r#"all {"size": "big"}"#,
        r#"all {"value": "just words"}"#,
        r#"big {"size": "big"}"#,
        r#"other {"value": 7}"#,
    ];
    assert_eq!(posts(&server, 4).await, expected);
    let metrics = server.get("/metrics").await.body;
    for line in [
        r#"actor_notifications_total{channel="orders",result="stored"} 3"#,
        r#"actor_notifications_total{channel="orders",result="filtered"} 1"#,
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    server.end().await;
}

async fn a_gap_is_told_and_runs_what_wants_to_know(database: TestStore) {
    let folder = tempfile::tempdir().expect("a folder");
    let entries = hearing(&folder, "wants", "channel = \"orders\"\nrun_after_gap = true")
        + &hearing(&folder, "does_not", "channel = \"orders\"");
    let server = ApiServer::start_with(database, "", &entries).await;
    listens(&server.database, "orders").await;
    notify(&server, "orders", "1").await;
    assert_eq!(posts(&server, 2).await.len(), 2, "the first time is no gap");
    let from = server.database.time();
    server.advance(Duration::from_secs(7)).await;
    // Of all connections, the one that listens.
    server
        .database
        .sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
                 AND query IN ('LISTEN \"orders\"', 'SELECT 1')",
        )
        .await;
    let posts = posts(&server, 3).await;
    assert_eq!(posts.len(), 3, "{posts:?}");
    let told = posts.iter().find(|text| text.contains("gap")).expect("one is told of the gap");
    assert!(told.starts_with("wants "), "{told}");
    let told: serde_json::Value =
        serde_json::from_str(told.split_once(' ').expect("two parts").1).expect("JSON");
    let time = |name: &str| {
        let text = told["gap"][name].as_str().expect("a time");
        chrono::DateTime::parse_from_rfc3339(text).expect("a time").to_utc()
    };
    assert!(
        time("from") >= from - Duration::from_secs(3) && time("to") == from + Duration::from_secs(7),
        "{told}"
    );
    notify(&server, "orders", "2").await;
    assert_eq!(self::posts(&server, 5).await.len(), 5, "it listens again");
    let metrics = server.get("/metrics").await.body;
    assert!(metrics.contains(r#"actor_notification_gaps_total{channel="orders"} 1"#), "{metrics}");
    server.end().await;
}

async fn a_reload_changes_who_listens_and_loses_nothing(database: TestStore) {
    let folder = tempfile::tempdir().expect("a folder");
    let entry = |name: &str, channel: &str| hearing(&folder, name, &format!("channel = \"{channel}\""));
    let server = ApiServer::start_with(database, "", &entry("one", "orders")).await;
    listens(&server.database, "orders").await;
    server.write(&(entry("one", "orders") + &entry("two", "orders") + &entry("three", "users")));
    assert_eq!(server.post("/reload", "").await.status, 204);
    listens(&server.database, "users").await;
    notify(&server, "orders", "1").await;
    notify(&server, "users", "2").await;
    let expected = [r#"one {"value": 1}"#, r#"three {"value": 2}"#, r#"two {"value": 1}"#];
    assert_eq!(posts(&server, 3).await, expected);
    let metrics = server.get("/metrics").await.body;
    assert!(!metrics.contains("actor_notification_gaps_total{"), "it went on listening: {metrics}");
    server.end().await;
}
