//! Posts that fail, and the failures of their task.

use super::*;

/// Three of them open the breaker.
pub async fn a_post_that_failed_counts_as_one_failure_of_its_task(db: &TestStore) {
    let task = with(each_minute("task"), |policy| {
        policy.max_consecutive_failures = NonZeroU32::new(3).expect("not 0");
        policy.cooldown = Some(MINUTE);
    });
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    makes(db, &player, &task, vec![message("a", "1"), message("b", "2"), message("c", "3")]).await;
    let claimed = claim(&player).await;
    settle(&player, &claimed[0], post_failed()).await;
    assert_eq!(state(db, &task).await.consecutive_failures, 1);
    let ends: Vec<_> = claimed[1..]
        .iter()
        .map(|post| SettledPost { id: post.id, fence: post.fence, end: post_failed(), exchanges: Vec::new() })
        .collect();
    let settled = player.store.settle_posts(&player.id, &ends).await.expect("an answer");
    assert_eq!((settled.lost, settled.paused), (vec![], vec![(task.id.clone(), 3)]), "it is said once");
    let open = state(db, &task).await;
    assert_eq!((open.consecutive_failures, open.pause_reason), (3, Some(PauseReason::Breaker)));
    assert_eq!(open.probe_at, Some(db.time() + MINUTE));
}

/// Not before: a success whose post then fails is none.
pub async fn failures_are_forgotten_when_the_posts_of_a_success_are_settled(db: &TestStore) {
    let (player, task) = sender(db).await;
    let fail = async || {
        let attempt = player.claim(&task).await;
        player.end(&task, &attempt, failed_for_good("broken"), Made::default()).await;
        db.advance(MINUTE).await;
    };
    let failures = async || state(db, &task).await.consecutive_failures;
    fail().await;
    makes(db, &player, &task, vec![message("a", "1"), message("b", "2")]).await;
    assert_eq!(failures().await, 1);
    let claimed = claim(&player).await;
    settle(&player, &claimed[0], posted(db, "1")).await;
    assert_eq!(failures().await, 1, "one of them is on its way");
    settle(&player, &claimed[1], PostEnd::Skipped { reason: SkipReason::RateLimited }).await;
    assert_eq!(failures().await, 0);

    // An older success does not make up for a later failure: of an execution, or of a post.
    makes(db, &player, &task, vec![message("a", "older")]).await;
    fail().await;
    let older = claim_one(&player).await;
    settle(&player, &older, posted(db, "1")).await;
    assert_eq!(failures().await, 1);
    makes(db, &player, &task, vec![message("a", "older")]).await;
    makes(db, &player, &task, vec![message("b", "newer")]).await;
    let claimed = claim(&player).await;
    let find = |text| claimed.iter().find(|post| post.content.text == text).expect("it was claimed");
    settle(&player, find("newer"), post_failed()).await;
    settle(&player, find("older"), posted(db, "1")).await;
    assert_eq!(failures().await, 2);

    // A run without posts settles nothing later.
    makes(db, &player, &task, Vec::new()).await;
    assert_eq!(failures().await, 0);
}
