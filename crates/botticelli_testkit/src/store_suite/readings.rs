//! Listings, snapshots, pruning, and time.

use super::players::*;
use crate::databases::TestStore;
use botticelli_database::{AuditFilter, DatabaseStatePersistence, PostFilter, Requester};
use botticelli_server::ids::{ExecutionId, PostId};
use botticelli_server::ledger::Ledger as _;
use botticelli_server::outbox::{PostHistory as _, PostState};
use botticelli_server::outcome::AttemptEnd;
use botticelli_server::server::StatePersistence as _;
use std::time::Duration;

/// What is open stands first, as it is the newest.
pub async fn history_is_newest_first_and_shows_what_is_open(db: &TestStore) {
    let (task, other) = (each_minute("task"), each_minute("other"));
    register(db, &[&task, &other]).await;
    let player = Player::enter(db, "node").await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(player.run(&task, Vec::new()).await.execution_id);
        player.run(&other, Vec::new()).await;
        db.advance(MINUTE).await;
    }
    ids.push(player.claim(&task).await.execution_id);
    ids.reverse();
    let listed = async |limit| -> Vec<_> {
        db.history(&task.id, limit).await.expect("history").into_iter().map(|row| row.id).collect()
    };
    assert_eq!(listed(10).await, ids);
    assert_eq!(listed(2).await, ids[..2]);
    let tasks = db.tasks().await.expect("tasks");
    let seen: Vec<_> = tasks.iter().map(|task| (task.task_id.as_str(), task.open_executions)).collect();
    assert_eq!(seen, [("other", 0), ("task", 1)]);
    let by_state = PostFilter { state: Some(PostState::Posted), limit: 9, ..PostFilter::default() };
    assert_eq!(db.posts(by_state).await.expect("posts"), []);
    assert_eq!(db.post(PostId(1)).await.expect("an answer"), None);
}

/// So that retention does not make the server repeat itself, or forget what it is doing.
pub async fn pruning_keeps_posts_used_items_and_attempts_of_what_is_open(db: &TestStore) {
    let task = task("task", every(86_400));
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let retried = player.claim(&task).await;
    player.end(&task, &retried, failed("no answer"), Made::default()).await;
    let day = 86_400 * Duration::from_secs(1);
    db.advance(MINUTE).await;
    let taken = player.take(&[&task], &[retried.execution_id]).await;
    let made = Made { posts: vec![message("a", "text")], used_items: vec![item("a", "1")] };
    player.end(&task, &taken[0], AttemptEnd::Succeeded, made).await;
    for _ in 0..5 {
        db.advance(day).await;
        player.run(&task, Vec::new()).await;
    }
    db.advance(day).await;
    let open = player.claim(&task).await;
    player.end(&task, &open, failed("no answer"), Made::default()).await;

    let cut = db.time() - 3 * day;
    assert_eq!(db.prune(cut, 2).await.expect("an answer"), 2, "in small steps");
    assert_eq!(db.prune(cut, 100).await.expect("an answer"), 1);
    assert_eq!(db.prune(cut, 100).await.expect("an answer"), 0);
    assert_eq!(db.history(&task.id, 100).await.expect("history").len(), 4);
    assert_eq!(db.earlier_attempts(retried.execution_id).await.expect("attempts"), []);
    assert_eq!(db.earlier_attempts(open.execution_id).await.expect("attempts").len(), 1);
    assert_eq!(db.used_keys(&task.id, "facts").await.expect("keys"), ["1"]);
    let posts_of = async |execution_id| {
        let filter = PostFilter { execution_id, limit: 9, ..PostFilter::default() };
        db.posts(filter).await.expect("posts").len()
    };
    assert_eq!(posts_of(None).await, 1);
    assert_eq!(posts_of(Some(retried.execution_id)).await, 1);
    assert_eq!(posts_of(Some(ExecutionId(retried.execution_id.0 + 1))).await, 0);
}

/// Whether there is any history or not.
pub async fn what_people_changed_long_ago_is_forgotten_with_the_history(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let by = Requester { who: "user a".into(), origin: "command line".into(), note: None };
    let store = db.another().await.by(by);
    for _ in 0..2 {
        store.pause(&task.id).await.expect("paused");
        store.resume(&task.id).await.expect("resumed");
        db.advance(MINUTE).await;
    }
    let cut = db.time() - MINUTE;
    assert_eq!(db.prune(cut, 1).await.expect("an answer"), 1, "in small steps");
    assert_eq!(db.prune(cut, 100).await.expect("an answer"), 1);
    assert_eq!(db.prune(cut, 100).await.expect("an answer"), 0);
    let left = db.audits(AuditFilter { limit: 10, ..AuditFilter::default() }).await.expect("the audit");
    let left: Vec<&str> = left.iter().map(|row| row.action.as_str()).collect();
    assert_eq!(left, ["task.resume", "task.pause"], "what is younger stays");
}

/// Whole or not at all.
pub async fn a_snapshot_is_kept_until_it_is_replaced_or_cleared(db: &TestStore) {
    type Snapshot = Option<Vec<String>>;
    let one = DatabaseStatePersistence::<Snapshot>::new(db.another().await, "one");
    let two = DatabaseStatePersistence::<Snapshot>::new(db.another().await, "two");
    assert_eq!(one.load().await.expect("an answer"), None);
    one.save(&None).await.expect("saved");
    assert_eq!(one.load().await.expect("an answer"), Some(None));
    let many: Snapshot = Some((0..10_000).map(|n| format!("{n} \u{1F468} \\u0000")).collect());
    one.save(&many).await.expect("saved");
    two.save(&Some(vec!["two".into()])).await.expect("saved");
    assert_eq!(one.load().await.expect("an answer"), Some(many.clone()));
    assert!(one.save(&Some(vec!["\0".into()])).await.is_err());
    assert_eq!(one.load().await.expect("an answer"), Some(many));
    one.clear().await.expect("cleared");
    assert_eq!(one.load().await.expect("an answer"), None);
    assert_eq!(two.load().await.expect("an answer"), Some(Some(vec!["two".into()])));
    db.sql("UPDATE actor_server_snapshots SET snapshot = '5'").await;
    let error = two.load().await.expect_err("it is no list").to_string();
    assert!(error.contains("snapshot \"two\""), "{error}");
}

/// PostgreSQL keeps microseconds. Finer times must not make the databases differ, or a time differ from itself.
pub async fn times_are_kept_to_the_microsecond(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let attempt = player.claim(&task).await;
    let finer = db.time() + Duration::from_nanos(1_999);
    let mut later = message("a", "text");
    later.not_before = Some(finer);
    let made = Made { posts: vec![later], used_items: Vec::new() };
    let mut ended = player.ended(&task, &attempt, AttemptEnd::Succeeded, made).await;
    (ended.started_at, ended.ended_at) = (finer, finer);
    player.record(ended).await;
    let expected = db.time() + Duration::from_micros(1);
    let over = db.execution(attempt.execution_id).await.expect("an answer").expect("it is over");
    assert_eq!((over.started_at, over.completed_at), (Some(expected), Some(expected)));
    assert_eq!(state(db, &task).await.last_run, Some(expected));
    let posts = db.posts(PostFilter { limit: 9, ..PostFilter::default() }).await.expect("posts");
    assert_eq!(posts[0].deliver_at, Some(expected));
    assert_eq!(db.now().await.expect("an answer"), db.time());
}

/// A lease for ever, a look far ahead: no overflow.
pub async fn the_longest_durations_are_understood(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    player.run(&task, vec![message("a", "text")]).await;
    player.store.renew(&player.id, Duration::MAX).await.expect("an answer");
    let other = Player::enter(db, "other").await;
    db.advance(1_000_000 * MINUTE).await;
    assert_eq!(other.store.rescue(&other.id).await.expect("an answer").nodes, []);
    use botticelli_server::outbox::Outbox as _;
    let posts =
        player.store.claim_posts(&player.id, usize::MAX, Duration::MAX, &[]).await.expect("an answer");
    assert!(posts[0].lease_until > db.time());
    assert_eq!(player.store.take(&player.id, &[], Duration::MAX).await.expect("an answer"), []);
    assert_eq!(db.history(&task.id, usize::MAX).await.expect("history").len(), 1);
}
