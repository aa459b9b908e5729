//! `GET /events`: what happens, as it happens.

use super::server::{ApiServer, HANGS, token};
use botticelli_database::Scope;
use botticelli_server::ledger::Ledger as _;
use botticelli_server::server::ActorServer as _;
use botticelli_testkit::databases::TestStore;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;

crate::promises! {
    what_happens_is_told_as_it_happens,
    who_comes_back_has_missed_nothing,
    who_was_away_for_too_long_is_told_so,
    a_wrong_request_for_a_stream_is_told_what_is_wrong,
    a_stream_ends_with_its_token,
    a_stream_ends_with_the_server,
}

const MINUTE: Duration = Duration::from_secs(60);

/// An event that arrived.
#[derive(Debug, Clone, PartialEq)]
struct Heard {
    event: String,
    id: String,
    data: Value,
}

/// A client.
struct Listener {
    lines: Lines<BufReader<TcpStream>>,
    last_id: String,
}

impl Listener {
    /// Returns when the server has said where the stream begins.
    async fn open(server: &ApiServer, query: &str, headers: &[(&str, &str)]) -> Self {
        // A client of HTTP/1.0 gets the stream as it is, until the connection ends.
        let request = server.request("GET", &format!("/events{query}"), headers, "");
        let request = request.replace("HTTP/1.1", "HTTP/1.0");
        let mut stream = TcpStream::connect(server.address).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut listener = Self { lines: BufReader::new(stream).lines(), last_id: String::new() };
        let head = listener.block().await.expect("a head");
        assert!(head[0].contains(" 200 "), "{head:?}");
        assert!(head.iter().any(|line| line == "content-type: text/event-stream"), "{head:?}");
        let first = listener.block().await.expect("where it begins");
        assert!(first.iter().all(|line| !line.starts_with("data")), "{first:?}");
        listener
    }

    /// The lines up to an empty one; `None` at the end.
    async fn block(&mut self) -> Option<Vec<String>> {
        let read = async {
            let mut block = Vec::new();
            while let Some(line) = self.lines.next_line().await.ok()? {
                if line.is_empty() {
                    return Some(block);
                }
                block.push(line);
            }
            None
        };
        let block = tokio::time::timeout(HANGS, read).await.expect("it does not hang")?;
        if let Some(id) = field(&block, "id") {
            self.last_id = id;
        }
        Some(block)
    }

    /// The next event; `None` when the stream has ended.
    async fn next(&mut self) -> Option<Heard> {
        loop {
            let block = self.block().await?;
            if let Some(data) = field(&block, "data") {
                let event = field(&block, "event").expect("a name");
                let data = serde_json::from_str(&data).expect("JSON");
                return Some(Heard { event, id: self.last_id.clone(), data });
            }
        }
    }

    async fn some(&mut self, count: usize) -> Vec<Heard> {
        let mut heard = Vec::new();
        for _ in 0..count {
            heard.push(self.next().await.expect("it goes on"));
        }
        heard
    }
}

fn field(block: &[String], name: &str) -> Option<String> {
    block.iter().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
}

fn names(heard: &[Heard]) -> Vec<&str> {
    heard.iter().map(|heard| heard.event.as_str()).collect()
}

async fn what_happens_is_told_as_it_happens(database: TestStore) {
    let server = ApiServer::start(database, &["a", "b"]).await;
    let mut all = Listener::open(&server, "?task=a", &[]).await;
    let mut breakers = Listener::open(&server, "?kind=breaker,alert", &[]).await;
    server.advance(MINUTE).await;
    // What came before the stream was opened may still be told, where the database could not yet say that it was over.
    let ran = loop {
        let heard = all.next().await.expect("it goes on");
        if heard.event == "execution" && heard.data["completed_at"] != Value::Null {
            break heard;
        }
    };
    assert_eq!(
        (&ran.data["task_id"], &ran.data["outcome"], &ran.data["trigger"]),
        (&json!("a"), &json!("succeeded"), &json!("schedule"))
    );
    server.post("/tasks/a/pause", "").await;
    let paused = breakers.next().await.expect("it goes on");
    assert_eq!(paused.event, "breaker");
    assert_eq!(
        (&paused.data["task_id"], &paused.data["is_paused"], &paused.data["pause_reason"]),
        (&json!("a"), &json!(true), &json!("operator"))
    );
    let mut until_paused = Vec::new();
    while until_paused.last() != Some(&paused) {
        until_paused.push(all.next().await.expect("it goes on"));
    }
    let post = until_paused.iter().find(|heard| heard.event == "post").expect("its post was told before");
    assert_eq!((&post.data["state"], &post.data["task_id"]), (&json!("posted"), &json!("a")));
    server.end().await;
}

async fn who_comes_back_has_missed_nothing(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    let mut first = Listener::open(&server, "", &[]).await;
    let start = first.last_id.clone();
    for _ in 0..3 {
        server.post("/tasks/a/pause", "").await;
        server.post("/tasks/a/resume", "").await;
        server.rest().await;
    }
    let heard = first.some(6).await;
    drop(first);
    server.post("/tasks/a/pause", "").await;
    for (index, id) in std::iter::once(&start).chain(heard.iter().map(|heard| &heard.id)).enumerate() {
        let mut again = Listener::open(&server, "", &[("Last-Event-ID", id)]).await;
        let rest = again.some(7 - index).await;
        assert_eq!(rest[..6 - index], heard[index..], "after {index}");
        assert_eq!(rest.last().map(|heard| &heard.data["is_paused"]), Some(&json!(true)));
    }
    server.end().await;
}

async fn who_was_away_for_too_long_is_told_so(database: TestStore) {
    let server = ApiServer::start(database, &["a"]).await;
    let listener = Listener::open(&server, "", &[]).await;
    let id = listener.last_id.clone();
    drop(listener);
    server.post("/tasks/a/pause", "").await;
    server.post("/tasks/a/resume", "").await;
    server.rest().await;
    // A day passes, and another one on the clock of those who write with SQL.
    let later = server.database.time() + 36_500 * 24 * 60 * MINUTE;
    server.database.prune_changes(later, 1_000).await.expect("forgotten");
    let mut late = Listener::open(&server, "", &[("Last-Event-ID", &id)]).await;
    let heard = late.some(2).await;
    assert_eq!(names(&heard), ["gap", "breaker"], "{heard:?}");
    assert!(heard[0].data["detail"].as_str().is_some_and(|detail| detail.contains("not kept")), "{heard:?}");
    let mut again = Listener::open(&server, "", &[("Last-Event-ID", &heard[0].id)]).await;
    assert_eq!(again.some(1).await, heard[1..], "the gap is told once");
    server.end().await;
}

async fn a_wrong_request_for_a_stream_is_told_what_is_wrong(database: TestStore) {
    let reader = token(&database, "reader", Scope::Read).await;
    let events = token(&database, "events", Scope::Events).await;
    let server = ApiServer::start(database, &[]).await;
    let bearer = format!("Bearer {reader}");
    let authorized = ("Authorization", bearer.as_str());
    for (query, wrong) in
        [("kind=hunger", "kind"), ("kind=", "kind"), ("task=", "task"), ("since=1", "since")]
    {
        let answer = server.ask("GET", &format!("/events?{query}"), &[authorized], "").await;
        assert_eq!(answer.wrong_field(400), wrong, "{query}");
    }
    let answer = server.ask("GET", "/events", &[authorized, ("Last-Event-ID", "17")], "").await;
    assert_eq!(answer.wrong_field(400), "Last-Event-ID");
    server.get("/events").await.problem(401);
    let bearer = format!("Bearer {events}");
    server.ask("GET", "/events", &[("Authorization", &bearer)], "").await.problem(403);
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(Listener::open(&server, "", &[authorized]).await);
    }
    let answer = server.ask("GET", "/events", &[authorized], "").await;
    answer.problem(429);
    assert_eq!(answer.header("retry-after"), Some("10"));
    assert_eq!(server.ask("GET", "/tasks", &[authorized], "").await.status, 200, "nobody else is held up");
    server.end().await;
}

async fn a_stream_ends_with_its_token(database: TestStore) {
    let secret = token(&database, "reader", Scope::Read).await;
    let _other = token(&database, "other", Scope::Read).await;
    let server = ApiServer::start(database, &[]).await;
    let bearer = format!("Bearer {secret}");
    let mut listener = Listener::open(&server, "", &[("Authorization", &bearer)]).await;
    assert!(server.database.revoke_token("reader").await.expect("an answer"));
    assert_eq!(listener.next().await, None);
    server.end().await;
}

async fn a_stream_ends_with_the_server(database: TestStore) {
    let server = ApiServer::start(database, &[]).await;
    let mut listener = Listener::open(&server, "", &[]).await;
    let stopped = async {
        server.app.stop().await.expect("it stops");
    };
    // Sooner than requests that are open are cut off.
    let stopped = tokio::time::timeout(Duration::from_secs(4), stopped);
    let (stopped, heard) = tokio::join!(stopped, listener.next());
    stopped.expect("the stream does not hold it up");
    assert_eq!(heard, None);
}
