//! What arrives from outside.

use super::players::*;
use crate::databases::TestStore;
use botticelli_database::Store;
use botticelli_server::ids::ExecutionId;
use botticelli_server::ledger::{Attempt, Ledger as _, Trigger};
use botticelli_server::outcome::AttemptEnd;
use botticelli_server::schedule::ScheduleType;
use botticelli_server::server::{
    Arrival, EventItem, EventServer as _, GatheredEvents, Gathering, Received, WhenFull,
};
use botticelli_server::task::Task;
use chrono::{DateTime, Utc};
use std::num::NonZeroU32;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A task that runs on events only.
pub fn listener(name: &str) -> Task {
    task(name, ScheduleType::Event)
}

/// So many.
pub fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("more than none")
}

/// The keys of the events of a run.
pub fn keys(attempt: &Attempt) -> Vec<String> {
    let gathered: GatheredEvents = serde_json::from_value(attempt.parameters.clone()).expect("events");
    gathered.events.into_iter().map(|event| event.key).collect()
}

fn arrival(task: &Task, id: &str) -> Arrival {
    Arrival {
        task: task.id.clone(),
        source: "deploys".into(),
        id: Some(id.into()),
        request: None,
        item: EventItem { key: id.into(), body: serde_json::json!({ "text": id }) },
        gathering: Gathering::Each,
        max_waiting: number(100),
        when_full: WhenFull::Refuse,
    }
}

async fn receive(store: &Store, arrival: Arrival) -> Received {
    store.receive(arrival).await.expect("an answer")
}

async fn stored(store: &Store, arrival: Arrival) -> ExecutionId {
    match receive(store, arrival).await {
        Received::Stored(id) => id,
        other => panic!("not stored: {other:?}"),
    }
}

async fn waits_until(store: &Store, id: ExecutionId) -> DateTime<Utc> {
    let execution = store.execution(id).await.expect("an answer").expect("an execution");
    execution.waiting_until.expect("it waits")
}

/// For a week; who says something else under it is told.
pub async fn an_event_is_taken_once_by_its_id(db: &TestStore) {
    let (one, other) = (listener("one"), listener("other"));
    register(db, &[&one, &other]).await;
    let first = stored(db, arrival(&one, "m1")).await;
    assert_eq!(receive(db, arrival(&one, "m1")).await, Received::Again(first));
    // Ids are told apart by where they arrived, and for whom.
    let elsewhere = Arrival { source: "builds".into(), ..arrival(&one, "m1") };
    assert_ne!(stored(db, elsewhere).await, first);
    assert_ne!(stored(db, arrival(&other, "m1")).await, first);
    let nameless = Arrival { id: None, ..arrival(&one, "m1") };
    assert_ne!(stored(db, nameless.clone()).await, stored(db, nameless).await);
    let asks = |request: &str| Arrival { request: Some(request.into()), ..arrival(&one, "m2") };
    let second = stored(db, asks("this")).await;
    assert_eq!(receive(db, asks("this")).await, Received::Again(second));
    assert_eq!(receive(db, asks("that")).await, Received::OtherRequest);
    assert_eq!(receive(db, arrival(&listener("nobody"), "m1")).await, Received::UnknownTask);
    // It is over, and its id is still known.
    let player = Player::enter(db, "node").await;
    let attempt = player.take(&[&one], &[first]).await.pop().expect("it waited");
    assert_eq!((attempt.trigger, keys(&attempt)), (Trigger::Event, vec!["m1".to_owned()]));
    player.end(&one, &attempt, AttemptEnd::Succeeded, Made::default()).await;
    assert_eq!(receive(db, arrival(&one, "m1")).await, Received::Again(first));
    db.advance(Duration::from_secs(8 * 86_400)).await;
    db.prune_nodes(Duration::from_secs(86_400)).await.expect("an answer");
    assert_ne!(stored(db, arrival(&one, "m1")).await, first, "it is forgotten");
}

/// However many bring it at the same moment.
pub async fn an_event_that_many_bring_at_once_is_stored_once(db: &TestStore) {
    let one = listener("one");
    register(db, &[&one]).await;
    let mut bringing = Vec::new();
    for _ in 0..8 {
        let (store, arrival) = (db.another().await, arrival(&one, "m1"));
        bringing.push(tokio::spawn(async move { receive(&store, arrival).await }));
    }
    let mut first = 0;
    for brought in bringing {
        match brought.await.expect("no panic") {
            Received::Stored(_) => first += 1,
            Received::Again(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(first, 1);
    assert_eq!(db.value("SELECT count(*) AS value FROM actor_server_open_executions").await, "1");
}

/// For the last of them; a stream that never pauses is run all the same.
pub async fn events_that_follow_each_other_closely_are_one_run_for_the_last(db: &TestStore) {
    let task = listener("task");
    register(db, &[&task]).await;
    let last = |id: &str| Arrival { gathering: Gathering::Last { quiet: 10 * SECOND }, ..arrival(&task, id) };
    let begun = db.time();
    let first = stored(db, last("m1")).await;
    assert_eq!(waits_until(db, first).await, begun + 10 * SECOND);
    for n in 2..=12 {
        db.advance(9 * SECOND).await;
        assert_eq!(stored(db, last(&format!("m{n}"))).await, first);
        let expected = (db.time() + 10 * SECOND).min(begun + 100 * SECOND);
        assert_eq!(waits_until(db, first).await, expected);
    }
    // Of another trigger it is another run.
    let elsewhere = Arrival { source: "builds".into(), ..last("b1") };
    assert_ne!(stored(db, elsewhere).await, first);
    db.set(begun + 100 * SECOND).await;
    assert_ne!(stored(db, last("m13")).await, first, "its time is over");
    let player = Player::enter(db, "node").await;
    let attempt = player.take(&[&task], &[first]).await.pop().expect("it is time");
    assert_eq!(keys(&attempt), ["m12"]);
}

/// Up to a number.
pub async fn events_of_a_batch_are_one_run_for_all_of_them(db: &TestStore) {
    let task = listener("task");
    register(db, &[&task]).await;
    let all = |id: &str| {
        let gathering = Gathering::All { within: MINUTE, most: number(3) };
        Arrival { gathering, ..arrival(&task, id) }
    };
    let begun = db.time();
    let first = stored(db, all("m1")).await;
    db.advance(20 * SECOND).await;
    assert_eq!(stored(db, all("m2")).await, first);
    assert_eq!(waits_until(db, first).await, begun + MINUTE, "since the first of them");
    assert_eq!(stored(db, all("m3")).await, first);
    assert_eq!(waits_until(db, first).await, db.time(), "it is full");
    let second = stored(db, all("m4")).await;
    assert_ne!(second, first);
    let player = Player::enter(db, "node").await;
    let attempt = player.take(&[&task], &[first, second]).await.pop().expect("it is full");
    assert_eq!(keys(&attempt), ["m1", "m2", "m3"]);
    player.end(&task, &attempt, AttemptEnd::Succeeded, Made::default()).await;
    db.advance(MINUTE).await;
    assert_eq!(keys(&player.take(&[&task], &[second]).await[0]), ["m4"]);
}

/// Or left out, where nobody would bring it again. What joins a run that waits is taken.
pub async fn an_event_is_refused_when_too_many_runs_wait(db: &TestStore) {
    let task = listener("task");
    register(db, &[&task]).await;
    let two = |id: &str| Arrival { max_waiting: number(2), ..arrival(&task, id) };
    let first = stored(db, two("m1")).await;
    let gathering = Gathering::All { within: MINUTE, most: number(3) };
    let batch = stored(db, Arrival { gathering, ..two("m2") }).await;
    assert_eq!(receive(db, two("m3")).await, Received::Full { waiting: 2 });
    assert_eq!(stored(db, Arrival { gathering, ..two("m3") }).await, batch);
    assert_eq!(receive(db, two("m4")).await, Received::Full { waiting: 2 });
    let left_out = Arrival { when_full: WhenFull::LeaveOut, ..two("m4") };
    let Received::LeftOut(row) = receive(db, left_out.clone()).await else { panic!("there is no room") };
    assert_eq!(receive(db, left_out).await, Received::Again(row));
    let row = db.execution(row).await.expect("an answer").expect("a row of the history");
    assert_eq!(
        (row.outcome.as_deref(), row.skip_reason.as_deref()),
        (Some("skipped"), Some("too_many_waiting"))
    );
    assert_eq!(row.metadata["event"]["key"], "m4");
    // One that runs does not wait.
    let player = Player::enter(db, "node").await;
    assert_eq!(player.take(&[&task], &[first]).await.len(), 1);
    stored(db, two("m5")).await;
}
