//! After a backup was restored.

use super::operators::resumed_and_looked_at;
use super::players::*;
use crate::databases::TestStore;
use botticelli_database::{PostFilter, Restored};
use botticelli_server::outbox::{Outbox as _, PostState};
use botticelli_server::task::CatchUp;
use std::num::NonZeroU32;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// A database of yesterday: a task was due, another one ran, a post was to be sent and another one to wait for tomorrow.
pub async fn what_a_restored_backup_believes_to_be_due_is_left_out_or_doubted(db: &TestStore) {
    let all = CatchUp::All { limit: NonZeroU32::MAX };
    let due = with(task("due", every(3_600)), |policy| policy.catch_up = all);
    let ran = task("ran", every(3_600));
    register(db, &[&due, &ran]).await;
    let player = Player::enter(db, "node").await;
    let mut tomorrow = message("b", "tomorrow");
    tomorrow.not_before = Some(db.time() + 2 * DAY);
    player.run(&due, vec![message("a", "today"), tomorrow]).await;
    player.claim(&ran).await;
    assert_eq!(db.restored().await.expect("an answer"), Restored::ServerRuns(player.id.clone()));

    db.advance(DAY).await;
    let done = Restored::Done { tasks: 2, executions: 1, posts: 1 };
    assert_eq!(db.restored().await.expect("an answer"), done);
    let nothing = Restored::Done { tasks: 0, executions: 0, posts: 0 };
    assert_eq!(db.restored().await.expect("an answer"), nothing, "once is enough");

    resumed_and_looked_at(db, &player, &due).await;
    let left_out = &db.history(&due.id, 1).await.expect("history")[0];
    assert_eq!((left_out.occurrences, left_out.skip_reason.as_deref()), (24, Some("paused")));
    assert_eq!(player.try_claim(&due).await, None, "what comes next is not due yet");
    assert_eq!(db.history(&ran.id, 1).await.expect("history")[0].outcome.as_deref(), Some("cancelled"));

    let sent = player.store.claim_posts(&player.id, 10, LEASE, &[]).await.expect("an answer");
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].content.text, "today");
    assert_eq!(sent[0].uncertain_since, Some(db.time() - DAY), "it is looked up from when it was made");
    let waits = db.posts(PostFilter { limit: 10, ..PostFilter::default() }).await.expect("posts");
    let waits = waits.iter().find(|post| post.content == "tomorrow").expect("the other one");
    assert_eq!((waits.state, waits.uncertain_since), (PostState::Deferred, None));
}
