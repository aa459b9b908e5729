//! How long after the answer to `POST /tasks/{id}/trigger` the task's first skill runs: the whole server, over HTTP.

use crate::harness::{Database, Fresh};
use async_trait::async_trait;
use botticelli_actor::app::{App, AppParts};
use botticelli_actor::clock::SystemClock;
use botticelli_actor::config::{Given, LoadedConfig, Problems, load};
use botticelli_actor::draft::Draft;
use botticelli_actor::engine::node_name;
use botticelli_actor::skill::{ActorContext, Skill, SkillError, Step};
use botticelli_actor::skills::SkillRegistry;
use botticelli_server::clock::Clock as _;
use botticelli_server::outcome::SkipReason;
use botticelli_server::server::ActorServer as _;
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Whether the node that is asked leaves the task to another one.
    elsewhere: bool,
}

pub(crate) const CASES: &[Case] = &[
    Case { name: "trigger_on_the_same_node", elsewhere: false },
    Case { name: "trigger_on_another_node", elsewhere: true },
];

impl Case {
    /// SQLite has one node.
    pub(crate) fn is_for(&self, database: &Database) -> bool {
        !self.elsewhere || matches!(database, Database::Postgres { .. })
    }
}

const WARM_UP: usize = 50;
const TRIGGERS: usize = 1_000;
/// Triggers come at most so often: what is measured is the way of one, not a crowd.
const BETWEEN: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(30);

/// When the skill ran last.
static STARTED: Mutex<Vec<Instant>> = Mutex::new(Vec::new());

/// Notes that it runs, and ends the run.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoteStart {}

#[async_trait]
impl Skill for NoteStart {
    async fn run(&self, _draft: Draft, _context: &ActorContext) -> Result<Step, SkillError> {
        STARTED.lock().expect("no panic").push(Instant::now());
        Ok(Step::Stop { reason: SkipReason::NothingToPost, note: "noted".to_owned() })
    }
}

struct Node {
    app: Arc<App>,
    _folder: TempDir,
}

impl Node {
    /// A server with the task; nodes whose actors differ leave it to the one that started last.
    async fn start(fresh: &Fresh, description: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let actor = format!(
            "[actor]\nname = \"noted\"\ndescription = \"{description}\"\n[[skills]]\nname = \"note_start\"\n"
        );
        let server = "[api]\nlisten = \"127.0.0.1:0\"\n[[actors]]\nname = \"noted\"\nconfig_file = \"noted.toml\"\n\
             schedule = { type = \"Interval\", seconds = 86400 }\noverlap = \"allow\"\n";
        std::fs::write(folder.path().join("noted.toml"), actor).expect("written");
        std::fs::write(folder.path().join("actor_server.toml"), server).expect("written");
        let given = Given {
            config: folder.path().join("actor_server.toml"),
            database_url: Some(fresh.url.clone().into()),
            discord_token: None,
        };
        let read = move || -> Result<LoadedConfig, Problems> {
            load(&given, &|_| None, &|_: &botticelli_actor::config::ActorFile, _: &secrecy::SecretString| {
                Vec::new()
            })
        };
        let config = read().expect("it can be read");
        let clock = Arc::new(SystemClock);
        let node = node_name("bench", std::process::id(), clock.now());
        let parts = AppParts {
            skills: Arc::new(SkillRegistry::standard().register::<NoteStart>("note_start")),
            ..AppParts::new(&config, clock, node).expect("platforms")
        };
        let app = App::build(config, parts, Box::new(read));
        app.start().await.expect("it starts");
        Self { app, _folder: folder }
    }
}

pub(crate) async fn measure(database: &Database, case: &Case) -> Vec<(&'static str, f64)> {
    let fresh = database.fresh().await;
    let asked = Node::start(&fresh, "one").await;
    let other = if case.elsewhere { Some(Node::start(&fresh, "another").await) } else { None };
    let mut client = Client::connect(asked.app.api_address().await.expect("it listens")).await;
    // The first occurrence of its schedule is over then.
    started_after(0).await;
    let mut late = Vec::new();
    for n in 0..WARM_UP + TRIGGERS {
        let before = STARTED.lock().expect("no panic").len();
        let answered = client.trigger().await;
        let started = started_after(before).await;
        if n >= WARM_UP {
            late.push(started.saturating_duration_since(answered).as_secs_f64() * 1_000.0);
        }
        tokio::time::sleep(BETWEEN).await;
    }
    asked.app.stop().await.expect("it stops");
    if let Some(other) = other {
        other.app.stop().await.expect("it stops");
    }
    STARTED.lock().expect("no panic").clear();
    fresh.end().await;
    crate::lateness::figures(late)
}

/// When the first skill after so many ran.
async fn started_after(count: usize) -> Instant {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(started) = STARTED.lock().expect("no panic").get(count) {
            return *started;
        }
        assert!(Instant::now() < deadline, "it did not start");
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

/// One connection that stays open.
struct Client {
    stream: TcpStream,
    request: String,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("TCP");
        let request = format!(
            "POST /tasks/noted/trigger HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: 2\r\n\r\n{{}}"
        );
        Self { stream, request }
    }

    /// When the answer was here.
    async fn trigger(&mut self) -> Instant {
        self.stream.write_all(self.request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        loop {
            let mut part = [0; 4_096];
            let read = self.stream.read(&mut part).await.expect("an answer");
            assert!(read > 0, "the server closed the connection: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&part[..read]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
            });
            if length.is_some_and(|length| body.len() >= length) {
                let answered = Instant::now();
                assert!(head.starts_with("HTTP/1.1 202"), "{text}");
                return answered;
            }
        }
    }
}
