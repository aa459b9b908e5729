//! Nodes that die, stall, stop and come back.

use super::players::*;
use crate::databases::TestStore;
use botticelli_server::ids::{DefinitionHash, NodeId};
use botticelli_server::ledger::Trigger;
use botticelli_server::ledger::{Lease, Ledger as _, Rescued};
use botticelli_server::outcome::AttemptEnd;
use botticelli_server::server::{Accepted, Event, EventServer as _};
use botticelli_server::task::{Overlap, Task};
use std::num::NonZeroU32;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

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

    let attempt = living.take(&[&task], &rescued.handed_on).await.pop().expect("it can be taken at once");
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
            attempt = next.take(&[&task], &rescued.handed_on).await.pop().expect("it can be taken");
            assert_eq!((attempt.attempt, attempt.interruptions), (death + 1, death));
            assert!(next.store.begin(&next.id, &attempt).await.expect("an answer"), "it is still ours");
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

/// Otherwise there would be a row for every start of a server, for ever.
pub async fn nodes_that_are_long_gone_are_forgotten_once_nothing_of_theirs_is_left(db: &TestStore) {
    let task = task("task", every(86_400));
    register(db, &[&task]).await;
    let (gone, late) = (Player::enter(db, "gone").await, Player::enter(db, "late").await);
    let here = Player::enter(db, "here").await;
    let attempt = late.claim(&task).await;
    let day = 86_400 * SECOND;
    for player in [&gone, &late] {
        player.store.leave(&player.id).await.expect("an answer");
    }
    // It claims once more before it knows that it was given up.
    assert_eq!(late.take(&[&task], &[attempt.execution_id]).await.len(), 1);
    db.advance(day - SECOND).await;
    here.store.renew(&here.id, LEASE).await.expect("a heartbeat");
    assert_eq!(db.prune_nodes(day).await.expect("an answer"), 0);
    db.advance(SECOND).await;
    assert_eq!(db.prune_nodes(day).await.expect("an answer"), 1);
    let nodes = "SELECT node AS value FROM actor_server_nodes ORDER BY node";
    assert_eq!(db.values(nodes).await, ["here", "late"]);
    here.store.rescue(&here.id).await.expect("an answer");
    // It counts as gone since it was rescued again.
    assert_eq!(db.prune_nodes(SECOND).await.expect("an answer"), 0);
    db.advance(SECOND).await;
    assert_eq!(db.prune_nodes(SECOND).await.expect("an answer"), 1);
    assert_eq!(db.values(nodes).await, ["here"]);
}

/// Nor has it used up an attempt. (The first time nobody can tell whether it had begun.)
pub async fn an_execution_that_only_waited_when_its_nodes_died_is_no_poison(db: &TestStore) {
    let task = task("task", every(86_400));
    register(db, &[&task]).await;
    let first = Player::enter(db, "node 0").await;
    let mut attempt = first.claim(&task).await;
    for death in 1..=5_u32 {
        db.advance(LEASE + SECOND).await;
        let next = Player::enter(db, &format!("node {death}")).await;
        let rescued = next.store.rescue(&next.id).await.expect("an answer");
        assert_eq!(rescued.handed_on, [attempt.execution_id]);
        attempt = next.take(&[&task], &rescued.handed_on).await.pop().expect("it can be taken");
        assert_eq!((attempt.attempt, attempt.interruptions), (2, 1));
    }
    let earlier = db.earlier_attempts(attempt.execution_id).await.expect("attempts");
    assert_eq!(earlier.len(), 1);
    assert_eq!((earlier[0].started_at, earlier[0].ended.as_str()), (None, "interrupted"));
}

/// Then its death is nobody else's fault.
pub async fn what_one_more_interruption_makes_poison_is_alone_of_its_kind_on_a_node(db: &TestStore) {
    let (one, two) = (task("one", every(86_400)), task("two", every(86_400)));
    register(db, &[&one, &two]).await;
    let mut node = Player::enter(db, "node 0").await;
    let mut attempts = vec![node.claim(&one).await, node.claim(&two).await];
    let mut waiting = Vec::new();
    for death in 1..=2 {
        assert_eq!(attempts.len(), 2);
        for attempt in attempts.iter().filter(|attempt| attempt.interruptions > 0) {
            assert!(node.store.begin(&node.id, attempt).await.expect("an answer"));
        }
        db.advance(LEASE + SECOND).await;
        node = Player::enter(db, &format!("node {death}")).await;
        let rescued = node.store.rescue(&node.id).await.expect("an answer");
        attempts = node.take(&[&one, &two], &rescued.handed_on).await;
        waiting = rescued.handed_on;
    }
    let last_chance = attempts.pop().expect("one of them");
    assert_eq!((attempts.as_slice(), last_chance.interruptions), (&[][..], 2));
    let both = [&one, &two];
    assert_eq!(node.take(&both, &waiting).await, [], "not beside the other one");
    let other = Player::enter(db, "another node").await;
    let taken = other.take(&both, &waiting).await;
    assert_eq!(taken.len(), 1, "another node may have it");
    other.store.release(&other.id, &taken).await.expect("an answer");
    let succeeded = AttemptEnd::Succeeded;
    let ended_task = if last_chance.task_id == one.id { &one } else { &two };
    node.end(ended_task, &last_chance, succeeded, Made::default()).await;
    waiting.retain(|id| *id != last_chance.execution_id);
    assert_eq!(node.take(&both, &waiting).await.len(), 1, "the other one is over");
}

/// Whoever has lost an attempt learns it before the actor runs.
pub async fn an_attempt_that_was_handed_on_does_not_begin(db: &TestStore) {
    let task = task("task", every(86_400));
    register(db, &[&task]).await;
    let silent = Player::enter(db, "silent").await;
    let attempt = silent.claim(&task).await;
    assert!(silent.store.begin(&silent.id, &attempt).await.expect("an answer"));
    db.advance(LEASE + SECOND).await;
    let other = Player::enter(db, "other").await;
    let rescued = other.store.rescue(&other.id).await.expect("an answer");
    assert!(!silent.store.begin(&silent.id, &attempt).await.expect("an answer"));
    let next = other.take(&[&task], &rescued.handed_on).await.pop().expect("it can be taken");
    assert!(!silent.store.begin(&silent.id, &next).await.expect("an answer"), "it is the other's");
    assert!(other.store.begin(&other.id, &next).await.expect("an answer"));
}

/// Only those that failed are counted.
pub async fn an_interruption_uses_up_none_of_the_attempts(db: &TestStore) {
    let task = with(task("task", every(86_400)), |policy| {
        policy.max_attempts = NonZeroU32::new(2).expect("not 0");
    });
    register(db, &[&task]).await;
    let mut node = Player::enter(db, "node 0").await;
    let mut attempt = node.claim(&task).await;
    for death in 1..=2 {
        db.advance(LEASE + SECOND).await;
        node = Player::enter(db, &format!("node {death}")).await;
        let rescued = node.store.rescue(&node.id).await.expect("an answer");
        attempt = node.take(&[&task], &rescued.handed_on).await.pop().expect("it can be taken");
        assert!(node.store.begin(&node.id, &attempt).await.expect("an answer"));
    }
    assert_eq!((attempt.attempt, attempt.failures), (3, 0));
    node.end(&task, &attempt, failed("no answer"), Made::default()).await;
    db.advance(MINUTE).await;
    let waiting = [attempt.execution_id];
    let last = node.take(&[&task], &waiting).await;
    assert_eq!(last.iter().map(|attempt| (attempt.attempt, attempt.failures)).collect::<Vec<_>>(), [(4, 1)]);
    node.end(&task, &last[0], failed("no answer"), Made::default()).await;
    let over = db.execution(attempt.execution_id).await.expect("an answer").expect("it is over");
    assert_eq!(over.outcome.as_deref(), Some("failed"));
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
        let mut taken = player.take(&[&task], &waiting).await;
        attempt = taken.pop().expect("it can be taken");
        assert_eq!(attempt.attempt, 1, "it did not begin");
    }
    assert_eq!(db.earlier_attempts(attempt.execution_id).await.expect("attempts"), []);
    db.advance(SECOND).await;
    for stop in 2..6_u32 {
        let leaving = Player::enter(db, &format!("leaving {stop}")).await;
        if stop == 2 {
            let rescued = player.store.leave(&player.id).await.expect("an answer");
            attempt = leaving.take(&[&task], &rescued.handed_on).await.pop().expect("it can be taken");
        } else {
            let rescued =
                leaving.store.leave(&NodeId::new(format!("leaving {}", stop - 1)).expect("a name")).await;
            attempt = leaving
                .take(&[&task], &rescued.expect("an answer").handed_on)
                .await
                .pop()
                .expect("it can be taken");
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
    let attempt = living.take(&[&task], &rescued.handed_on).await.pop().expect("it can be taken");
    assert_eq!((attempt.attempt, attempt.scheduled_for), (1, early.scheduled_for));
    living.end(&task, &attempt, AttemptEnd::Succeeded, Made::default()).await;
    assert_eq!(db.earlier_attempts(early.execution_id).await.expect("attempts"), []);
    living.claim(&task).await;
}

/// One at a time, the oldest first; a paused task runs what a person asks for.
pub async fn what_waits_is_taken_when_the_slot_is_free_and_the_pause_allows_it(db: &TestStore) {
    let (alone, paused) = (task("alone", every(86_400)), task("paused", every(86_400)));
    let beside = with(task("beside", every(86_400)), |policy| policy.overlap = Overlap::Allow);
    register(db, &[&alone, &beside]).await;
    let player = Player::enter(db, "node").await;
    let publish = async |task: &Task| {
        let parameters = serde_json::json!({ "why": "because" });
        let event = Event { task: task.id.clone(), trigger: Trigger::Manual, parameters };
        match db.publish(event).await.expect("an answer") {
            Accepted::Execution(id) => id,
            Accepted::UnknownTask => panic!("the task is known"),
        }
    };
    let take = async |waiting: &[_]| player.take(&[&alone, &beside, &paused], waiting).await;
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

/// A node with another file runs it as somebody else defined it otherwise.
pub async fn what_waits_is_left_to_nodes_that_hold_the_registered_definition(db: &TestStore) {
    let before = task("task", every(86_400));
    register(db, &[&before]).await;
    let player = Player::enter(db, "node").await;
    let attempt = player.claim(&before).await;
    player.end(&before, &attempt, failed("no answer"), Made::default()).await;
    db.advance(MINUTE).await;
    let now = Task { definition: DefinitionHash::new("second").expect("a hash"), ..before.clone() };
    register(db, &[&now]).await;
    let waiting = [attempt.execution_id];
    assert_eq!(player.take(&[&before], &waiting).await, []);
    assert_eq!(player.take(&[&now], &waiting).await.len(), 1);
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
