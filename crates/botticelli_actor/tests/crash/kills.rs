//! Killed at any moment: every occurrence is accounted for, and every post appears once.

use crate::ledger::Ledger;
use crate::server::Server;
use crate::stage::{EVERY_SECOND, FROM_FILE, Stage, task};
use botticelli_actor::clock::SystemClock;
use botticelli_server::clock::Clock as _;
use botticelli_server::ids::TaskId;
use botticelli_server::ledger::Trigger;
use botticelli_server::server::{Accepted, Event, EventServer as _};
use botticelli_testkit::random::Random;
use std::time::Duration;

#[test]
fn on_sqlite_nothing_is_lost_and_nothing_doubled_at_whatever_moment_the_server_is_killed() {
    // SQLite computes so long for the items of a slow actor.
    let slow = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000) \
                SELECT 'slow-' || n AS id FROM c ORDER BY c.n DESC LIMIT 300";
    killed_again_and_again(Stage::sqlite(), slow);
}

#[test]
fn on_postgresql_nothing_is_lost_and_nothing_doubled_at_whatever_moment_the_server_is_killed() {
    let Some(stage) = Stage::postgres() else { return };
    let slow = "SELECT 'slow-' || n AS id FROM generate_series(1, 300) AS n, pg_sleep(0.15)";
    killed_again_and_again(stage, slow);
}

/// Items that an actor called `bulk` posts in one run.
const BULK: usize = 5;

fn load(stage: &Stage, slow: &str) -> Vec<String> {
    stage.plain_actor();
    stage.actor("bulk", FROM_FILE, BULK);
    stage.actor("slow", &format!("type = \"query\"\nquery = \"{slow}\""), 1);
    let cron = "{ type = \"Cron\", expression = \"* * * * * * *\" }";
    let long_ago = "{ type = \"Once\", at = \"2026-01-02T03:04:05Z\" }";
    let soon = (SystemClock.now() + Duration::from_secs(2)).format("%FT%TZ");
    let soon = format!("{{ type = \"Once\", at = \"{soon}\" }}");
    let at_once = "{ type = \"Immediate\" }";
    let mut tasks = Vec::new();
    let mut add = |name: &str, schedule: &str, actor: &str, more: &str| {
        let entry = task(name, schedule, &format!("max_consecutive_failures = 1000\n{more}"));
        tasks.push((name.to_owned(), entry.replace("plain.toml", &format!("{actor}.toml"))));
    };
    for overlap in ["skip", "queue_one", "allow"] {
        for catch_up in ["all", "latest", "skip"] {
            let more = format!("catch_up = \"{catch_up}\"\noverlap = \"{overlap}\"");
            let more = if catch_up == "all" { format!("{more}\ncatch_up_limit = 20") } else { more };
            add(&format!("interval-{overlap}-{catch_up}"), EVERY_SECOND, "plain", &more);
            add(&format!("cron-{overlap}-{catch_up}"), cron, "plain", &more);
        }
        let more = format!("catch_up = \"all\"\ncatch_up_limit = 20\noverlap = \"{overlap}\"");
        add(&format!("slow-{overlap}"), EVERY_SECOND, "slow", &more);
        add(&format!("bulk-{overlap}"), cron, "bulk", &more);
    }
    add("jitter", EVERY_SECOND, "plain", "catch_up = \"all\"\ncatch_up_limit = 20\njitter_seconds = 1");
    add("long-ago", long_ago, "plain", "");
    add("soon", &soon, "slow", "");
    add("at-once", at_once, "plain", "");
    add("at-once-slow", at_once, "slow", "");
    // Some share a destination.
    let entry = |(name, entry): &(String, String)| match name.starts_with("cron") {
        true => entry.replace(&format!("{name}.posts"), "shared.posts"),
        false => entry.clone(),
    };
    let entries: String = tasks.iter().map(entry).collect();
    stage.server_file("lease_seconds = 2\ncheck_interval_seconds = 5", &entries);
    tasks.into_iter().map(|(name, _)| name).collect()
}

fn killed_again_and_again(stage: Stage, slow: &str) {
    let (kills, seed) =
        (setting("CRASH_KILLS").unwrap_or(25), setting("CRASH_SEED").unwrap_or_else(arbitrary));
    eprintln!("CRASH_SEED={seed} CRASH_KILLS={kills}");
    let mut random = Random(seed);
    let tasks = load(&stage, slow);

    let before = SystemClock.now();
    let server = stage.started();
    let first_start = (before, SystemClock.now());
    pass(&mut random, 300_000);
    server.kill();
    let mut triggered = Vec::new();
    for _ in 1..kills {
        let server = stage.start();
        if random.one_in(3) {
            triggered.push(trigger(&stage, &tasks[random.index(tasks.len())]));
        }
        choose_moment(&mut random, &server);
        server.kill();
    }

    // Left alone, it comes to rest; told to, it stops.
    let last_start = SystemClock.now();
    let server = stage.started();
    let behind = format!("actor_server_state WHERE next_run <= '{}'", last_start.format("%F %T%.6f+00:00"));
    stage.until("the missed occurrences are made up for", |stage| stage.count(&behind) == 0);
    stage.comes_to_rest();
    server.stop();

    let ledger = Ledger::of(&stage);
    eprintln!("{}", ledger.summary());
    ledger.accounts_for_every_occurrence(first_start);
    ledger.has_each_trigger_once(&triggered);
    ledger.has_no_failures_but_poison();
    ledger.has_every_post_exactly_once(|task| if task.starts_with("bulk") { BULK } else { 1 });
    ledger.knows_every_attempt(&stage);
}

fn trigger(stage: &Stage, task: &str) -> i64 {
    let event = Event {
        task: TaskId::new(task).unwrap(),
        trigger: Trigger::Manual,
        parameters: serde_json::Value::Null,
    };
    match stage.wait(stage.store().publish(event)).unwrap() {
        Accepted::Execution(id) => id.0,
        Accepted::UnknownTask => panic!("{task} is registered"),
    }
}

/// Lets up to so many microseconds go by; short times are the likelier ones.
fn pass(random: &mut Random, most: u64) {
    let square = random.below(most) * random.below(most) / most;
    std::thread::sleep(Duration::from_micros(square));
}

/// Waits for the moment to kill.
fn choose_moment(random: &mut Random, server: &Server) {
    // After a kill a cluster waits for the lease of the dead: such a line may not come.
    const A_WHILE: Duration = Duration::from_millis(1_000);
    match random.below(8) {
        // While it starts.
        0 => pass(random, 200_000),
        // After its first sign of life.
        1 | 2 => {
            server.says("starting");
            pass(random, 300_000);
        }
        3 => {
            server.says("running; Ctrl-C stops");
            pass(random, 300_000);
        }
        // In the midst of it: something was just recorded, or posted, and the next is under way.
        choice => {
            let words = if choice % 2 == 0 { " succeeded " } else { " posted " };
            let count = 1 + random.index(20);
            let _seen = server.log.reaches(count, words, A_WHILE);
            pass(random, 20_000);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the caller's wishes for this test")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
}

fn arbitrary() -> u64 {
    SystemClock.now().timestamp_micros().unsigned_abs()
}
