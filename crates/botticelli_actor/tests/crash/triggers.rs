//! Whatever makes tasks run besides their schedule makes them run once, at whatever moment a server is killed.

use crate::server::Server;
use crate::stage::{EVERY_SECOND, Stage, task};
use botticelli_testkit::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const KILLS: usize = 8;

/// A task that says which task it is, and of which event.
fn reacting(name: &str, trigger: &str) -> String {
    format!(
        "[[actors]]\nname = \"{name}\"\nconfig_file = \"reacts.toml\"\nplatform = \"file\"\n\
         destination = \"{name}.posts.jsonl\"\nmax_consecutive_failures = 1000\n[[actors.triggers]]\n{trigger}\n"
    )
}

fn reacting_actor(stage: &Stage, template: &str) {
    stage.write(
        "reacts.toml",
        format!(
            "[actor]\nname = \"reacts\"\n[[knowledge]]\nname = \"event\"\ntype = \"event\"\n\
             [[skills]]\nname = \"content_selection\"\nlimit = 100\n\
             [[skills]]\nname = \"content_formatter\"\ntemplate = \"{template}\"\n"
        ),
    );
}

/// The texts that tasks of this name have posted.
fn posted(stage: &Stage, name: &str) -> Vec<String> {
    let file = stage.path(&format!("{name}.posts.jsonl"));
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = |line: &str| -> serde_json::Value { serde_json::from_str(line).unwrap() };
    text.lines().map(|text| line(text)["content"].as_str().unwrap().to_owned()).collect()
}

fn waits_for_nothing(stage: &Stage, tasks: &[&str]) {
    let names = tasks.iter().map(|task| format!("'{task}'")).collect::<Vec<_>>().join(", ");
    // In one statement: an end that becomes a run in between would be in neither table.
    let waits = format!(
        "(SELECT 1 FROM actor_server_open_executions WHERE task_id IN ({names}) \
         UNION ALL SELECT 1 FROM actor_server_ends \
         UNION ALL SELECT 1 FROM actor_server_posts WHERE state IN ('pending', 'deferred', 'sending')) AS waits"
    );
    stage.until("all has run that was asked for", |stage| stage.count(&waits) == 0);
}

fn chance() -> Random {
    use botticelli_server::clock::Clock as _;
    let seed = botticelli_actor::clock::SystemClock.now().timestamp_micros().unsigned_abs();
    eprintln!("chance: {seed}");
    Random(seed)
}

fn pass(random: &mut Random, most: u64) {
    std::thread::sleep(Duration::from_micros(random.below(most)));
}

/// Where the server's API listens.
fn address(server: &Server) -> String {
    server.says("the API listens on http://");
    let log = server.log.text();
    let rest = log.split("the API listens on http://").nth(1).expect("it said so");
    rest.lines().next().expect("a line").trim().to_owned()
}

/// Hands in event `n`. Says whether it was answered with 202: whoever sees no answer sends it again.
fn send(address: &str, n: usize) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let body = format!("{{\"id\": \"event-{n}\"}}");
    write!(
        stream,
        "POST /events/deploys HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Idempotency-Key: event-{n}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

#[test]
fn events_that_were_accepted_run_once_at_whatever_moment_the_server_is_killed() {
    for stage in Stage::each() {
        let mut random = chance();
        reacting_actor(&stage, "{{ task }} {{ id }}");
        let trigger = "type = \"webhook\"\nname = \"deploys\"\nmax_waiting = 10000";
        let batch = format!("{trigger}\nbatch_seconds = 1\nbatch_max = 7");
        let allow = reacting("beside", trigger).replace("config_file", "overlap = \"allow\"\nconfig_file");
        let tasks = reacting("alone", trigger) + &allow + &reacting("batch", &batch);
        let tasks = format!("[api]\nlisten = \"127.0.0.1:0\"\n{tasks}");
        stage.server_file("lease_seconds = 2\ncheck_interval_seconds = 5", &tasks);

        let mut accepted = 0;
        for _ in 0..KILLS {
            let server = stage.started();
            let address = address(&server);
            let until = accepted + 1 + random.index(25);
            let sender = std::thread::spawn(move || {
                // From the first that nobody is known to have taken.
                (accepted..until).take_while(|n| send(&address, *n) == Some(202)).count()
            });
            if random.one_in(2) {
                pass(&mut random, 100_000);
                server.kill();
                accepted += sender.join().unwrap();
            } else {
                accepted += sender.join().unwrap();
                pass(&mut random, 20_000);
                server.kill();
            }
        }
        let server = stage.started();
        let address = address(&server);
        assert_eq!(send(&address, accepted), Some(202), "perhaps again");
        waits_for_nothing(&stage, &["alone", "beside", "batch"]);
        server.stop();
        eprintln!("{} events", accepted + 1);
        for name in ["alone", "beside", "batch"] {
            let wanted: BTreeSet<String> = (0..=accepted).map(|n| format!("{name} event-{n}")).collect();
            let posted = posted(&stage, name);
            let unique: BTreeSet<String> = posted.iter().cloned().collect();
            assert_eq!(unique.len(), posted.len(), "{name} has posted one twice: {posted:?}");
            let of_task = |outcome: &str| {
                stage.count(&format!("actor_server_executions WHERE task_id = '{name}' AND {outcome}"))
            };
            let poison = of_task("outcome = 'failed' AND error_message LIKE '%died 3 times%'");
            assert_eq!(of_task("outcome = 'succeeded'") + poison, of_task("outcome <> ''"), "{name}");
            if name == "batch" {
                // One run posts them one by one, or not at all.
                assert!(unique.is_subset(&wanted), "{name}: {unique:?}");
                assert!(poison > 0 || unique == wanted, "{name}: {unique:?}");
            } else {
                assert_eq!(of_task("outcome <> ''"), wanted.len(), "{name}: one run for each");
                assert_eq!(unique.len(), wanted.len() - poison, "{name}: {unique:?}");
                assert!(unique.is_subset(&wanted), "{name}: {unique:?}");
            }
        }
    }
}

#[test]
fn each_end_runs_what_comes_after_it_once_at_whatever_moment_the_server_is_killed() {
    for stage in Stage::each() {
        chained(&stage, 1);
    }
}

#[test]
fn each_end_runs_what_comes_after_it_once_in_a_cluster_too() {
    let Some(stage) = Stage::postgres() else { return };
    chained(&stage, 3);
}

/// The ends of these tasks, by execution: all of their executions, as none was left out without a run.
fn ends(stage: &Stage, task: &str) -> BTreeSet<String> {
    let ran = format!(
        "SELECT CAST(id AS text) AS value FROM actor_server_executions WHERE task_id = '{task}' AND attempt > 0"
    );
    stage.values(&ran).into_iter().collect()
}

fn chained(stage: &Stage, servers: usize) {
    let mut random = chance();
    stage.plain_actor();
    reacting_actor(stage, "{{ execution_id }}");
    let after = |upstream: &str| {
        format!("type = \"after\"\ntask = \"{upstream}\"\non = \"finished\"\nmax_waiting = 10000")
    };
    let source =
        |name: &str| task(name, EVERY_SECOND, "overlap = \"allow\"\nmax_consecutive_failures = 1000");
    let tasks = ["a", "b", "c"].map(source).concat()
        + &reacting("after-a", &after("a"))
        + &reacting("after-b", &after("b")).replace("config_file", "overlap = \"allow\"\nconfig_file")
        + &reacting("last", &format!("{}\n[[actors.triggers]]\n{}", after("after-a"), after("after-b")));
    stage.server_file("lease_seconds = 2\ncheck_interval_seconds = 5", &tasks);
    let mut running: Vec<Server> = (0..servers).map(|_| stage.started()).collect();
    for _ in 0..KILLS {
        let victim = running.remove(random.index(running.len()));
        let _seen = victim.log.reaches(3 + random.index(10), " succeeded ", Duration::from_secs(3));
        pass(&mut random, 30_000);
        victim.kill();
        running.push(stage.started());
    }
    // The sources dry up, and what comes after them runs out.
    for source in ["a", "b", "c"] {
        let task = botticelli_server::ids::TaskId::new(source).unwrap();
        assert!(stage.wait(stage.store().pause(&task)).unwrap());
    }
    stage.until("the sources have ended", |stage| {
        stage.count("actor_server_open_executions WHERE task_id IN ('a', 'b', 'c') AND node IS NOT NULL") == 0
    });
    // What of them waits for its next attempt waits for the end of the pause.
    for source in ["a", "b", "c"] {
        for id in stage.values(&format!(
            "SELECT CAST(id AS text) AS value FROM actor_server_open_executions WHERE task_id = '{source}'"
        )) {
            let id = botticelli_server::ids::ExecutionId(id.parse().unwrap());
            stage.wait(stage.store().cancel(id)).unwrap();
        }
    }
    waits_for_nothing(stage, &["a", "b", "c", "after-a", "after-b", "last"]);
    running.into_iter().for_each(|server| drop(server.stop()));

    let mut counts = BTreeMap::new();
    for (name, upstreams) in [("after-a", &["a"][..]), ("after-b", &["b"]), ("last", &["after-a", "after-b"])]
    {
        let wanted: BTreeSet<String> =
            upstreams.iter().flat_map(|task| ends_or_cancelled(stage, task)).collect();
        let posted = posted(stage, name);
        let unique: BTreeSet<String> = posted.iter().cloned().collect();
        assert_eq!(unique.len(), posted.len(), "{name} ran twice after one of {posted:?}");
        let failed = stage.count(&format!(
            "actor_server_executions WHERE task_id = '{name}' AND outcome = 'failed' AND error_message LIKE '%died 3 times%'"
        ));
        let runs = stage.count(&format!("actor_server_executions WHERE task_id = '{name}'"));
        assert_eq!(runs, wanted.len(), "{name}: one run for each end");
        assert!(unique.is_subset(&wanted), "{name} ran after what has not ended");
        assert_eq!(unique.len() + failed, wanted.len(), "{name}");
        counts.insert(name, runs);
    }
    eprintln!("{counts:?}");
    assert!(counts["last"] > 10, "{counts:?}");
}

/// With those that a person ended before they ran.
fn ends_or_cancelled(stage: &Stage, task: &str) -> BTreeSet<String> {
    let cancelled = format!(
        "SELECT CAST(id AS text) AS value FROM actor_server_executions WHERE task_id = '{task}' AND outcome = 'cancelled'"
    );
    let mut all = ends(stage, task);
    all.extend(stage.values(&cancelled));
    all
}

#[test]
fn each_notification_runs_once_in_a_cluster_whose_servers_come_and_go() {
    let Some(stage) = Stage::postgres() else { return };
    reacting_actor(&stage, "{{ n }}");
    let trigger = "type = \"postgres\"\nchannel = \"orders\"\nmax_waiting = 10000";
    stage.server_file("lease_seconds = 2", &reacting("orders", trigger));
    let mut servers: Vec<Server> = (0..3).map(|_| stage.started()).collect();
    let listens = |stage: &Stage| {
        stage.values("SELECT node AS value FROM actor_server_listeners WHERE heard_until IS NOT NULL AND lease_until > now()")
    };
    let mut n = 0;
    let notify = |stage: &Stage, n: &mut i32| {
        for _ in 0..20 {
            stage.sql(&format!("SELECT pg_notify('orders', '{{\"n\": {n}}}')"));
            *n += 1;
        }
    };
    stage.until("one of them listens", |stage| listens(stage).len() == 1);
    notify(&stage, &mut n);
    // One that does not listen goes, and one that does; in good order, so that another one listens soon.
    for _ in 0..2 {
        let listener = listens(&stage).remove(0);
        let is_listener = |server: &Server| server.log.text().contains(&format!("starting node={listener}"));
        let other = servers.iter().position(|server| !is_listener(server)).expect("others live");
        servers.remove(other).kill();
        notify(&stage, &mut n);
        servers.push(stage.started());
        stage.until("all is taken", |stage| {
            stage.count("actor_server_executions WHERE task_id = 'orders'") == usize::try_from(n).unwrap()
        });
        let listening = servers.iter().position(is_listener).expect("it lives");
        servers.remove(listening).stop();
        stage.until("another one listens", |stage| {
            listens(stage).first().is_some_and(|node| *node != listener)
                && servers.iter().any(|server| server.log.text().contains("a gap: nobody has listened"))
        });
        let listening = |server: &Server| server.log.text().contains(" listening ");
        stage.until("it says so", |_| servers.iter().any(listening));
        notify(&stage, &mut n);
    }
    waits_for_nothing(&stage, &["orders"]);
    stage.until("all is taken", |stage| {
        stage.count("actor_server_executions WHERE task_id = 'orders'") == usize::try_from(n).unwrap()
    });
    waits_for_nothing(&stage, &["orders"]);
    servers.into_iter().for_each(|server| drop(server.stop()));
    let mut posted: Vec<i32> = posted(&stage, "orders").iter().map(|text| text.parse().unwrap()).collect();
    posted.sort_unstable();
    assert_eq!(posted, (0..n).collect::<Vec<_>>());
}
