//! Tasks that run after others, and nodes that listen to channels.

use super::events::{keys, listener, number};
use super::players::*;
use crate::databases::TestStore;
use botticelli_server::after::{After, Ends};
use botticelli_server::ledger::{Attempt, Ledger as _, Registration, Trigger};
use botticelli_server::outcome::{AttemptEnd, SkipReason};
use botticelli_server::server::{Event, EventServer as _, GatheredEvents, Gathering};
use botticelli_server::task::Task;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn after(task: &Task, on: Ends) -> After {
    After {
        task: task.id.clone(),
        on,
        filter: BTreeMap::new(),
        gathering: Gathering::Each,
        max_waiting: number(100),
    }
}

/// A task that runs on these ends only.
fn follower(name: &str, upstream: &Task, on: Ends) -> Task {
    Task { after: vec![after(upstream, on)], ..listener(name) }
}

async fn waiting(db: &TestStore, task: &Task) -> Vec<botticelli_server::ids::ExecutionId> {
    let mut waiting = db.agenda(db.time(), None, 1_000).await.expect("an agenda").waiting;
    waiting.sort_by_key(|waiting| waiting.execution_id);
    waiting.into_iter().filter(|one| one.task_id == task.id).map(|one| one.execution_id).collect()
}

/// What waits of the task, taken and ended well.
async fn run_waiting(db: &TestStore, player: &Player, task: &Task) -> Vec<Attempt> {
    let mut ran = Vec::new();
    for id in waiting(db, task).await {
        let attempt = player.take(&[task], &[id]).await.pop().expect("its turn");
        player.end(task, &attempt, AttemptEnd::Succeeded, Made::default()).await;
        ran.push(attempt);
    }
    ran
}

fn event(attempt: &Attempt) -> Value {
    let gathered: GatheredEvents = serde_json::from_value(attempt.parameters.clone()).expect("events");
    gathered.events[0].body.clone()
}

/// Not for an attempt that is made again, nor for an occurrence that was left out.
pub async fn a_task_runs_after_another_once_for_each_end_that_it_wants(db: &TestStore) {
    let upstream = with(each_minute("upstream"), |policy| policy.max_consecutive_failures = number(100));
    let succeeded = follower("succeeded", &upstream, Ends::Succeeded);
    let failed_ends = follower("failed", &upstream, Ends::Failed);
    let finished = follower("finished", &upstream, Ends::Finished);
    let mut filtered = follower("filtered", &upstream, Ends::Finished);
    filtered.after[0].filter.insert("/trigger".into(), "manual".into());
    register(db, &[&upstream, &succeeded, &failed_ends, &finished, &filtered]).await;
    let player = Player::enter(db, "node").await;
    let ran = async || {
        let mut ran = BTreeMap::new();
        for task in [&succeeded, &failed_ends, &finished, &filtered] {
            let attempts = run_waiting(db, &player, task).await;
            if let Some(attempt) = attempts.first() {
                assert_eq!((attempts.len(), attempt.trigger), (1, Trigger::Event));
                ran.insert(task.id.to_string(), event(attempt));
            }
        }
        ran
    };
    let attempt = player.claim(&upstream).await;
    player.end(&upstream, &attempt, failed("no answer"), Made::default()).await;
    assert!(ran().await.is_empty(), "it is tried again");
    db.advance(MINUTE).await;
    let again = player.take(&[&upstream], &[attempt.execution_id]).await.pop().expect("it is time");
    player.end(&upstream, &again, AttemptEnd::Succeeded, Made::default()).await;
    let events = ran().await;
    assert_eq!(events.keys().collect::<Vec<_>>(), ["finished", "succeeded"]);
    let told = &events["succeeded"];
    assert_eq!(told["task_id"], "upstream");
    assert_eq!(told["execution_id"], attempt.execution_id.0);
    assert_eq!((&told["outcome"], &told["attempt"]), (&"succeeded".into(), &2.into()));
    assert_eq!((&told["skills_succeeded"], &told["skills_failed"]), (&2.into(), &1.into()));
    for (end, expected) in [
        (failed_for_good("broken"), &["failed", "finished"][..]),
        (AttemptEnd::Skipped(SkipReason::NothingToPost), &["finished"]),
        (AttemptEnd::Cancelled, &["finished"]),
    ] {
        db.advance(10 * MINUTE).await;
        let attempt = player.claim(&upstream).await;
        player.end(&upstream, &attempt, end, Made::default()).await;
        assert_eq!(ran().await.keys().collect::<Vec<_>>(), expected);
    }
    let asked = Event { task: upstream.id.clone(), trigger: Trigger::Manual, parameters: Value::Null };
    db.publish(asked).await.expect("an answer");
    run_waiting(db, &player, &upstream).await;
    assert_eq!(ran().await.keys().collect::<Vec<_>>(), ["filtered", "finished", "succeeded"]);
    assert_eq!(db.value("SELECT count(*) AS value FROM actor_server_ends").await, "0");
}

/// Whoever died between the end and the run that follows it.
pub async fn an_end_is_passed_on_once_however_many_do_it(db: &TestStore) {
    let upstreams: Vec<Task> = (0..20).map(|n| each_minute(&format!("upstream {n}"))).collect();
    let last = Task {
        after: upstreams.iter().map(|upstream| after(upstream, Ends::Finished)).collect(),
        ..listener("last")
    };
    register(db, &upstreams.iter().chain([&last]).collect::<Vec<_>>()).await;
    let player = Player::enter(db, "node").await;
    let mut opened = Vec::new();
    for upstream in &upstreams {
        let asked = Event { task: upstream.id.clone(), trigger: Trigger::Manual, parameters: Value::Null };
        db.publish(asked).await.expect("an answer");
        opened.extend(waiting(db, upstream).await);
    }
    // These end without anybody who passes them on.
    for id in &opened {
        db.cancel(*id).await.expect("an answer");
    }
    assert_eq!(db.value("SELECT count(*) AS value FROM actor_server_ends").await, "20");
    assert_eq!(waiting(db, &last).await, []);
    let mut passing = Vec::new();
    for _ in 0..4 {
        let store = db.another().await;
        passing.push(tokio::spawn(async move { store.pass_on_ends().await.expect("an answer") }));
    }
    let mut passed_on = 0;
    for passing in passing {
        passed_on += passing.await.expect("no panic");
    }
    assert_eq!(passed_on, 20);
    let ran = run_waiting(db, &player, &last).await;
    let mut told: Vec<i64> =
        ran.iter().map(|attempt| event(attempt)["execution_id"].as_i64().unwrap_or(0)).collect();
    told.sort_unstable();
    assert_eq!(told, opened.iter().map(|id| id.0).collect::<Vec<_>>());
}

/// A server that dies with its third attempt ends it, too.
pub async fn a_task_runs_after_one_that_was_poison(db: &TestStore) {
    let upstream = each_minute("upstream");
    let rescuer = follower("rescuer", &upstream, Ends::Failed);
    register(db, &[&upstream, &rescuer]).await;
    let survivor = Player::enter(db, "survivor").await;
    let first = Player::enter(db, "dies 1").await;
    let attempt = first.claim(&upstream).await;
    for life in 2..=4 {
        db.advance(2 * LEASE).await;
        survivor.store.renew(&survivor.id, LEASE).await.expect("a heartbeat");
        survivor.store.rescue(&survivor.id).await.expect("an answer");
        survivor.store.pass_on_ends().await.expect("an answer");
        if life < 4 {
            assert_eq!(waiting(db, &rescuer).await, []);
            let next = Player::enter(db, &format!("dies {life}")).await;
            let again = next.take(&[&upstream], &[attempt.execution_id]).await.pop().expect("it waits");
            assert!(next.store.begin(&next.id, &again).await.expect("an answer"));
        }
    }
    let ran = run_waiting(db, &survivor, &rescuer).await;
    assert_eq!(ran.len(), 1);
    assert_eq!(event(&ran[0])["execution_id"], attempt.execution_id.0);
}

/// As with all events: together, or left out when too many wait, which is in the history; in the order of the ends.
pub async fn ends_are_gathered_and_bounded_as_events_are(db: &TestStore) {
    let upstream = each_minute("upstream");
    let mut batch = follower("batch", &upstream, Ends::Finished);
    batch.after[0].gathering = Gathering::All { within: 10 * MINUTE, most: number(3) };
    let mut few = follower("few", &upstream, Ends::Finished);
    few.after[0].max_waiting = number(2);
    register(db, &[&upstream, &batch, &few]).await;
    let player = Player::enter(db, "node").await;
    let mut ended = Vec::new();
    for _ in 0..3 {
        let attempt = player.run(&upstream, Vec::new()).await;
        ended.push(format!("execution {}", attempt.execution_id));
        db.advance(MINUTE).await;
    }
    let ran = run_waiting(db, &player, &batch).await;
    assert_eq!(ran.iter().map(keys).collect::<Vec<_>>(), [ended.clone()]);
    let ran: Vec<String> = run_waiting(db, &player, &few).await.iter().flat_map(keys).collect();
    assert_eq!(ran, ended[..2]);
    let history = db.history(&few.id, 10).await.expect("history");
    let left_out: Vec<_> =
        history.iter().filter(|row| row.skip_reason.as_deref() == Some("too_many_waiting")).collect();
    assert_eq!(left_out.len(), 1);
    assert_eq!(left_out[0].metadata["event"]["key"], ended[2].as_str());
}

/// The last registration says who runs after whom, whatever the node that records an end was started with.
pub async fn who_runs_after_whom_is_as_it_was_registered_last(db: &TestStore) {
    let (one, two) = (each_minute("one"), each_minute("two"));
    let last = follower("last", &one, Ends::Succeeded);
    register(db, &[&one, &two, &last]).await;
    let player = Player::enter(db, "node").await;
    let both = async || {
        player.run(&one, Vec::new()).await;
        player.run(&two, Vec::new()).await;
        db.advance(MINUTE).await;
        let ran = run_waiting(db, &player, &last).await;
        ran.iter()
            .map(|attempt| event(attempt)["task_id"].as_str().unwrap_or("").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(both().await, ["one"]);
    let before =
        db.values("SELECT CAST(updated_at AS text) AS value FROM actor_server_state ORDER BY task_id").await;
    db.advance(SECOND).await;
    register(db, &[&one, &two, &last]).await;
    let now =
        db.values("SELECT CAST(updated_at AS text) AS value FROM actor_server_state ORDER BY task_id").await;
    assert_eq!(now, before, "nothing has changed");

    let other = follower("last", &two, Ends::Succeeded);
    // A task that is taken up by itself leaves what others wait for.
    let third = follower("third", &one, Ends::Finished);
    let some = |task: &Task| Registration { tasks: vec![task.clone()], complete: false, start: false };
    db.register(some(&third)).await.expect("an answer");
    assert_eq!(both().await, ["one"]);
    assert_eq!(run_waiting(db, &player, &third).await.len(), 1);
    db.register(some(&other)).await.expect("an answer");
    assert_eq!(both().await, ["two"]);
    let disabled = Task { enabled: false, ..other.clone() };
    register(db, &[&one, &two, &disabled]).await;
    assert_eq!(both().await, [""; 0]);
    let left = waiting(db, &third).await;
    register(db, &[&one, &two, &other]).await;
    assert_eq!(both().await, ["two"]);
    assert_eq!(waiting(db, &third).await, left, "it is gone");
}

/// What a backup has not passed on has been since.
pub async fn ends_of_a_restored_backup_run_nothing(db: &TestStore) {
    let upstream = each_minute("upstream");
    let last = follower("last", &upstream, Ends::Finished);
    register(db, &[&upstream, &last]).await;
    let asked = Event { task: upstream.id.clone(), trigger: Trigger::Manual, parameters: Value::Null };
    for _ in 0..2 {
        db.publish(asked.clone()).await.expect("an answer");
    }
    let open = waiting(db, &upstream).await;
    db.cancel(open[0]).await.expect("an answer");
    assert_eq!(db.value("SELECT count(*) AS value FROM actor_server_ends").await, "1");
    db.restored().await.expect("an answer");
    assert_eq!(db.pass_on_ends().await.expect("an answer"), 0);
    assert_eq!(waiting(db, &last).await, []);
}

/// And hands it on when it goes; what it has heard is known to the next.
pub async fn one_node_at_a_time_listens_to_a_channel(db: &TestStore) {
    const PLACE: &str = "postgres://somewhere/else";
    let (one, two) = (Player::enter(db, "one").await, Player::enter(db, "two").await);
    let take = async |player: &Player, channel: &str, heard: Option<Duration>| {
        let taken = player.store.take_channel(&player.id, PLACE, channel, LEASE, heard).await;
        taken.expect("an answer").map(|heard| heard.until)
    };
    let begun = db.time();
    assert_eq!(take(&one, "orders", None).await, Some(None), "nobody has listened yet");
    assert_eq!(take(&two, "orders", None).await, None);
    assert_eq!(take(&two, "users", None).await, Some(None), "another channel");
    assert_eq!(take(&one, "orders", Some(Duration::ZERO)).await, Some(Some(begun)));
    db.advance(3 * SECOND).await;
    assert_eq!(take(&one, "orders", None).await, Some(Some(begun)), "it still listens");
    assert_eq!(take(&one, "orders", Some(SECOND)).await, Some(Some(begun + 2 * SECOND)));
    one.store.leave_channel(&one.id, PLACE, "orders").await.expect("an answer");
    assert_eq!(take(&two, "orders", None).await, Some(Some(begun + 2 * SECOND)));
    // A node that left, and one that is silent.
    two.store.leave(&two.id).await.expect("an answer");
    assert_eq!(take(&one, "orders", None).await, Some(Some(begun + 2 * SECOND)));
    let three = Player::enter(db, "three").await;
    db.advance(LEASE - SECOND).await;
    three.store.renew(&three.id, LEASE).await.expect("a heartbeat");
    one.store.renew(&one.id, LEASE).await.expect("a heartbeat");
    assert_eq!(take(&three, "orders", None).await, None);
    db.advance(2 * SECOND).await;
    assert_eq!(take(&three, "orders", None).await, Some(Some(begun + 2 * SECOND)));
    assert_eq!(take(&one, "orders", None).await, None);
}
