//! What a running server does when it is told something.

use crate::server::{PATIENCE, Server};
use crate::stage::{EVERY_SECOND, FROM_FILE, Stage, task};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const RARELY: &str = "{ type = \"Interval\", seconds = 86400 }";

/// An idle server ends as soon as it is told to; this leaves room for a busy machine.
const QUICKLY: Duration = Duration::from_secs(3);

#[test]
fn an_idle_server_stops_quickly_and_well() {
    for stage in Stage::each() {
        stage.plain_actor();
        stage.server_file("", &task("t", RARELY, ""));
        for signal in ["TERM", "INT"] {
            let server = stage.started();
            stage.until("its one run is over", |stage| {
                stage.count("actor_server_posts WHERE state = 'posted'") == 1
            });
            let told = Instant::now();
            server.signal(signal);
            let ended = server.ended_within(PATIENCE);
            assert_eq!(ended.status.code(), Some(0), "{signal}: {}", ended.err);
            assert!(told.elapsed() < QUICKLY, "{signal}: {:?}\n{}", told.elapsed(), ended.err);
            assert!(ended.err.trim_end().ends_with("stopped"), "{}", ended.err);
        }
    }
}

/// A task whose run takes longer than any test.
fn endless(stage: &Stage) {
    let endless = match stage.database.is_postgres() {
        true => "SELECT 1 AS id FROM pg_sleep(600)",
        // Computes one row for ever.
        false => "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) AS id FROM c",
    };
    stage.actor("plain", &format!("type = \"query\"\ntimeout_seconds = 600\nquery = \"{endless}\""), 1);
}

#[test]
fn a_second_signal_stops_at_once_and_what_ran_is_run_again() {
    for stage in Stage::each() {
        endless(&stage);
        stage.server_file("lease_seconds = 2", &task("t", RARELY, ""));
        let server = stage.started();
        stage.until("it runs", |stage| stage.count("actor_server_open_executions") == 1);
        server.signal("TERM");
        server.says("waiting for what runs");
        let told = Instant::now();
        server.signal("INT");
        let ended = server.ended_within(PATIENCE);
        assert_eq!(ended.status.code(), Some(1), "{}", ended.err);
        assert!(told.elapsed() < QUICKLY, "{:?}\n{}", told.elapsed(), ended.err);
        assert!(ended.err.contains("error: stopped by a second signal"), "{}", ended.err);

        stage.actor("plain", FROM_FILE, 1);
        let server = stage.started();
        stage.until("it is run again", |stage| stage.count("actor_server_posts WHERE state = 'posted'") == 1);
        assert_eq!(stage.values("SELECT attempt AS value FROM actor_server_executions"), ["2"]);
        server.stop();
    }
}

#[test]
fn what_dies_with_its_server_three_times_is_failed_and_what_only_waited_is_not() {
    for stage in Stage::each() {
        endless(&stage);
        let tasks = task("one", RARELY, "") + &task("two", RARELY, "");
        let settings = "max_concurrent_executions = 1\nlease_seconds = 2\nshutdown_grace_seconds = 1";
        stage.server_file(settings, &tasks);
        let server = stage.started();
        stage.until("both are claimed", |stage| stage.count("actor_server_open_executions") == 2);
        server.kill();
        let newest = "SELECT begun_at AS value FROM actor_server_open_executions \
             WHERE begun_at IS NOT NULL ORDER BY begun_at DESC LIMIT 1";
        let (mut killed, mut seen) = (Vec::new(), stage.values(newest));
        let failed = loop {
            let server = stage.started();
            stage.until("one begins, or is poison", |stage| {
                let begun = stage.values(newest);
                stage.count("actor_server_executions") == 1 || (!begun.is_empty() && begun != seen)
            });
            if stage.count("actor_server_executions") == 1 {
                server.stop();
                break stage
                    .values("SELECT id AS value FROM actor_server_executions WHERE outcome = 'failed'");
            }
            let begun =
                format!("SELECT id AS value FROM actor_server_open_executions WHERE begun_at = ({newest})");
            killed.extend(stage.values(&begun));
            seen = stage.values(newest);
            server.kill();
        };
        let history = stage.values(
            "SELECT outcome || ' ' || coalesce(error_message, '') AS value FROM actor_server_executions",
        );
        assert_eq!(failed.len(), 1, "{history:?}");
        assert_eq!(
            killed.iter().filter(|id| **id == failed[0]).count(),
            2,
            "and once nobody can tell: {killed:?}"
        );
        stage.actor("plain", FROM_FILE, 1);
        let server = stage.started();
        stage.until("the other one is over", |stage| stage.count("actor_server_executions") == 2);
        server.stop();
        assert_eq!(stage.count("actor_server_executions WHERE outcome = 'succeeded'"), 1);
    }
}

#[test]
fn what_runs_longer_than_the_grace_period_is_handed_on() {
    for stage in Stage::each() {
        endless(&stage);
        stage.server_file("shutdown_grace_seconds = 1", &task("t", RARELY, ""));
        let server = stage.started();
        stage.until("it runs", |stage| stage.count("actor_server_open_executions") == 1);
        let told = Instant::now();
        let ended = server.stop();
        assert!(told.elapsed() < Duration::from_secs(8), "{:?}\n{}", told.elapsed(), ended.err);
        assert_eq!(
            stage.count("actor_server_open_executions WHERE node IS NULL AND interruptions = 0"),
            1,
            "it waits for a node, and nobody is blamed"
        );
        // The next server need not wait for a lease.
        stage.actor("plain", FROM_FILE, 1);
        let server = stage.started();
        stage.until("it is run again", |stage| stage.count("actor_server_posts WHERE state = 'posted'") == 1);
        server.stop();
    }
}

/// Grace period, last moments, and what a busy machine needs besides.
const GRACE_AND_LAST_MOMENTS: Duration = Duration::from_secs(1 + 5 + 4);

#[test]
fn a_stop_with_a_locked_database_has_one_deadline_and_says_what_is_lost() {
    for stage in Stage::each() {
        endless(&stage);
        stage.server_file("shutdown_grace_seconds = 1", &task("lost", RARELY, ""));
        let stopped = |server: Server| {
            let lock = stage.wait(stage.database.lock());
            let told = Instant::now();
            server.signal("TERM");
            let ended = server.ended_within(PATIENCE);
            assert!(told.elapsed() < GRACE_AND_LAST_MOMENTS, "{:?}\n{}", told.elapsed(), ended.err);
            assert_eq!(ended.status.code(), Some(1), "{}", ended.err);
            assert!(!ended.err.contains("INFO stopped"), "that was no good stop: {}", ended.err);
            drop(lock);
            ended.err
        };
        let server = stage.started();
        stage.until("it runs", |stage| stage.count("actor_server_open_executions") == 1);
        let said = stopped(server);
        let error = "error: it has stopped, but the database did not take the last results of lost\nhint: ";
        assert!(said.contains(error), "{said}");
        assert!(said.contains("the result could not be recorded in time"), "{said}");

        stage.server_file("shutdown_grace_seconds = 1", "");
        let said = stopped(stage.started());
        assert!(
            said.contains("error: it has stopped, but the database did not take its last word\nhint: "),
            "{said}"
        );
    }
}

#[test]
fn a_hangup_reloads_and_a_bad_file_changes_nothing() {
    for stage in Stage::each() {
        stage.plain_actor();
        stage.server_file("", &task("one", RARELY, ""));
        let server = stage.started();
        stage.server_file("", &format!("{}{}", task("one", RARELY, ""), task("two", RARELY, "")));
        server.signal("HUP");
        server.says(" added=1 changed=0 removed=0");
        let posted = |task: &str| format!("actor_server_posts WHERE task_id = '{task}' AND state = 'posted'");
        stage.until("the new one runs", |stage| stage.count(&posted("two")) == 1);

        stage.server_file("", &task("three", "{ type = \"Cron\", expression = \"0 0 25 * * * *\" }", ""));
        server.signal("HUP");
        server.says("not reloaded, the server goes on as before");
        assert!(server.log.text().contains("has hour 25"), "{}", server.log.text());

        stage.server_file("", &task("two", RARELY, ""));
        server.signal("HUP");
        server.says(" added=0 changed=0 removed=1");
        assert_eq!(
            stage.values(
                "SELECT task_id || ' ' || pause_reason AS value FROM actor_server_state WHERE is_paused"
            ),
            ["one definition"]
        );
        server.stop();
    }
}

#[test]
fn a_signal_is_heard_while_a_reload_waits_for_the_database() {
    for stage in Stage::each() {
        stage.plain_actor();
        stage.server_file("", "");
        let server = stage.started();
        stage.server_file("", &task("new", RARELY, ""));
        let lock = stage.wait(stage.database.lock());
        server.signal("HUP");
        server.says("reloading the configuration");
        server.signal("TERM");
        server.says("stopping; a second signal stops at once");
        assert!(!server.log.text().contains("reloaded"), "it waits: {}", server.log.text());
        drop(lock);
        let ended = server.ended_within(PATIENCE);
        assert_eq!(ended.status.code(), Some(0), "{}", ended.err);
    }
}

#[test]
fn a_log_that_can_not_be_written_does_not_end_the_server() {
    let stage = Stage::sqlite();
    stage.plain_actor();
    stage.server_file("", &task("t", EVERY_SECOND, ""));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let (reader, nobody_reads) = std::io::pipe().unwrap();
    drop(reader);
    for log in [Stdio::from(full), Stdio::from(nobody_reads)] {
        let done = stage.posted_lines().len();
        let mut server = stage.command(&[]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        stage.until("it posts, and says so to nobody", |stage| stage.posted_lines().len() > done + 2);
        assert!(server.try_wait().unwrap().is_none(), "it lives");
        let term = format!("kill -s TERM {}", server.id());
        assert!(Command::new("sh").args(["-c", &term]).status().unwrap().success());
        assert_eq!(server.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_reader_that_goes_away_does_not_stop_the_server() {
    let stage = Stage::sqlite();
    stage.plain_actor();
    let to_console = task("t", EVERY_SECOND, "").replace("\"file\"", "\"console\"");
    let to_console = to_console.replace("destination = \"t.posts.jsonl\"\n", "");
    stage.server_file("", &format!("{to_console}{}", task("other", EVERY_SECOND, "")));
    // As `actor-server | head -1`: the reader sees a line and closes the pipe.
    let mut command = stage.command(&[]);
    let (reader, writer) = std::io::pipe().unwrap();
    let server = Server::printing_to(&mut command, writer);
    // The command holds the writing end, too.
    drop(command);
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("console:stdout"), "{line}");
    drop(reader);
    server.says("nobody reads the standard output any more");
    let done = stage.posted_lines().len();
    stage.until("the other task goes on", |stage| stage.posted_lines().len() > done + 1);
    let deferred = "actor_server_posts WHERE platform = 'console' AND state = 'deferred'";
    assert!(stage.count(deferred) > 0, "what could not be shown waits");
    server.stop();
}

/// What systemd hears of it, by the socket that it names in the environment.
#[test]
fn systemd_is_told_when_it_runs_reloads_hangs_not_and_stops() {
    let stage = Stage::sqlite();
    stage.plain_actor();
    stage.server_file("", &task("t", RARELY, ""));
    let heard = UnixDatagram::bind(stage.path("notify")).unwrap();
    heard.set_read_timeout(Some(PATIENCE)).unwrap();
    let hears = |wanted: &str| {
        let mut text = [0; 256];
        loop {
            let length = heard.recv(&mut text).unwrap_or_else(|error| panic!("{wanted}: {error}"));
            let said = String::from_utf8_lossy(&text[..length]).into_owned();
            if said != "WATCHDOG=1\n" || said.starts_with(wanted) {
                assert!(said.starts_with(wanted), "{said}, not {wanted}");
                return;
            }
        }
    };
    let mut command = stage.command(&[]);
    let server =
        Server::start(command.env("NOTIFY_SOCKET", stage.path("notify")).env("WATCHDOG_USEC", "3000000"));
    hears("READY=1");
    hears("WATCHDOG=1");
    hears("WATCHDOG=1");
    server.signal("HUP");
    hears("RELOADING=1\nMONOTONIC_USEC=");
    hears("READY=1");
    server.signal("TERM");
    hears("STOPPING=1");
    assert_eq!(server.ended_within(PATIENCE).status.code(), Some(0));
}
