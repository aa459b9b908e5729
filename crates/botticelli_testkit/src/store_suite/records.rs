//! Recording: whole or not at all, and only by whoever still owns the attempt.

use super::players::*;
use crate::databases::TestStore;
use botticelli_database::PostFilter;
use botticelli_server::ledger::{Ledger as _, Recorded};
use botticelli_server::outbox::{PostHistory as _, UsedItem};
use botticelli_server::outcome::{AttemptEnd, SkipReason};
use botticelli_server::plan::Settlement;
use botticelli_server::task::{Backoff, Overlap};
use std::time::Duration;

/// Execution, posts, used items, state.
pub async fn a_record_stores_all_that_a_run_made(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let attempt = player.claim(&task).await;
    let started = db.time();
    db.advance(Duration::from_millis(1_500)).await;
    let made = Made {
        posts: vec![part("a", 0, "one"), part("a", 1, "two"), message("b", "three")],
        used_items: vec![item("a", "1"), item("b", "2")],
    };
    let mut ended = player.ended(&task, &attempt, AttemptEnd::Succeeded, made).await;
    ended.started_at = started;
    let Recorded::Stored { state: Some(change) } = player.record(ended).await else { panic!("not stored") };
    assert_eq!(change.next_run, Some(started + MINUTE));
    assert_eq!(change.wake_at, Some(started + MINUTE));
    assert!(!change.breaker_opened);

    let execution =
        db.execution(attempt.execution_id).await.expect("an answer").expect("it is in the history");
    assert_eq!(execution.scheduled_for, Some(started));
    assert_eq!((execution.started_at, execution.completed_at), (Some(started), Some(db.time())));
    assert_eq!((execution.outcome.as_deref(), execution.success), (Some("succeeded"), Some(true)));
    assert_eq!((execution.attempt, execution.node.as_deref()), (1, Some("node")));
    assert_eq!((execution.skills_succeeded, execution.skills_failed, execution.skills_skipped), (2, 1, 3));
    assert_eq!(execution.metadata, serde_json::json!({ "skills": ["selected 1 item"] }));

    let posts = db.posts(PostFilter { limit: 10, ..PostFilter::default() }).await.expect("posts");
    let texts: Vec<_> = posts.iter().map(|post| post.content.as_str()).collect();
    assert_eq!(texts, ["three", "two", "one"], "newest first");
    assert!(posts.iter().all(|post| post.execution_id == attempt.execution_id && post.key.len() == 22));
    let mut used = db.used_keys(&task.id, "facts").await.expect("keys");
    used.sort();
    assert_eq!(used, ["1", "2"]);

    let state = state(db, &task).await;
    assert_eq!((state.last_run, state.consecutive_failures), (Some(started), 0));
    assert_eq!(db.value("SELECT count(*) AS value FROM actor_server_open_executions").await, "0");
}

/// The others in the batch are not harmed. What the bad one made can be recorded in another way.
pub async fn a_record_that_the_database_refuses_stores_nothing_and_harms_no_other(db: &TestStore) {
    let tasks: Vec<_> = (0..7).map(|n| each_minute(&format!("task {n}"))).collect();
    register(db, &tasks.iter().collect::<Vec<_>>()).await;
    let player = Player::enter(db, "node").await;
    let mut batch = Vec::new();
    for (n, task) in tasks.iter().enumerate() {
        let attempt = player.claim(task).await;
        let mut made =
            Made { posts: vec![message("a", "text")], used_items: vec![item("a", &n.to_string())] };
        if n == 3 {
            made.posts.push(message("a", "the same part again"));
        }
        batch.push(player.ended(task, &attempt, AttemptEnd::Succeeded, made).await);
    }
    let recorded = player.store.record(&player.id, &batch).await.expect("an answer");
    for (n, recorded) in recorded.iter().enumerate() {
        match recorded {
            Recorded::Refused { reason } => {
                assert_eq!(n, 3);
                assert!(!reason.is_empty());
            }
            Recorded::Stored { state } => assert!(n != 3 && state.is_some()),
            Recorded::Stale | Recorded::Overtaken { .. } => panic!("{n}: {recorded:?}"),
        }
    }
    assert_eq!(db.value("SELECT count(*) AS value FROM actor_server_posts").await, "6");
    assert_eq!(db.value("SELECT count(*) AS value FROM actor_server_used_items").await, "6");
    assert_eq!(state(db, &tasks[3]).await.last_run, None);
    let open = db.execution(batch[3].attempt.execution_id).await.expect("an answer").expect("it is open");
    assert_eq!(open.outcome, None);

    // It is still ours: its failure can be recorded.
    let end = failed_for_good("two posts are the same part");
    player.end(&tasks[3], &batch[3].attempt, end, Made::default()).await;
    let over = db.execution(batch[3].attempt.execution_id).await.expect("an answer").expect("it is over");
    assert_eq!(over.outcome.as_deref(), Some("failed"));
}

/// The answer to the first record may have been lost on the way.
pub async fn a_record_sent_again_is_stored_once_and_answered_as_stored(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let attempt = player.claim(&task).await;
    let made = Made { posts: vec![message("a", "text")], used_items: Vec::new() };
    let ended = player.ended(&task, &attempt, AttemptEnd::Succeeded, made).await;
    let twice = player.store.record(&player.id, &[ended.clone(), ended.clone()]).await.expect("an answer");
    assert!(matches!(twice[..], [Recorded::Stored { state: Some(_) }, Recorded::Stored { state: None }]));
    assert_eq!(player.record(ended).await, Recorded::Stored { state: None });
    assert_eq!(db.value("SELECT count(*) AS value FROM actor_server_posts").await, "1");
    assert_eq!(db.history(&task.id, 10).await.expect("history").len(), 1);
}

/// The answer was lost: that there is to be another attempt, or that another run was first.
pub async fn an_attempt_that_is_made_again_is_answered_as_stored_too(db: &TestStore) {
    let failing = task("failing", every(86_400));
    let overlapping = with(each_minute("overlapping"), |policy| policy.overlap = Overlap::Allow);
    register(db, &[&failing, &overlapping]).await;
    let player = Player::enter(db, "node").await;
    let attempt = player.claim(&failing).await;
    let ended = player.ended(&failing, &attempt, failed("no answer"), Made::default()).await;
    assert!(matches!(ended.settlement, Settlement::Retry { .. }));
    assert!(matches!(player.record(ended.clone()).await, Recorded::Stored { state: Some(_) }));
    assert_eq!(player.record(ended.clone()).await, Recorded::Stored { state: None });
    let mut another = ended;
    another.ended_at += Duration::from_millis(1);
    assert_eq!(player.record(another).await, Recorded::Stale, "that one was not stored");
    assert_eq!(db.earlier_attempts(attempt.execution_id).await.expect("attempts").len(), 1);

    let mut later = Vec::new();
    for _ in 0..2 {
        let attempt = player.claim(&overlapping).await;
        let made = Made { posts: Vec::new(), used_items: vec![item("a", "1")] };
        later.push(player.ended(&overlapping, &attempt, AttemptEnd::Succeeded, made).await);
        db.advance(MINUTE).await;
    }
    player.store.record(&player.id, &later).await.expect("an answer");
    let overtaken = later.pop().expect("the second");
    assert!(matches!(player.record(overtaken).await, Recorded::Overtaken { .. }), "it did not succeed");
}

/// A node that was taken for dead, a claim that was taken back, a node that is not the owner.
pub async fn a_stale_writer_is_refused(db: &TestStore) {
    let (dead, paused) = (each_minute("dead"), each_minute("paused"));
    register(db, &[&dead, &paused]).await;
    let (old, new) = (Player::enter(db, "old").await, Player::enter(db, "new").await);
    let made = || Made { posts: vec![message("a", "text")], used_items: vec![item("a", "1")] };

    let attempt = old.claim(&dead).await;
    let ended = old.ended(&dead, &attempt, AttemptEnd::Succeeded, made()).await;
    assert_eq!(new.record(ended.clone()).await, Recorded::Stale, "it is another node's");
    db.advance(LEASE + Duration::from_secs(1)).await;
    new.store.renew(&new.id, LEASE).await.expect("a heartbeat");
    let rescued = new.store.rescue(&new.id).await.expect("an answer");
    assert_eq!(rescued.handed_on, [attempt.execution_id]);
    assert_eq!(old.record(ended.clone()).await, Recorded::Stale, "it was handed on");
    let second = new.take(&[&dead], &rescued.handed_on).await;
    assert_eq!(old.record(ended.clone()).await, Recorded::Stale, "another node has it");
    assert_eq!(db.value("SELECT count(*) AS value FROM actor_server_posts").await, "0");
    new.end(&dead, &second[0], AttemptEnd::Succeeded, made()).await;
    assert_eq!(old.record(ended).await, Recorded::Stale, "another node has ended it");
    assert_eq!(db.value("SELECT count(*) AS value FROM actor_server_posts").await, "1");

    new.run(&paused, Vec::new()).await;
    db.advance(Duration::from_secs(40)).await;
    let early = new.claim_ahead(&paused, MINUTE).await.expect("claimed ahead");
    let ended = new.ended(&paused, &early, AttemptEnd::Succeeded, made()).await;
    db.pause(&paused.id).await.expect("an answer");
    assert_eq!(new.record(ended).await, Recorded::Stale, "it was taken back");
    assert_eq!(db.value("SELECT count(*) AS value FROM actor_server_posts").await, "1");
}

/// One execution, however many attempts.
pub async fn an_attempt_that_failed_is_made_again_as_the_same_execution(db: &TestStore) {
    let task = task("task", every(86_400));
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let first = player.claim(&task).await;
    let started = db.time();
    let ended = player.ended(&task, &first, failed("no answer"), Made::default()).await;
    let Settlement::Retry { at } = ended.settlement else { panic!("{:?}", ended.settlement) };
    assert!(matches!(player.record(ended).await, Recorded::Stored { .. }));

    let open = db.execution(first.execution_id).await.expect("an answer").expect("it is open");
    assert_eq!((open.outcome, open.waiting_until, open.node), (None, Some(at), None));
    assert_eq!(db.agenda(at - Duration::from_micros(1), None, 10).await.expect("an agenda").waiting, []);
    let waiting = db.agenda(at, None, 10).await.expect("an agenda").waiting;
    assert_eq!(waiting.len(), 1);
    let take = async || {
        let ids = [waiting[0].execution_id];
        player.take(&[&task], &ids).await
    };
    assert_eq!(take().await, [], "its time has not come");
    db.set(at).await;
    let second = take().await.pop().expect("its time has come");
    assert_eq!(second.execution_id, first.execution_id);
    assert_eq!((second.attempt, second.scheduled_for), (2, Some(started)));
    assert!(second.fence > first.fence);
    assert_eq!(take().await, [], "it is taken");

    player.end(&task, &second, AttemptEnd::Succeeded, Made::default()).await;
    let over = db.execution(first.execution_id).await.expect("an answer").expect("it is over");
    assert_eq!((over.outcome.as_deref(), over.attempt), (Some("succeeded"), 2));
    let earlier = db.earlier_attempts(first.execution_id).await.expect("attempts");
    assert_eq!(earlier.len(), 1);
    assert_eq!((earlier[0].attempt, earlier[0].ended.as_str()), (1, "failed"));
    assert_eq!(earlier[0].error_message.as_deref(), Some("no answer"));
    assert_eq!((earlier[0].started_at, earlier[0].ended_at), (Some(started), started));
}

/// They are named in the history, and the task goes on after them.
pub async fn occurrences_that_fall_into_the_wait_after_a_failure_are_skipped(db: &TestStore) {
    let wait = Backoff { initial: 10 * MINUTE, max: 10 * MINUTE };
    let task = with(each_minute("task"), |policy| policy.backoff = wait);
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let attempt = player.claim(&task).await;
    let change = player.end(&task, &attempt, failed("no answer"), Made::default()).await;
    assert_eq!(change.consecutive_failures, 1);
    let history = db.history(&task.id, 10).await.expect("history");
    let [skipped, failed] = &history[..] else { panic!("{history:?}") };
    assert_eq!((failed.outcome.as_deref(), failed.success), (Some("failed"), Some(false)));
    assert_eq!(failed.error_message.as_deref(), Some("no answer"));
    assert_eq!(skipped.skip_reason.as_deref(), Some("backoff"));
    assert_eq!(skipped.scheduled_for, Some(db.time() + MINUTE));
    let after = skipped.scheduled_until.expect("several") + MINUTE;
    assert_eq!(state(db, &task).await.next_run, Some(after));
    assert_eq!(change.next_run, Some(after));
}

/// A pipeline's word, with its reason.
pub async fn a_run_that_found_nothing_is_skipped_and_one_that_was_stopped_is_cancelled(db: &TestStore) {
    let task = with(each_minute("task"), |policy| policy.overlap = Overlap::Allow);
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let nothing = player.claim(&task).await;
    player.end(&task, &nothing, AttemptEnd::Skipped(SkipReason::NothingToPost), Made::default()).await;
    db.advance(MINUTE).await;
    let stopped = player.claim(&task).await;
    player.end(&task, &stopped, AttemptEnd::Cancelled, Made::default()).await;
    let history = db.history(&task.id, 10).await.expect("history");
    assert_eq!(history[0].outcome.as_deref(), Some("cancelled"));
    assert_eq!((history[0].success, history[1].success), (None, None));
    assert_eq!(history[1].outcome.as_deref(), Some("skipped"));
    assert_eq!(history[1].skip_reason.as_deref(), Some("nothing_to_post"));
}

/// Also twice in a batch, by runs that did not know of each other.
pub async fn an_item_that_is_used_again_belongs_to_the_later_run(db: &TestStore) {
    let task = with(each_minute("task"), |policy| policy.overlap = Overlap::Allow);
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let mut batch = Vec::new();
    for _ in 0..2 {
        let attempt = player.claim(&task).await;
        let made =
            Made { posts: vec![message("a", "text")], used_items: vec![used_again("1"), used_again("1")] };
        batch.push(player.ended(&task, &attempt, AttemptEnd::Succeeded, made).await);
        db.advance(MINUTE).await;
    }
    let recorded = player.store.record(&player.id, &batch).await.expect("an answer");
    assert!(recorded.iter().all(|recorded| matches!(recorded, Recorded::Stored { .. })), "{recorded:?}");
    let used_by = db.values("SELECT execution_id AS value FROM actor_server_used_items").await;
    assert_eq!(used_by, [batch[1].attempt.execution_id.to_string()]);
}

fn used_again(key: &str) -> UsedItem {
    UsedItem { again: true, ..item("a", key) }
}

/// Two runs of a task side by side both found an item unused: the first to be recorded has it, in one batch or in two.
pub async fn two_runs_side_by_side_do_not_use_up_the_same_item(db: &TestStore) {
    let task = with(each_minute("task"), |policy| policy.overlap = Overlap::Allow);
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let mut batch = Vec::new();
    for _ in 0..3 {
        let attempt = player.claim(&task).await;
        let made = Made { posts: vec![message("a", "text")], used_items: vec![item("a", "1")] };
        batch.push(player.ended(&task, &attempt, AttemptEnd::Succeeded, made).await);
        db.advance(MINUTE).await;
    }
    let last = batch.pop().expect("three of them");
    let recorded = player.store.record(&player.id, &batch).await.expect("an answer");
    assert!(matches!(recorded[..], [Recorded::Stored { .. }, Recorded::Overtaken { .. }]), "{recorded:?}");
    assert!(matches!(player.record(last).await, Recorded::Overtaken { .. }));
    assert_eq!(db.value("SELECT count(*) AS value FROM actor_server_posts").await, "1");

    // They choose again, and that counts as no failure.
    let waiting = [batch[1].attempt.execution_id];
    let taken = player.take(&[&task], &waiting).await;
    let [attempt] = &taken[..] else { panic!("it waits for its next attempt") };
    assert_eq!((attempt.attempt, attempt.consecutive_failures), (2, 0));
    let made = Made { posts: vec![message("a", "text")], used_items: vec![item("a", "2")] };
    player.end(&task, attempt, AttemptEnd::Succeeded, made).await;
    let used = db.values("SELECT item_key AS value FROM actor_server_used_items ORDER BY item_key").await;
    assert_eq!(used, ["1", "2"]);
}

/// Text comes back as it went in; what PostgreSQL can't hold is refused or, in messages for people, replaced.
pub async fn odd_text_comes_back_as_it_went_in(db: &TestStore) {
    const ODD: &str =
        "'; DROP TABLE x; -- \"\\u0041\\ \u{1F468}\u{200D}\u{1F469} \u{202E}RTL \u{FEFF}\u{FFFF}\n\t\r{}[]$1";
    let name = "näme '\"\\ \u{1F468}\u{200D}\u{1F469} \u{202E} %s $1 {r}";
    let task = task(name, every(60));
    register(db, &[&task]).await;
    let player = Player::enter(db, name).await;
    let attempt = player.claim(&task).await;
    let mut used = item(ODD, ODD);
    used.text = ODD.into();
    let made = Made { posts: vec![message(ODD, ODD)], used_items: vec![used] };
    let mut ended = player.ended(&task, &attempt, AttemptEnd::Succeeded, made).await;
    ended.metadata = serde_json::json!({ ODD: ODD });
    assert!(matches!(player.record(ended).await, Recorded::Stored { state: Some(_) }));
    assert_eq!(db.used_keys(&task.id, "facts").await.expect("keys"), [ODD]);
    let posts = db.posts(PostFilter { task: Some(task.id.clone()), limit: 1, ..PostFilter::default() }).await;
    let post = posts.expect("posts").remove(0);
    assert_eq!((post.content.as_str(), post.destination.as_str()), (ODD, ODD));
    let over = db.execution(attempt.execution_id).await.expect("an answer").expect("it is over");
    assert_eq!(over.metadata, serde_json::json!({ ODD: ODD }));
    assert_eq!(over.node.as_deref(), Some(name));

    db.advance(MINUTE).await;
    let attempt = player.claim(&task).await;
    let change = player.end(&task, &attempt, failed_for_good("bad \0 byte"), Made::default()).await;
    assert_eq!(change.consecutive_failures, 1);
    let over = db.execution(attempt.execution_id).await.expect("an answer").expect("it is over");
    assert_eq!(over.error_message.as_deref(), Some("bad \u{FFFD} byte"));

    db.set(change.next_run.expect("it goes on")).await;
    for (text, key, metadata) in [("a\0b", "1", "m"), ("text", "a\0b", "m"), ("text", "1", "a\0b")] {
        let attempt = player.claim(&task).await;
        let made = Made { posts: vec![message("a", text)], used_items: vec![item("a", key)] };
        let mut ended = player.ended(&task, &attempt, AttemptEnd::Succeeded, made).await;
        ended.metadata = serde_json::json!({ "said": metadata });
        match player.record(ended).await {
            Recorded::Refused { .. } => {
                player.end(&task, &attempt, AttemptEnd::Cancelled, Made::default()).await;
            }
            other => panic!("NUL in {text:?} {key:?} {metadata:?}: {other:?}"),
        }
        db.advance(MINUTE).await;
    }
}
