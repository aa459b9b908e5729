//! The stream of changes: each is told once, in order, to whoever asks from where they were.

use super::players::*;
use crate::databases::{TestStore, client};
use botticelli_database::{Change, ChangeKind, Position, StreamFilter, StreamPage};
use botticelli_server::ids::ExecutionId;
use botticelli_server::ledger::{Ledger as _, Trigger};
use botticelli_server::outbox::{Outbox as _, PostEnd, PostState, SettledPost};
use botticelli_server::outcome::AttemptEnd;
use botticelli_server::server::{Accepted, Event, EventServer as _};
use botticelli_server::task::{Breaker, PauseReason};
use serde_json::Value;
use std::time::Duration;

/// Behind the newest change. It comes as [`told`] does.
async fn head(db: &TestStore) -> Position {
    let newest = async {
        loop {
            if let Some(head) = db.stream_head().await.expect("an answer") {
                return head;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), newest).await.expect("there is always one")
}

async fn page(db: &TestStore, after: Position) -> StreamPage {
    db.stream(after, StreamFilter::default()).await.expect("an answer")
}

/// What came after, to the end, which is these many changes. On PostgreSQL they come when no older transaction of any
/// database there is under way any more, and other tests have some.
async fn told(
    db: &TestStore,
    mut after: Position,
    filter: StreamFilter,
    count: usize,
) -> Vec<(Position, Change)> {
    let all = async {
        let mut changes = Vec::new();
        loop {
            let page = db.stream(after, filter.clone()).await.expect("an answer");
            assert_eq!(page.gap, None);
            changes.extend(page.changes);
            after = page.position;
            if !page.more && changes.len() >= count {
                return changes;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("they come")
}

fn everything() -> StreamFilter {
    StreamFilter::default()
}

fn executions(changes: &[(Position, Change)]) -> Vec<ExecutionId> {
    let id = |(_, change): &(Position, Change)| match change {
        Change::Execution(execution) => Some(execution.id),
        Change::Post(_) | Change::Breaker(_) | Change::Alert(_) => None,
    };
    changes.iter().filter_map(id).collect()
}

/// Whoever goes on from any of them is told the rest.
pub async fn what_changes_is_told_in_order(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let start = head(db).await;
    assert_eq!(page(db, start).await.changes, []);
    let run = player.run(&task, vec![message("a", "text")]).await;
    let posts = player.store.claim_posts(&player.id, 10, LEASE, &[]).await.expect("posts");
    let end = PostEnd::Failed { error: "refused".into() };
    let ended = SettledPost { id: posts[0].id, fence: posts[0].fence, end, exchanges: Vec::new() };
    player.store.settle_posts(&player.id, &[ended]).await.expect("settled");
    db.pause(&task.id).await.expect("paused");
    // As a person may do it.
    db.sql("UPDATE actor_server_state SET is_paused = false").await;
    db.sql(
        "INSERT INTO actor_server_alerts (id, alert, rule, subject, severity, summary, incident, started_at, last_sent_at) \
         VALUES (7, 'ops', 'task_overdue', 'task', 'warning', 'late', 'i', '2026-01-01 00:00:00+00:00', \
             '2026-01-01 00:00:00+00:00')",
    )
    .await;
    db.sql("UPDATE actor_server_alerts SET ended_at = '2026-01-01 00:01:00+00:00'").await;

    let changes = told(db, start, everything(), 6).await;
    let kinds: Vec<&str> = changes.iter().map(|(_, change)| change.kind().as_str()).collect();
    assert_eq!(kinds, ["execution", "post", "breaker", "breaker", "alert", "alert"]);
    let [
        (_, Change::Execution(execution)),
        (_, Change::Post(post)),
        (_, Change::Breaker(paused)),
        (_, Change::Breaker(resumed)),
        ..,
    ] = &changes[..]
    else {
        panic!("{changes:?}");
    };
    assert_eq!((execution.id, execution.outcome.as_deref()), (run.execution_id, Some("succeeded")));
    assert_eq!((post.id, post.state), (posts[0].id, PostState::Failed));
    assert_eq!(
        (paused.is_paused, paused.pause_reason, paused.breaker),
        (true, Some(PauseReason::Operator), Breaker::Closed)
    );
    assert_eq!((resumed.is_paused, resumed.pause_reason), (false, None));
    let json = serde_json::to_value(&changes[5].1).expect("JSON");
    assert_eq!((&json["notice"], &json["subject"]), (&"ended".into(), &"task".into()), "{json}");
    for (index, (position, _)) in changes.iter().enumerate() {
        assert_eq!(told(db, *position, everything(), 5 - index).await, changes[index + 1..]);
    }
    let kinds = vec![ChangeKind::Post, ChangeKind::Alert];
    let some = told(db, start, StreamFilter { task: None, kinds }, 3).await;
    assert_eq!(some, [changes[1].clone(), changes[4].clone(), changes[5].clone()]);
    let other = StreamFilter { task: Some(each_minute("other").id), kinds: Vec::new() };
    assert_eq!(told(db, start, other, 0).await, []);
}

/// One transaction may end many, and a page holds some.
pub async fn many_changes_come_in_pages(db: &TestStore) {
    let tasks: Vec<_> = (0..250).map(|n| each_minute(&format!("task-{n:03}"))).collect();
    register(db, &tasks.iter().collect::<Vec<_>>()).await;
    let player = Player::enter(db, "node").await;
    let start = head(db).await;
    let mut ended = Vec::new();
    for task in &tasks {
        let attempt = player.claim(task).await;
        let end = AttemptEnd::Succeeded;
        ended.push(player.ended(task, &attempt, end, Made::default()).await);
    }
    // Whatever the order in which they are recorded.
    ended.reverse();
    player.store.record(&player.id, &ended).await.expect("recorded");
    let all = executions(&told(db, start, everything(), 250).await);
    let first = page(db, start).await;
    assert_eq!((first.changes.len(), first.more), (100, true));
    assert_eq!(all, ended.iter().rev().map(|ended| ended.attempt.execution_id).collect::<Vec<_>>());
}

/// Numbers are given before transactions end. Whoever has read what came later must not miss what came first.
pub async fn what_is_committed_late_is_not_missed(db: &TestStore) {
    let (slow, quick) = (each_minute("slow"), each_minute("quick"));
    register(db, &[&slow, &quick]).await;
    let player = Player::enter(db, "node").await;
    let start = head(db).await;
    if !db.is_postgres() {
        // One writer: there is nothing that could be late.
        player.run(&quick, Vec::new()).await;
        assert_eq!(told(db, start, everything(), 1).await.len(), 1);
        return;
    }
    let late = client(db.url()).await;
    late.batch_execute("BEGIN; UPDATE actor_server_state SET is_paused = true WHERE task_id = 'slow'")
        .await
        .expect("it is under way");
    let run = player.run(&quick, Vec::new()).await;
    let held = page(db, start).await;
    assert_eq!((&held.changes[..], held.position), (&[][..], start), "something may come before it");
    late.batch_execute("COMMIT").await.expect("it ends");
    let changes = told(db, held.position, everything(), 2).await;
    let kinds: Vec<&str> = changes.iter().map(|(_, change)| change.kind().as_str()).collect();
    assert_eq!(kinds, ["breaker", "execution"]);
    assert_eq!(executions(&changes), [run.execution_id]);
}

/// And not that nothing has happened. Nobody is told so for nothing.
pub async fn who_comes_back_too_late_is_told_of_a_gap(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    // Written by the migration, which does not know the clock of this test.
    db.sql(&format!("UPDATE actor_server_stream SET at = '{}'", db.time().format("%F %T+00:00"))).await;
    let start = head(db).await;
    let mut runs = Vec::new();
    for _ in 0..4 {
        runs.push(player.run(&task, Vec::new()).await.execution_id);
        db.advance(MINUTE).await;
    }
    let places: Vec<Position> =
        told(db, start, everything(), 4).await.into_iter().map(|(place, _)| place).collect();
    let before = db.time() - 2 * MINUTE - Duration::from_secs(1);
    assert_eq!(db.prune_changes(before, 1).await.expect("an answer"), 1, "a few at a time");
    assert_eq!(db.prune_changes(before, 100).await.expect("an answer"), 1);
    assert_eq!(
        db.prune_changes(before, 100).await.expect("an answer"),
        0,
        "the newest of the old ones stays"
    );
    assert_eq!(page(db, places[1]).await.gap, None, "nothing after it is gone");
    let late = page(db, start).await;
    assert!(late.gap.is_some(), "{late:?}");
    assert_eq!(executions(&late.changes), runs[1..], "it goes on with the oldest");

    // As with a backup that was restored: the numbers are there, and mean something else.
    let other = places[1].to_string().replace(&format!("-{}-", micros(places[1])), "-1-");
    assert!(page(db, other.parse().expect("a position")).await.gap.is_some());
    // Nothing is left but the newest, and it is still known.
    db.prune_changes(db.time() + MINUTE, 100).await.expect("an answer");
    assert_eq!(page(db, head(db).await).await.gap, None);
    db.restored().await.expect("an answer");
    assert!(page(db, places[3]).await.gap.is_some());
}

fn micros(position: Position) -> String {
    position.to_string().split('-').nth(2).expect("a time").to_owned()
}

/// With many nodes at work, and a reader that follows.
pub async fn who_follows_is_told_of_every_execution_once(db: &TestStore) {
    let tasks: Vec<_> = (0..4).map(|n| each_minute(&format!("task-{n}"))).collect();
    register(db, &tasks.iter().collect::<Vec<_>>()).await;
    let start = head(db).await;
    let mut players = Vec::new();
    for n in 0..4 {
        players.push(Player::enter(db, &format!("node-{n}")).await);
    }
    let runs = players.into_iter().zip(tasks).map(async |(player, task)| {
        for n in 0..30 {
            let event = Event { task: task.id.clone(), trigger: Trigger::Manual, parameters: Value::Null };
            let Ok(Accepted::Execution(id)) = player.store.publish(event).await else { panic!("run {n}") };
            for attempt in player.take(&[&task], &[id]).await {
                player.end(&task, &attempt, AttemptEnd::Succeeded, Made::default()).await;
            }
        }
    });
    let work = futures::future::join_all(runs.collect::<Vec<_>>());
    let worked = tokio::spawn(work);
    let follow = async {
        let (mut told, mut place) = (Vec::new(), start);
        loop {
            // All that is in the history by then is told in the end.
            let over = worked.is_finished();
            let ended = db.executions().await.expect("an answer");
            let page = page(db, place).await;
            place = page.position;
            told.extend(executions(&page.changes));
            if over && told.len() >= ended {
                return told;
            }
        }
    };
    let mut told = tokio::time::timeout(Duration::from_secs(60), follow).await.expect("all are told");
    told.sort_unstable();
    let listed = db.values("SELECT id AS value FROM actor_server_executions ORDER BY id").await;
    assert!(listed.len() >= 4, "{listed:?}");
    assert_eq!(told.iter().map(ToString::to_string).collect::<Vec<_>>(), listed);
}
