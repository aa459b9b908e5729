//! A whole server with an API, and a client that sends exactly what it is told to.

use botticelli_actor::api::access::{hash_of, new_token};
use botticelli_actor::app::{App, AppError, AppParts};
use botticelli_actor::config::{ActorFile, Given, LoadedConfig, Problems, load};
use botticelli_actor::deliverer::DeliverySettings;
use botticelli_database::{PostFilter, Scope, ValidToken};
use botticelli_server::ids::NodeId;
use botticelli_server::outbox::PostState;
use botticelli_server::server::ActorServer as _;
use botticelli_testkit::databases::TestStore;
use secrecy::SecretString;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What comes with a body.
pub(crate) const JSON: [(&str, &str); 1] = [("Content-Type", "application/json")];

/// Nothing takes so long when all is well.
pub(crate) const HANGS: Duration = Duration::from_secs(30);

/// A server on files and a database of its own, with a clock that the test moves.
pub(crate) struct ApiServer {
    pub(crate) database: TestStore,
    pub(crate) app: Arc<App>,
    pub(crate) address: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
}

const WRITER: &str = r#"
[actor]
name = "writer"

[[knowledge]]
name = "words"
type = "inline"
items = [{ id = "1", text = "one" }, { id = "2", text = "two" }, { id = "3", text = "three" }]

[[skills]]
name = "content_selection"
source = "words"
"#;

/// Posts what arrives.
const LISTENER: &str = r#"
[actor]
name = "listener"

[[knowledge]]
name = "event"
type = "event"

[[skills]]
name = "content_selection"
source = "event"
"#;

/// A task that posts to a file, once a minute.
pub(crate) fn every_minute(name: &str) -> String {
    format!(
        "[[actors]]\nname = \"{name}\"\nconfig_file = \"writer.toml\"\nplatform = \"file\"\n\
         destination = \"posts.jsonl\"\nschedule = {{ type = \"Interval\", seconds = 60 }}\n"
    )
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answered {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The problem of this status, as RFC 9457 tells it.
    pub(crate) fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["type"].as_str().is_some_and(|kind| kind.starts_with("urn:")), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
        problem
    }

    /// The field that a problem of this status names.
    pub(crate) fn wrong_field(&self, status: u16) -> String {
        let problem = self.problem(status);
        problem["errors"][0]["field"].as_str().unwrap_or_else(|| panic!("no field: {problem}")).to_owned()
    }
}

impl ApiServer {
    /// With these tasks.
    pub(crate) async fn start(database: TestStore, tasks: &[&str]) -> Self {
        let tasks: String = tasks.iter().map(|name| every_minute(name)).collect();
        Self::start_with(database, "", &tasks).await
    }

    /// With these settings of `[api]`, and these entries.
    pub(crate) async fn start_with(database: TestStore, api: &str, entries: &str) -> Self {
        Self::try_start(database, api, entries).await.map_err(|(error, _)| error).expect("it starts")
    }

    pub(crate) async fn try_start(
        database: TestStore,
        api: &str,
        entries: &str,
    ) -> Result<Self, (AppError, TestStore)> {
        let (app, folder) = build(&database, "node", api, entries);
        if let Err(error) = app.start().await {
            return Err((error, database));
        }
        let address = app.api_address().await.expect("it listens");
        let server = Self { database, app, address, folder };
        server.rest().await;
        Ok(server)
    }

    /// Another node on the same database, with a file of its own. It is not waited for when the first one rests.
    pub(crate) async fn beside(&self, node: &str, entries: &str) -> (Arc<App>, tempfile::TempDir) {
        let (app, folder) = build(&self.database, node, "", entries);
        app.start().await.expect("it starts");
        (app, folder)
    }

    /// Stops it, and starts it again with the same files.
    pub(crate) async fn restart(&mut self) {
        self.app.stop().await.expect("it stops");
        self.app.start().await.expect("it starts");
        self.address = self.app.api_address().await.expect("it listens");
        self.rest().await;
    }

    pub(crate) async fn end(self) {
        self.app.stop().await.expect("it stops");
    }

    /// Writes the server's file anew, with these entries.
    pub(crate) fn write(&self, entries: &str) {
        let file = format!("[server]\nlease_seconds = 600\n[api]\nlisten = \"127.0.0.1:0\"\n{entries}");
        std::fs::write(self.folder.path().join("actor_server.toml"), file).expect("written");
    }

    /// Returns when nothing happens any more until the test does something, or time goes on.
    pub(crate) async fn rest(&self) {
        let Some(engine) = self.app.engine().await else { return };
        let mut activity = engine.activity();
        let mut sleepers = self.database.clock().sleepers();
        loop {
            sleepers.mark_unchanged();
            let doing = *activity.borrow_and_update();
            let idle = doing.running + doing.recording == 0 && !doing.asking;
            let now = self.database.time();
            let wake_times = self.database.clock().wake_times();
            // The dispatcher, the heartbeat, the deliverer, the retention and the self-audit.
            let at_rest = idle && doing.next_look > now && wake_times.len() == 5 && wake_times[0] > now;
            if at_rest && !self.posts_are_on_their_way().await {
                return;
            }
            let changed = async {
                tokio::select! {
                    changed = activity.changed() => changed.is_ok(),
                    changed = sleepers.changed() => changed.is_ok(),
                }
            };
            let changed = tokio::time::timeout(HANGS, changed).await;
            assert!(changed == Ok(true), "{doing:?} {wake_times:?}");
        }
    }

    async fn posts_are_on_their_way(&self) -> bool {
        let filter = PostFilter { limit: 100, ..PostFilter::default() };
        let posts = self.database.posts(filter).await.expect("posts");
        let living = self.database.living_nodes().await.expect("nodes");
        let is_sent = |node: &Option<String>| living.iter().any(|one| Some(one.as_str()) == node.as_deref());
        posts.iter().any(|post| {
            post.state == PostState::Pending || (post.state == PostState::Sending && is_sent(&post.node))
        })
    }

    /// Moves time on, from one moment at which something happens to the next.
    pub(crate) async fn advance(&self, by: Duration) {
        let target = self.database.time() + by;
        self.rest().await;
        let clock = self.database.clock();
        while let Some(next) = clock.wake_times().first().copied().filter(|next| *next < target) {
            self.database.set(next).await;
            self.rest().await;
        }
        self.database.set(target).await;
        self.rest().await;
    }

    /// Makes a token. It is known within a second, or at once when there was none that was asked for before.
    pub(crate) async fn token(&self, name: &str, scope: Scope) -> String {
        token(&self.database, name, scope).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answered {
        self.send(&self.request("GET", path, &[], "")).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answered {
        self.send(&self.request("POST", path, &[("Content-Type", "application/json")], body)).await
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answered {
        self.send(&self.request(method, path, headers, body)).await
    }

    /// A request as it goes over the wire.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head.push_str(&format!("Host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        format!("{head}\r\n{body}")
    }

    /// Sends these bytes, and reads until the server closes the connection.
    pub(crate) async fn send(&self, request: &str) -> Answered {
        let talk = async {
            let mut stream = TcpStream::connect(self.address).await.expect("a connection");
            stream.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect("an answer");
            answer
        };
        let answer = tokio::time::timeout(HANGS, talk).await.expect("an answer in time");
        parse(&String::from_utf8(answer).expect("text"))
    }
}

fn build(database: &TestStore, node: &str, api: &str, entries: &str) -> (Arc<App>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let listen = if api.contains("listen") { "" } else { "listen = \"127.0.0.1:0\"\n" };
    let file = format!("[server]\nlease_seconds = 600\n[api]\n{listen}{api}\n{entries}");
    std::fs::write(folder.path().join("writer.toml"), WRITER).expect("written");
    std::fs::write(folder.path().join("listener.toml"), LISTENER).expect("written");
    std::fs::write(folder.path().join("actor_server.toml"), file).expect("written");
    let given = Given {
        config: folder.path().join("actor_server.toml"),
        database_url: Some(database.url().to_owned().into()),
        discord_token: None,
    };
    let read = move || -> Result<LoadedConfig, Problems> {
        load(&given, &|_| None, &|_: &ActorFile, _: &SecretString| Vec::new())
    };
    let config = read().expect("it can be read");
    let node = NodeId::new(node).expect("a name");
    let parts = AppParts {
        delivery: DeliverySettings {
            poll_interval: Duration::from_secs(3_600),
            ..DeliverySettings::default()
        },
        ..AppParts::new(&config, database.clock(), node).expect("platforms")
    };
    (App::build(config, parts, Box::new(read)), folder)
}

fn parse(answer: &str) -> Answered {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let headers = lines.filter_map(|line| line.split_once(": "));
    Answered {
        status,
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body: body.to_owned(),
    }
}

/// Runs a command of the system to its end.
pub(crate) async fn run(mut command: std::process::Command) -> std::process::Output {
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it is waited for");
    output.expect("it can be started")
}

/// Makes a token before there is a server.
pub(crate) async fn token(database: &TestStore, name: &str, scope: Scope) -> String {
    let token = new_token().expect("random bytes");
    let entry = ValidToken { name: name.to_owned(), scope, sha256: hash_of(&token) };
    assert!(database.add_token(entry).await.expect("an answer"), "{name} is taken");
    token
}
