//! The real binary: its memory, and how soon it runs.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    kind: Kind,
}

enum Kind {
    /// Resident memory with so many idle tasks.
    Memory(usize),
    /// From the start of the process on an existing database until it runs.
    StartUp(usize),
}

pub(crate) const CASES: &[Case] = &[
    Case { name: "memory_idle_10000_tasks", unit: "MB", kind: Kind::Memory(10_000) },
    Case { name: "memory_idle_100000_tasks", unit: "MB", kind: Kind::Memory(100_000) },
    Case { name: "start_up_4_tasks", unit: "ms", kind: Kind::StartUp(4) },
    Case { name: "start_up_10000_tasks", unit: "ms", kind: Kind::StartUp(10_000) },
];

pub(crate) async fn measure(case: &Case) -> Vec<(&'static str, f64)> {
    match case.kind {
        Kind::Memory(tasks) => {
            let folder = folder(tasks);
            let (mut server, _) = start(folder.path());
            tokio::time::sleep(Duration::from_secs(5)).await;
            let figures = vec![("resident", status(&server, "VmRSS")), ("peak", status(&server, "VmHWM"))];
            end(&mut server);
            figures
        }
        Kind::StartUp(tasks) => {
            let folder = folder(tasks);
            let (mut first, _) = start(folder.path());
            end(&mut first);
            let (mut server, elapsed) = start(folder.path());
            end(&mut server);
            vec![("until_running", elapsed.as_secs_f64() * 1_000.0)]
        }
    }
}

/// A configuration of tasks that are due in the far future.
fn folder(tasks: usize) -> TempDir {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let actor = "[actor]\nname = \"idle\"\n[[knowledge]]\nname = \"text\"\ntype = \"inline\"\nitems = [\"Hello\"]\n\
         [[skills]]\nname = \"content_selection\"\n";
    let mut server = String::from("[database]\nurl = \"sqlite://bench.db\"\n");
    for number in 0..tasks {
        let minute = number % 60;
        write!(
            server,
            "[[actors]]\nname = \"task-{number:06}\"\nconfig_file = \"idle.toml\"\nplatform = \"console\"\n\
             [actors.schedule]\ntype = \"Cron\"\nexpression = \"0 {minute} 3 1 1 * *\"\n"
        )
        .expect("text");
    }
    std::fs::write(folder.path().join("idle.toml"), actor).expect("a file");
    std::fs::write(folder.path().join("actor_server.toml"), server).expect("a file");
    folder
}

/// Starts the server; returns when it says that it runs.
fn start(folder: &Path) -> (Child, Duration) {
    let started = Instant::now();
    #[expect(
        clippy::zombie_processes,
        reason = "`end` waits for it; a server that never runs ends the benchmark"
    )]
    let mut server = Command::new(env!("CARGO_BIN_EXE_actor-server"))
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let lines = BufReader::new(server.stderr.take().expect("piped")).lines();
    for line in lines {
        if line.expect("text").contains("running; Ctrl-C stops") {
            return (server, started.elapsed());
        }
    }
    panic!("the server ended");
}

fn end(server: &mut Child) {
    server.kill().expect("killed");
    server.wait().expect("ended");
}

/// A line of `/proc/PID/status`, in MB.
fn status(server: &Child, name: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).expect("a status");
    let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
    let kilobytes: f64 =
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kilobytes / 1_024.0
}
