//! What is known of attempts, and of what is in doubt after one.

use super::*;

/// For the person who looks at it: the platform's words, to the letter.
pub async fn what_a_platform_was_asked_and_answered_is_kept_with_the_attempt(db: &TestStore) {
    let (player, task) = sender(db).await;
    makes(db, &player, &task, vec![message("a", "text")]).await;
    let post = claim_one(&player).await;
    assert_eq!(db.post_attempts(post.id).await.expect("attempts")[0].exchanges, None, "it is under way");
    let mut looked_up = Exchange::asked(Asked::LookUp, db.time());
    looked_up.looked_up(db.time(), &LookUp::Absent);
    let mut refused = Exchange::asked(Asked::Post, db.time());
    let reason = Reason::answered("HTTP 429 \u{1b}[31m \"ä\"", 429, Some(20028));
    let busy = PostError::NotSent { reason, retry_after: Some(3 * SECOND) };
    refused.failed(db.time() + SECOND, &busy);
    let broke_off = Exchange::asked(Asked::Post, db.time());
    let exchanges = vec![looked_up, refused, broke_off];
    let end = deferred(db.time() + SECOND, true);
    let ended = [SettledPost { id: post.id, fence: post.fence, end, exchanges: exchanges.clone() }];
    player.store.settle_posts(&player.id, &ended).await.expect("an answer");
    db.advance(SECOND).await;
    let again = claim_one(&player).await;
    let mut nul = Exchange::asked(Asked::Post, db.time());
    nul.failed(db.time(), &PostError::Refused("a\0b".into()));
    let ended = [SettledPost { id: post.id, fence: again.fence, end: post_failed(), exchanges: vec![nul] }];
    player.store.settle_posts(&player.id, &ended).await.expect("an answer");
    let attempts = db.post_attempts(post.id).await.expect("attempts");
    assert_eq!(attempts[0].exchanges.as_ref(), Some(&exchanges));
    let second = attempts[1].exchanges.as_ref().expect("exchanges");
    assert_eq!(second[0].text.as_deref(), Some("a\u{fffd}b"));
    assert_eq!(view(db, post.id).await.uncertain_since, None, "the platform has refused it");
}

/// The first doubt counts, until somebody knows.
pub async fn a_doubt_is_kept_from_the_first_attempt_until_it_is_cleared(db: &TestStore) {
    let (player, task) = sender(db).await;
    makes(db, &player, &task, vec![message("a", "text")]).await;
    let first = db.time();
    for uncertain in [true, true, false, true] {
        let post = claim_one(&player).await;
        settle(&player, &post, deferred(db.time() + SECOND, uncertain)).await;
        db.advance(SECOND).await;
        let again = claim_one(&player).await;
        match post.attempt {
            1 | 3 => assert_eq!(again.uncertain_since, Some(first)),
            5 => assert_eq!(again.uncertain_since, None),
            7 => assert_eq!(again.uncertain_since, Some(db.time() - SECOND)),
            other => panic!("attempt {other}"),
        }
        // Waits without any new doubt, and without knowing more.
        let keep = again.uncertain_since.is_some();
        settle(&player, &again, deferred(db.time(), keep)).await;
    }
}

/// The number of the attempt goes on all the same.
pub async fn an_attempt_that_only_waited_is_no_try(db: &TestStore) {
    let (player, task) = sender(db).await;
    makes(db, &player, &task, vec![message("a", "a1")]).await;
    for (attempt, tries) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 3), (6, 3)] {
        let post = claim_one(&player).await;
        assert_eq!((post.attempt, post.tries), (attempt, tries));
        let again = db.time() + SECOND;
        let end = if matches!(attempt, 3 | 4) { not_taken(again) } else { deferred(again, false) };
        settle(&player, &post, end).await;
        db.advance(SECOND).await;
    }
}

/// Those of its destination, from a little before its first attempt on.
pub async fn a_post_in_doubt_comes_with_the_receipts_of_others(db: &TestStore) {
    let (player, task) = sender(db).await;
    for (target, id) in [("a", "long ago"), ("b", "elsewhere"), ("a", "before")] {
        makes(db, &player, &task, vec![message(target, "same")]).await;
        let post = claim_one(&player).await;
        assert_eq!(post.taken, [""; 0], "it is not in doubt");
        settle(&player, &post, posted(db, id)).await;
        if id == "long ago" {
            db.advance(120 * MINUTE).await;
        }
    }
    db.advance(MINUTE).await;
    makes(db, &player, &task, vec![message("a", "same")]).await;
    let post = claim_one(&player).await;
    settle(&player, &post, deferred(db.time() + SECOND, true)).await;
    db.advance(SECOND).await;
    assert_eq!(claim_one(&player).await.taken, ["before"]);
}

/// By time, by death, by leaving: the attempt may have taken effect, and who comes late is told.
pub async fn a_post_whose_lease_was_lost_is_uncertain_and_belongs_to_another(db: &TestStore) {
    let (player, task) = sender(db).await;
    let other = Player::enter(db, "other").await;
    makes(db, &player, &task, vec![message("a", "text"), message("b", "text")]).await;
    let claimed = claim(&player).await;
    let sent_at = db.time();
    assert_eq!(db.rescue_posts().await.expect("an answer"), 0);
    db.advance(LEASE + SECOND).await;
    assert_eq!(db.rescue_posts().await.expect("an answer"), 2);
    assert_eq!(db.rescue_posts().await.expect("an answer"), 0);
    for post in &claimed {
        assert_eq!(settle(&player, post, posted(db, "1")).await, [post.id], "the lease is lost");
        assert_eq!(view(db, post.id).await.state, PostState::Pending);
        let attempts = db.post_attempts(post.id).await.expect("attempts");
        assert_eq!(attempts[0].ended.as_deref(), Some("lost"));
    }
    let again = claim(&other).await;
    for post in &again {
        assert_eq!((post.attempt, post.uncertain_since), (2, Some(sent_at)));
        let first = claimed.iter().find(|first| first.id == post.id).expect("the same");
        assert_eq!(first.key, post.key);
        assert_eq!(settle(&player, first, post_failed()).await, [post.id], "another node has it");
        assert_eq!(settle(&player, post, post_failed()).await, [post.id], "the fence is not this node's");
        // A stale end and a valid one in one batch.
        let ends = [
            SettledPost { id: post.id, fence: first.fence, end: post_failed(), exchanges: Vec::new() },
            SettledPost { id: post.id, fence: post.fence, end: posted(db, "2"), exchanges: Vec::new() },
            SettledPost { id: post.id, fence: post.fence, end: post_failed(), exchanges: Vec::new() },
        ];
        assert_eq!(other.store.settle_posts(&other.id, &ends).await.expect("an answer").lost, [post.id]);
        assert_eq!(view(db, post.id).await.state, PostState::Posted);
    }
    assert_eq!(state(db, &task).await.consecutive_failures, 0);

    player.store.renew(&player.id, LEASE).await.expect("a heartbeat");
    makes(db, &player, &task, vec![message("a", "dies")]).await;
    let dying = claim_one(&player).await;
    db.advance(LEASE + SECOND).await;
    other.store.renew(&other.id, LEASE).await.expect("a heartbeat");
    other.store.rescue(&other.id).await.expect("an answer");
    assert_eq!(settle(&player, &dying, posted(db, "1")).await, [dying.id]);
    let taken = claim_one(&other).await;
    assert_eq!((taken.id, taken.uncertain_since.is_some()), (dying.id, true));
    other.store.leave(&other.id).await.expect("an answer");
    assert_eq!(claim_one(&player).await.attempt, 3);
}

/// Unlike a record, which is too late once a rescue has been: a lease that is over, but that nobody took, still counts.
pub async fn a_late_end_that_nobody_overtook_is_stored(db: &TestStore) {
    let (player, task) = sender(db).await;
    makes(db, &player, &task, vec![message("a", "text")]).await;
    let post = claim_one(&player).await;
    db.advance(10 * LEASE).await;
    assert_eq!(settle(&player, &post, posted(db, "1")).await, []);
    let unknown =
        [SettledPost { id: PostId(999), fence: Fence(1), end: post_failed(), exchanges: Vec::new() }];
    assert_eq!(player.store.settle_posts(&player.id, &unknown).await.expect("an answer").lost, [PostId(999)]);
}

/// Also of those that a person has left out: they may be there all the same.
pub async fn a_post_in_doubt_comes_with_what_others_say_that_may_be_there(db: &TestStore) {
    let (player, task) = sender(db).await;
    for (target, text) in [("a", "unsure"), ("b", "elsewhere"), ("a", "left out"), ("a", "seen")] {
        makes(db, &player, &task, vec![message(target, text)]).await;
        let post = claim_one(&player).await;
        assert_eq!(post.rivals, [], "it is not in doubt");
        settle(&player, &post, needs_review()).await;
        let decision = match text {
            "left out" => PostDecision::Dismiss,
            "seen" => decisions::seen(),
            _ => continue,
        };
        assert_eq!(db.decide(post.id, decision).await.expect("an answer"), Decided::Done);
    }
    makes(db, &player, &task, vec![message("a", "same")]).await;
    let post = claim_one(&player).await;
    settle(&player, &post, deferred(db.time() + SECOND, true)).await;
    db.advance(SECOND).await;
    let rivals: Vec<String> = claim_one(&player).await.rivals.into_iter().map(|rival| rival.text).collect();
    assert_eq!(rivals, ["left out", "unsure"]);
}

/// It is the fence that tells the attempts of one node apart.
pub async fn the_late_end_of_an_attempt_does_not_end_the_next_one_of_the_same_node(db: &TestStore) {
    let (player, task) = sender(db).await;
    makes(db, &player, &task, vec![message("a", "text")]).await;
    let first = claim_one(&player).await;
    db.advance(LEASE + SECOND).await;
    assert_eq!(db.rescue_posts().await.expect("an answer"), 1);
    let second = claim_one(&player).await;
    assert_eq!(settle(&player, &first, post_failed()).await, [first.id], "that attempt was given up");
    assert_eq!(view(db, first.id).await.state, PostState::Sending);
    assert_eq!(settle(&player, &second, posted(db, "1")).await, []);
    assert_eq!(view(db, first.id).await.state, PostState::Posted);
}
