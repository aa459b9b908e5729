//! Nodes that die, stall, stop and come back.

use super::players::*;
use crate::databases::TestStore;
use botticelli_server::ids::NodeId;
use botticelli_server::ledger::Trigger;
use botticelli_server::ledger::{Attempt, Lease, Ledger as _, Rescued};
use botticelli_server::outcome::AttemptEnd;
use botticelli_server::server::{Accepted, Event, EventServer as _};
use botticelli_server::task::Overlap;
use std::num::NonZeroU32;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

async fn take(player: &Player, rescued: &Rescued) -> Vec<Attempt> {
    player.store.take(&player.id, &rescued.handed_on, &[], Duration::ZERO).await.expect("an answer")
}

/// Another node goes on, and history says that there was an interruption, which is not a failure.
pub async fn a_dead_nodes_executions_are_handed_on_when_its_lease_is_over(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let (dying, living) = (Player::enter(db, "dying").await, Player::enter(db, "living").await);
    let lost = dying.claim(&task).await;
    db.advance(LEASE).await;
    living.store.renew(&living.id, LEASE).await.expect("a heartbeat");
    assert_eq!(db.living_nodes().await.expect("nodes"), [dying.id.clone(), living.id.clone()]);
    assert_eq!(living.store.rescue(&living.id).await.expect("an answer"), Rescued::default(), "not yet");
    db.advance(SECOND).await;
    assert_eq!(db.living_nodes().await.expect("nodes"), std::slice::from_ref(&living.id));
    let rescued = living.store.rescue(&living.id).await.expect("an answer");
    assert_eq!(rescued.nodes, std::slice::from_ref(&dying.id));
    assert_eq!(
        (rescued.handed_on.as_slice(), rescued.poisoned.as_slice()),
        (&[lost.execution_id][..], &[][..])
    );
    assert_eq!(living.store.rescue(&living.id).await.expect("an answer"), Rescued::default(), "once");
    assert_eq!(dying.store.renew(&dying.id, LEASE).await.expect("an answer"), Lease::Lost);

    let attempt = take(&living, &rescued).await.pop().expect("it can be taken at once");
    assert_eq!((attempt.execution_id, attempt.attempt), (lost.execution_id, 2));
    assert_eq!((attempt.scheduled_for, attempt.consecutive_failures), (lost.scheduled_for, 0));
    assert!(attempt.fence > lost.fence);
    let change = living.end(&task, &attempt, AttemptEnd::Succeeded, Made::default()).await;
    assert_eq!(change.consecutive_failures, 0);
    let earlier = db.earlier_attempts(lost.execution_id).await.expect("attempts");
    assert_eq!((earlier[0].ended.as_str(), earlier[0].node.as_str()), ("interrupted", "dying"));
}

/// Nobody takes anything from a node that speaks up in time, or late but before anybody looked.
pub async fn a_stall_shorter_than_the_lease_costs_nothing(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let (stalled, other) = (Player::enter(db, "stalled").await, Player::enter(db, "other").await);
    let attempt = stalled.claim(&task).await;
    db.advance(LEASE - SECOND).await;
    assert_eq!(other.store.rescue(&other.id).await.expect("an answer"), Rescued::default());
    assert_eq!(stalled.store.renew(&stalled.id, LEASE).await.expect("an answer"), Lease::Held);
    db.advance(LEASE - SECOND).await;
    assert!(!other.store.rescue(&other.id).await.expect("an answer").nodes.contains(&stalled.id));
    db.advance(2 * SECOND).await;
    assert_eq!(stalled.store.renew(&stalled.id, LEASE).await.expect("an answer"), Lease::Held);
    stalled.end(&task, &attempt, AttemptEnd::Succeeded, Made::default()).await;
    assert_eq!(db.earlier_attempts(attempt.execution_id).await.expect("attempts"), []);
}

/// However long it was silent: it lives.
pub async fn a_node_does_not_rescue_itself(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let attempt = player.claim(&task).await;
    db.advance(10 * LEASE).await;
    assert_eq!(player.store.rescue(&player.id).await.expect("an answer"), Rescued::default());
    assert_eq!(player.store.renew(&player.id, LEASE).await.expect("an answer"), Lease::Held);
    player.end(&task, &attempt, AttemptEnd::Succeeded, Made::default()).await;
}

/// Whatever kills its server three times is poison: one failure.
pub async fn the_third_interruption_of_an_execution_fails_it(db: &TestStore) {
    let task = with(task("task", every(86_400)), |policy| {
        policy.max_consecutive_failures = NonZeroU32::MIN;
        policy.cooldown = Some(MINUTE);
    });
    register(db, &[&task]).await;
    let mut victim = Player::enter(db, "victim 0").await;
    let mut attempt = victim.claim(&task).await;
    for death in 1..=3_u32 {
        db.advance(LEASE + SECOND).await;
        let next = Player::enter(db, &format!("victim {death}")).await;
        let rescued = next.store.rescue(&next.id).await.expect("an answer");
        if death < 3 {
            assert_eq!(rescued.handed_on, [attempt.execution_id]);
            attempt = take(&next, &rescued).await.pop().expect("it can be taken");
            assert_eq!(attempt.attempt, death + 1);
        } else {
            assert_eq!((rescued.handed_on.len(), rescued.poisoned), (0, vec![attempt.execution_id]));
        }
        victim = next;
    }
    let over = db.execution(attempt.execution_id).await.expect("an answer").expect("it is over");
    assert_eq!((over.outcome.as_deref(), over.success, over.attempt), (Some("failed"), Some(false), 3));
    assert!(over.error_message.expect("a reason").contains("died 3 times"));
    let state = state(db, &task).await;
    assert_eq!((state.consecutive_failures, state.is_paused), (1, true));
    assert_eq!(state.probe_at, Some(db.time() + MINUTE));
    assert_eq!(db.earlier_attempts(attempt.execution_id).await.expect("attempts").len(), 3);
    let ended = victim.ended(&task, &attempt, AttemptEnd::Succeeded, Made::default()).await;
    assert_eq!(victim.record(ended).await, botticelli_server::ledger::Recorded::Stale);
}

/// Neither is anybody's fault.
pub async fn work_that_is_given_back_or_left_behind_in_good_order_does_not_count(db: &TestStore) {
    let task = task("task", every(86_400));
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let mut attempt = player.claim(&task).await;
    for _ in 0..4 {
        player.store.release(&player.id, std::slice::from_ref(&attempt)).await.expect("an answer");
        let waiting = [attempt.execution_id];
        let mut taken =
            player.store.take(&player.id, &waiting, &[], Duration::ZERO).await.expect("an answer");
        attempt = taken.pop().expect("it can be taken");
        assert_eq!(attempt.attempt, 1, "it did not begin");
    }
    assert_eq!(db.earlier_attempts(attempt.execution_id).await.expect("attempts"), []);
    db.advance(SECOND).await;
    for stop in 2..6_u32 {
        let leaving = Player::enter(db, &format!("leaving {stop}")).await;
        if stop == 2 {
            let rescued = player.store.leave(&player.id).await.expect("an answer");
            attempt = take(&leaving, &rescued).await.pop().expect("it can be taken");
        } else {
            let rescued =
                leaving.store.leave(&NodeId::new(format!("leaving {}", stop - 1)).expect("a name")).await;
            attempt = take(&leaving, &rescued.expect("an answer")).await.pop().expect("it can be taken");
        }
        assert_eq!(attempt.attempt, stop);
        if stop == 5 {
            leaving.end(&task, &attempt, AttemptEnd::Succeeded, Made::default()).await;
        }
    }
    let over = db.execution(attempt.execution_id).await.expect("an answer").expect("it is over");
    assert_eq!(over.outcome.as_deref(), Some("succeeded"));
}

/// An early claim of a node that dies before its time keeps its place.
pub async fn work_claimed_ahead_by_a_node_that_dies_still_starts_in_its_order(db: &TestStore) {
    let task = task("task", every(5));
    register(db, &[&task]).await;
    let dying = Player::enter(db, "dying").await;
    dying.run(&task, Vec::new()).await;
    let early = dying.claim_ahead(&task, 5 * SECOND).await.expect("claimed ahead");
    let living = Player::enter(db, "living").await;
    let rescued = dying.store.leave(&dying.id).await.expect("an answer");
    assert_eq!(rescued.handed_on, [early.execution_id]);
    db.advance(5 * SECOND).await;
    assert_eq!(living.try_claim(&task).await, None, "the one before it has not run");
    db.advance(5 * SECOND).await;
    assert_eq!(living.try_claim(&task).await, None, "the one before it has not run");
    let attempt = take(&living, &rescued).await.pop().expect("it can be taken");
    assert_eq!((attempt.attempt, attempt.scheduled_for), (1, early.scheduled_for));
    living.end(&task, &attempt, AttemptEnd::Succeeded, Made::default()).await;
    assert_eq!(db.earlier_attempts(early.execution_id).await.expect("attempts"), []);
    living.claim(&task).await;
}

/// One at a time, the oldest first; a paused task runs what a person asks for.
pub async fn what_waits_is_taken_when_the_slot_is_free_and_the_pause_allows_it(db: &TestStore) {
    let alone = task("alone", every(86_400));
    let beside = with(task("beside", every(86_400)), |policy| policy.overlap = Overlap::Allow);
    register(db, &[&alone, &beside]).await;
    let player = Player::enter(db, "node").await;
    let publish = async |task: &botticelli_server::task::Task| {
        let parameters = serde_json::json!({ "why": "because" });
        let event = Event { task: task.id.clone(), trigger: Trigger::Manual, parameters };
        match db.publish(event).await.expect("an answer") {
            Accepted::Execution(id) => id,
            Accepted::UnknownTask => panic!("the task is known"),
        }
    };
    let take = async |waiting: &[_]| {
        let overlapping = [beside.id.clone()];
        player.store.take(&player.id, waiting, &overlapping, Duration::ZERO).await.expect("an answer")
    };
    let scheduled = player.claim(&alone).await;
    let (first, second) = (publish(&alone).await, publish(&alone).await);
    assert_eq!(take(&[first, second]).await, [], "it is running");
    player.end(&alone, &scheduled, AttemptEnd::Succeeded, Made::default()).await;
    db.pause(&alone.id).await.expect("an answer");
    let taken = take(&[second, first]).await;
    assert_eq!(taken.iter().map(|attempt| attempt.execution_id).collect::<Vec<_>>(), [first]);
    assert_eq!((taken[0].trigger, taken[0].scheduled_for), (Trigger::Manual, None));
    assert_eq!(taken[0].parameters, serde_json::json!({ "why": "because" }));
    assert_eq!(take(&[second]).await, [], "one at a time");
    player.end(&alone, &taken[0], AttemptEnd::Succeeded, Made::default()).await;
    assert_eq!(take(&[second]).await.len(), 1);

    let both = [publish(&beside).await, publish(&beside).await];
    assert_eq!(take(&both).await.len(), 2, "it may overlap");

    // What the schedule started waits for the end of the pause; a person does not wait for it.
    let paused = task("paused", every(86_400));
    register(db, &[&alone, &beside, &paused]).await;
    let attempt = player.claim(&paused).await;
    player.end(&paused, &attempt, failed("no answer"), Made::default()).await;
    db.pause(&paused.id).await.expect("an answer");
    db.advance(MINUTE).await;
    assert_eq!(take(&[attempt.execution_id]).await, []);
    let asked_for = publish(&paused).await;
    let manual = take(&[asked_for]).await.pop().expect("a person asked for it");
    player.end(&paused, &manual, AttemptEnd::Succeeded, Made::default()).await;
    db.resume(&paused.id).await.expect("an answer");
    assert_eq!(take(&[attempt.execution_id]).await.len(), 1);

    let unknown = Event {
        task: each_minute("unknown").id,
        trigger: Trigger::Event,
        parameters: serde_json::Value::Null,
    };
    assert_eq!(db.publish(unknown).await.expect("an answer"), Accepted::UnknownTask);
}

/// Two nodes find the same dead one; its work is handed on once.
pub async fn a_rescue_by_many_at_once_hands_on_once(db: &TestStore) {
    let tasks: Vec<_> = (0..40).map(|n| each_minute(&format!("task {n}"))).collect();
    register(db, &tasks.iter().collect::<Vec<_>>()).await;
    let dead = [Player::enter(db, "dead 1").await, Player::enter(db, "dead 2").await];
    for (n, task) in tasks.iter().enumerate() {
        dead[n % 2].claim(task).await;
    }
    db.advance(LEASE + SECOND).await;
    let mut rescuers = Vec::new();
    for n in 0..4 {
        let player = Player::enter(db, &format!("rescuer {n}")).await;
        rescuers.push(tokio::spawn(async move {
            player.store.rescue(&player.id).await.expect("an answer").handed_on
        }));
    }
    let mut handed_on = Vec::new();
    for rescuer in rescuers {
        handed_on.extend(rescuer.await.expect("no panic"));
    }
    assert_eq!(handed_on.len(), 40);
    let attempts = "SELECT count(*) AS value FROM actor_server_attempts WHERE ended = 'interrupted'";
    assert_eq!(db.value(attempts).await, "40");
}
