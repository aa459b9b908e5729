//! Several servers, and commands beside them.

use crate::ledger::Ledger;
use crate::server::{PATIENCE, Server};
use crate::stage::{EVERY_SECOND, Stage, task};
use botticelli_actor::clock::SystemClock;
use botticelli_server::clock::Clock as _;
use chrono::{DateTime, Utc};
use std::time::{Duration, Instant};

/// The word by which a server's log line names its node.
fn node(server: &Server) -> String {
    let log = server.log.text();
    let name = log.split("starting node=").nth(1).and_then(|rest| rest.split_whitespace().next());
    name.unwrap_or_else(|| panic!("no node in {log}")).to_owned()
}

fn many_tasks(stage: &Stage, count: usize) {
    stage.plain_actor();
    let entry = |n| {
        let overlap = if n % 3 == 0 { "queue_one" } else { "skip" };
        task(&format!("t{n}"), EVERY_SECOND, &format!("catch_up = \"all\"\noverlap = \"{overlap}\""))
    };
    stage.server_file(
        "lease_seconds = 2\nmax_concurrent_executions = 4",
        &(0..count).map(entry).collect::<String>(),
    );
}

/// Lets everything come to an end, and proves that it is all there.
fn prove(stage: &Stage, servers: Vec<Server>, first_start: (DateTime<Utc>, DateTime<Utc>)) {
    stage.comes_to_rest();
    for server in servers {
        server.stop();
    }
    let ledger = Ledger::of(stage);
    eprintln!("{}", ledger.summary());
    ledger.accounts_for_every_occurrence(first_start);
    ledger.has_no_failures_but_poison();
    ledger.has_every_post_exactly_once(|_| 1);
    ledger.knows_every_attempt(stage);
}

fn by_node(stage: &Stage, node: &str) -> usize {
    stage.count(&format!("actor_server_executions WHERE node = '{node}'"))
}

#[test]
fn servers_of_one_database_share_the_work_and_hand_on_what_a_dead_one_had() {
    let Some(stage) = Stage::postgres() else { return };
    many_tasks(&stage, 24);
    let before = SystemClock.now();
    let mut servers = vec![stage.started()];
    let first_start = (before, SystemClock.now());
    servers.extend([stage.started(), stage.started()]);
    let nodes: Vec<String> = servers.iter().map(node).collect();
    stage.until("all three have run something", |stage| nodes.iter().all(|node| by_node(stage, node) >= 5));

    servers.remove(0).kill();
    let died = Instant::now();
    let (dead, alive) = (&nodes[0], &nodes[1..]);
    let its = format!("actor_server_open_executions WHERE node = '{dead}'");
    stage.until("what the dead one had is handed on", |stage| {
        stage.count(&format!("actor_server_nodes WHERE node = '{dead}' AND left_at IS NOT NULL")) == 1
    });
    let took = died.elapsed();
    assert!(took < Duration::from_secs(4), "the lease is 2 s, and it took {took:?}");
    assert_eq!(stage.count(&its), 0);

    let leaves = servers.remove(0);
    leaves.stop();
    assert_eq!(stage.count(&format!("actor_server_open_executions WHERE node = '{}'", alive[0])), 0);
    let done = by_node(&stage, &alive[1]);
    stage.until("the last one goes on", |stage| by_node(stage, &alive[1]) > done + 30);
    prove(&stage, servers, first_start);
}

#[test]
fn servers_that_start_at_the_same_moment_migrate_once_and_share_the_work() {
    let Some(stage) = Stage::postgres() else { return };
    many_tasks(&stage, 8);
    let before = SystemClock.now();
    let servers: Vec<Server> = (0..3).map(|_| stage.start()).collect();
    servers.iter().for_each(|server| server.says("running; Ctrl-C stops"));
    let first_start = (before, SystemClock.now());
    stage.until("they have run something", |stage| stage.count("actor_server_executions") > 30);
    prove(&stage, servers, first_start);
}

#[test]
fn a_second_server_of_one_sqlite_file_is_refused() {
    let stage = Stage::sqlite();
    many_tasks(&stage, 1);
    let server = stage.started();
    let second = stage.ask(&[]);
    assert_eq!(second.status.code(), Some(1), "{}", second.err);
    let error: Vec<&str> = second.err.lines().filter(|line| !line.contains(" INFO ")).collect();
    assert!(error[0].starts_with("error: ") && error[0].contains("is in use by another server"), "{error:?}");
    assert_eq!(error[1], "hint: one server serves a SQLite file; stop the other one, or use PostgreSQL");
    server.stop();
}

#[test]
fn commands_beside_a_busy_server_take_effect_within_a_second() {
    for stage in Stage::each() {
        stage.plain_actor();
        let busy: String =
            (0..8).map(|n| task(&format!("busy-{n}"), EVERY_SECOND, "overlap = \"allow\"")).collect();
        let rare = task("rare", "{ type = \"Interval\", seconds = 86400 }", "");
        stage.server_file("", &format!("{busy}{rare}"));
        let server = stage.started();
        let rare_posts = "actor_server_posts WHERE task_id = 'rare' AND state = 'posted'";
        stage.until("the rare one has run", |stage| stage.count(rare_posts) == 1);

        let said = stage.answer(&["tasks", "trigger", "rare"]);
        let asked = Instant::now();
        assert!(said.starts_with("rare: execution "), "{said}");
        stage.until("it runs again", |stage| {
            stage.count("actor_server_executions WHERE task_id = 'rare'") == 2
        });
        in_about_a_second("trigger", asked);
        stage.until("and posts again", |stage| stage.count(rare_posts) == 2);

        let asked = Instant::now();
        assert_eq!(stage.answer(&["tasks", "pause", "busy-0"]), "busy-0: paused");
        let runs =
            |stage: &Stage| stage.json(&["tasks", "history", "busy-0", "--limit", "10000", "--json"]).len();
        stage.until("what runs of it has ended", |stage| {
            stage.count("actor_server_open_executions WHERE task_id = 'busy-0' AND node IS NOT NULL") == 0
        });
        in_about_a_second("pause", asked);
        let (before, others) = (runs(&stage), stage.count("actor_server_executions"));
        stage.until("the others go on", |stage| stage.count("actor_server_executions") > others + 30);
        assert_eq!(runs(&stage), before, "a paused task ran");

        assert!(stage.answer(&["tasks", "resume", "busy-0"]).starts_with("busy-0: resumed"));
        let asked = Instant::now();
        stage.until("it goes on", |stage| runs(stage) > before + 1);
        // The next occurrence may be a second away.
        assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());

        let tasks = stage.json(&["tasks", "list", "--json"]);
        assert_eq!(tasks.len(), 9);
        assert!(tasks.iter().all(|task| task["is_paused"] == false), "{tasks:?}");
        let posts = stage.json(&["posts", "list", "--task", "rare", "--json"]);
        assert_eq!(posts.len(), 2);
        assert!(
            posts.iter().all(|post| post["state"] == "posted" && post["receipt"].is_object()),
            "{posts:?}"
        );

        let ended = server.stop();
        assert!(!ended.err.contains("locked"), "{}", ended.err);
        assert!(!ended.err.contains("ERROR") && !ended.err.contains("WARN"), "{}", ended.err);
    }
}

/// "About" leaves room for a machine that does other things meanwhile.
fn in_about_a_second(what: &str, asked: Instant) {
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(3), "{what} took {took:?}");
}

#[test]
fn many_commands_at_once_never_meet_a_lock() {
    let stage = Stage::sqlite();
    many_tasks(&stage, 20);
    let server = stage.started();
    let commands: Vec<Server> = (0..24)
        .map(|n| {
            let task = format!("t{}", n % 20);
            let arguments: &[&str] = match n % 4 {
                0 => &["tasks", "trigger", &task],
                1 => &["tasks", "pause", &task],
                2 => &["tasks", "list"],
                _ => &["posts", "list"],
            };
            Server::start(&mut stage.command(arguments))
        })
        .collect();
    for command in commands {
        let ended = command.ended_within(PATIENCE);
        assert_eq!((ended.status.code(), ended.err.as_str()), (Some(0), ""));
    }
    assert!(!server.stop().err.contains("locked"));
}
