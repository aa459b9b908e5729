//! The API of the real binary on PostgreSQL: how soon it answers with much in the database, and whether that makes the
//! schedules late.

use crate::harness::{Database, Fresh, postgres};
use reqwest::Client;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// Tasks that run every second.
const BUSY: usize = 1_000;
const TASKS: usize = 100_000;
/// Rows of history: half of one task, half of the thousand busy ones.
const EXECUTIONS: usize = 5_000_000;
const REQUESTS_PER_SECOND: u32 = 200;
const WARM_UP: Duration = Duration::from_secs(10);
const MEASURE: Duration = Duration::from_secs(30);

type Figures = Vec<(&'static str, f64)>;

/// Pages of 100 at 200 requests a second, beside 1,000 tasks a second.
pub(crate) async fn lists(database: &Database) -> Figures {
    let server = Server::with_tasks(database, BUSY, TASKS - BUSY, EXECUTIONS).await;
    tokio::time::sleep(WARM_UP).await;
    let (alone_p50, alone_p99) = server.lateness_of_the_next(MEASURE).await;
    let long = format!("task-{:06}", TASKS - 1);
    let urls = [
        server.url("/tasks?limit=100"),
        server.url(&format!("/tasks/{long}/history?limit=100")),
        server.url("/tasks/task-000001/history?limit=100"),
    ];
    let (mut answers, (p50, p99)) =
        tokio::join!(requests(&urls, MEASURE), server.lateness_of_the_next(MEASURE));
    server.end().await;
    let mut histories = answers.split_off(1).concat();
    let tasks = &mut answers[0];
    vec![
        ("tasks_p50", at(tasks, 0.5)),
        ("tasks_p99", at(tasks, 0.99)),
        ("history_p50", at(&mut histories, 0.5)),
        ("history_p99", at(&mut histories, 0.99)),
        ("lateness_alone_p50", alone_p50),
        ("lateness_alone_p99", alone_p99),
        ("lateness_p50", p50),
        ("lateness_p99", p99),
    ]
}

/// `/metrics` with 10,000 tasks.
pub(crate) async fn metrics(database: &Database) -> Figures {
    let server = Server::with_tasks(database, 0, 10_000, 0).await;
    let client = Client::new();
    let url = server.url("/metrics");
    let mut took = Vec::new();
    for _ in 0..200 {
        took.push(answer(&client, &url).await);
    }
    server.end().await;
    vec![("p50", at(&mut took, 0.5)), ("p99", at(&mut took, 0.99))]
}

/// Asks all `urls` in turn, evenly, whether the answers come or not. Returns how long each took, in milliseconds.
async fn requests(urls: &[String], during: Duration) -> Vec<Vec<f64>> {
    let client = Client::new();
    let mut answers = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / REQUESTS_PER_SECOND);
    let until = Instant::now() + during;
    for (number, url) in urls.iter().enumerate().cycle() {
        if Instant::now() > until {
            break;
        }
        tick.tick().await;
        let (client, url) = (client.clone(), url.clone());
        answers.spawn(async move { (number, answer(&client, &url).await) });
    }
    let mut took = vec![Vec::new(); urls.len()];
    while let Some(answer) = answers.join_next().await {
        let (number, milliseconds) = answer.expect("an answer");
        took[number].push(milliseconds);
    }
    took
}

async fn answer(client: &Client, url: &str) -> f64 {
    let asked = Instant::now();
    let answer = client.get(url).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{url}: {}", answer.status());
    answer.bytes().await.expect("a body");
    asked.elapsed().as_secs_f64() * 1_000.0
}

fn at(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}

struct Server {
    process: Child,
    address: String,
    database: Fresh,
    _folder: TempDir,
}

impl Server {
    async fn with_tasks(database: &Database, busy: usize, idle: usize, executions: usize) -> Self {
        let database = database.fresh().await;
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        write_configuration(folder.path(), &database.url, busy, idle);
        let migrated = actor_server(folder.path()).arg("migrate").status().expect("it starts");
        assert!(migrated.success());
        fill(&database.url, busy, busy + idle, executions).await;
        let (process, address) = start(folder.path());
        Self { process, address, database, _folder: folder }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    /// p50 and p99 of what starts meanwhile, in milliseconds.
    async fn lateness_of_the_next(&self, during: Duration) -> (f64, f64) {
        let client = postgres(&self.database.url).await;
        let from: i64 =
            client.query_one("SELECT last_value FROM actor_server_ids", &[]).await.expect("a number").get(0);
        tokio::time::sleep(during).await;
        let sql = "SELECT extract(epoch FROM started_at - scheduled_for)::float8 * 1000 \
                   FROM actor_server_executions WHERE id > $1 AND started_at IS NOT NULL";
        let rows = client.query(sql, &[&from]).await.expect("lateness");
        let mut late: Vec<f64> = rows.iter().map(|row| row.get(0)).collect();
        let expected = BUSY * usize::try_from(during.as_secs()).expect("small");
        assert!(late.len() * 10 > expected * 9, "{} of {expected} ran", late.len());
        (at(&mut late, 0.5), at(&mut late, 0.99))
    }

    async fn end(mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("ended");
        self.database.end().await;
    }
}

/// The busy ones have used their item after the first run, and post nothing from then on.
fn write_configuration(folder: &Path, database: &str, busy: usize, idle: usize) {
    let actor = "[actor]\nname = \"quiet\"\n[[knowledge]]\nname = \"text\"\ntype = \"inline\"\nitems = [\"Hello\"]\n\
                 [[skills]]\nname = \"content_selection\"\n";
    let mut server = format!("[database]\nurl = {database:?}\n[api]\nlisten = \"127.0.0.1:0\"\n");
    for number in 0..busy + idle {
        let schedule = if number < busy {
            "type = \"Interval\"\nseconds = 1"
        } else {
            "type = \"Once\"\nat = \"2099-01-01T00:00:00Z\""
        };
        write!(
            server,
            "[[actors]]\nname = \"task-{number:06}\"\nconfig_file = \"quiet.toml\"\nplatform = \"console\"\n\
             [actors.schedule]\n{schedule}\n"
        )
        .expect("text");
    }
    std::fs::write(folder.join("quiet.toml"), actor).expect("a file");
    std::fs::write(folder.join("actor_server.toml"), server).expect("a file");
}

/// A long history: half of it of the last task, half of those that are busy.
async fn fill(url: &str, busy: usize, tasks: usize, executions: usize) {
    if executions == 0 {
        return;
    }
    let long = tasks - 1;
    let sql = format!(
        "INSERT INTO actor_server_executions (id, task_id, actor_name, trigger, scheduled_for, started_at, completed_at, \
             outcome, success, attempt, node, fence, skills_succeeded) \
         SELECT n, 'task-' || lpad((CASE WHEN n % 2 = 0 THEN {long} ELSE (n / 2) % {busy} END)::text, 6, '0'), 'quiet', \
             'schedule', at, at + interval '1 ms', at + interval '3 ms', 'succeeded', true, 1, 'bench', n, 1 \
         FROM (SELECT n, timestamptz '2026-01-01' + n * interval '1 s' AS at FROM generate_series(1, {executions}) AS n) AS s; \
         SELECT setval('actor_server_ids', {executions});"
    );
    let client = postgres(url).await;
    client.batch_execute(&sql).await.expect("history");
    client.batch_execute("VACUUM ANALYZE actor_server_executions").await.expect("statistics");
}

fn actor_server(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_actor-server"));
    command.current_dir(folder).env_remove("DATABASE_URL").stdout(Stdio::null());
    command
}

/// Starts the server; returns when it says that it runs, with the address of its API.
fn start(folder: &Path) -> (Child, String) {
    #[expect(
        clippy::zombie_processes,
        reason = "`end` waits for it; a server that never runs ends the benchmark"
    )]
    let mut process = actor_server(folder).stderr(Stdio::piped()).spawn().expect("the server starts");
    let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
    let mut address = None;
    for line in lines.by_ref() {
        let line = line.expect("text");
        if let Some((_, listens)) = line.split_once("the API listens on ") {
            address = Some(listens.trim().to_owned());
        }
        if line.contains("running; Ctrl-C stops") {
            // Nobody may wait for us to read what it says.
            std::thread::spawn(move || lines.for_each(drop));
            return (process, address.expect("an address"));
        }
    }
    panic!("the server ended");
}
