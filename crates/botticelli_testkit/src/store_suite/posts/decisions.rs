//! What a person decides about a post.

use super::*;

pub(super) fn seen() -> PostDecision {
    PostDecision::MarkPosted { message_id: "77".into(), link: Some("https://example.org/77".into()) }
}

/// Every state, every decision; where it matters, with and without a doubt.
pub async fn a_person_decides_about_a_post_in_any_state(db: &TestStore) {
    let (player, task) = sender(db).await;
    let post_in = async |wanted: PostState, in_doubt: bool| -> PostId {
        makes(db, &player, &task, vec![message("a", "text")]).await;
        let waiting =
            db.posts(PostFilter { limit: 1, ..PostFilter::default() }).await.expect("posts").remove(0);
        if wanted != PostState::Pending || in_doubt {
            let post = claim_one(&player).await;
            let end = match wanted {
                PostState::Pending | PostState::Sending => None,
                PostState::Deferred => Some(deferred(db.time() + 1000 * MINUTE, in_doubt)),
                PostState::Posted => Some(posted(db, "1")),
                PostState::Failed => Some(post_failed()),
                PostState::NeedsReview => Some(needs_review()),
                PostState::Skipped => Some(PostEnd::Skipped { reason: SkipReason::RateLimited }),
            };
            if let Some(end) = end {
                settle(&player, &post, end).await;
            } else if wanted == PostState::Pending {
                db.advance(LEASE + SECOND).await;
                assert_eq!(db.rescue_posts().await.expect("an answer"), 1);
            }
        }
        assert_eq!(view(db, waiting.id).await.state, wanted);
        waiting.id
    };
    use PostDecision::{Dismiss, Resend, Retry};
    use PostState::{Deferred, Failed, NeedsReview, Pending, Posted, Sending, Skipped};
    for (wanted, in_doubt, allowed) in [
        (Pending, false, vec![Dismiss]),
        (Pending, true, vec![Resend, seen(), Dismiss]),
        (Deferred, false, vec![Retry, Dismiss]),
        (Deferred, true, vec![Retry, Resend, seen(), Dismiss]),
        (Sending, true, vec![]),
        (Posted, false, vec![]),
        (Failed, false, vec![Retry, seen(), Dismiss]),
        (NeedsReview, true, vec![Resend, seen(), Dismiss]),
        (Skipped, false, vec![Retry]),
    ] {
        for decision in [Retry, Resend, seen(), Dismiss] {
            db.resume(&task.id).await.expect("an answer");
            let id = post_in(wanted, in_doubt).await;
            let decided = db.decide(id, decision.clone()).await.expect("an answer");
            let after = view(db, id).await;
            let what = format!("{decision:?}, {wanted:?}, in doubt: {in_doubt}");
            if allowed.contains(&decision) {
                assert_eq!(decided, Decided::Done, "{what}");
                let (state, deliver_at) = match decision {
                    Retry | Resend => (Pending, Some(db.time())),
                    PostDecision::MarkPosted { .. } => (Posted, None),
                    Dismiss => (Skipped, None),
                };
                assert_eq!((after.state, after.deliver_at), (state, deliver_at), "{what}");
            } else {
                assert_eq!((decided, after.state), (Decided::NotNow(wanted), wanted), "{what}");
            }
            // So that the next one is alone on its way.
            db.sql("DELETE FROM actor_server_posts; DELETE FROM actor_server_post_attempts").await;
        }
    }
    assert_eq!(db.decide(PostId(999), Retry).await.expect("an answer"), Decided::UnknownPost);
}

/// A retry asks again, and leaves the doubt; sending it again whatever may be there is another decision.
pub async fn a_doubt_ends_where_a_person_says_so_and_not_by_a_retry(db: &TestStore) {
    let (player, task) = sender(db).await;
    for (decision, stays) in [(PostDecision::Retry, true), (PostDecision::Resend, false)] {
        makes(db, &player, &task, vec![message("a", "text")]).await;
        let post = claim_one(&player).await;
        let sent_at = db.time();
        settle(&player, &post, deferred(sent_at + 1000 * MINUTE, true)).await;
        assert_eq!(db.decide(post.id, decision).await.expect("an answer"), Decided::Done);
        let again = claim_one(&player).await;
        assert_eq!((again.id, again.uncertain_since), (post.id, stays.then_some(sent_at)));
        settle(&player, &again, posted(db, "1")).await;
    }
    // Neither when it was left out meanwhile.
    makes(db, &player, &task, vec![message("a", "text")]).await;
    let post = claim_one(&player).await;
    let sent_at = db.time();
    settle(&player, &post, needs_review()).await;
    for decision in [PostDecision::Dismiss, PostDecision::Retry] {
        assert_eq!(db.decide(post.id, decision).await.expect("an answer"), Decided::Done);
    }
    assert_eq!(claim_one(&player).await.uncertain_since, Some(sent_at));
}

/// It is there as a person says, and nothing pretends that the platform has said so.
pub async fn a_post_that_a_person_has_seen_is_settled_by_its_words(db: &TestStore) {
    let (player, task) = sender(db).await;
    let parts = |target: &str| (0..3).map(|n| part(target, n, &format!("{target}{n}"))).collect::<Vec<_>>();
    makes(db, &player, &task, parts("a")).await;
    let doubtful = claim_one(&player).await;
    let sent_at = db.time();
    settle(&player, &doubtful, needs_review()).await;
    db.advance(MINUTE).await;
    assert_eq!(db.decide(doubtful.id, seen()).await.expect("an answer"), Decided::Done);
    let there = view(db, doubtful.id).await;
    let receipt = there.receipt.expect("a receipt");
    assert_eq!(
        (receipt.message_id.as_str(), receipt.link.as_deref()),
        ("77", Some("https://example.org/77"))
    );
    assert!(!receipt.recovered && there.marked_posted);
    assert_eq!(there.reason.as_deref(), Some("marked as posted by an operator"));
    assert_eq!(there.posted_at, Some(sent_at), "that is when it may have appeared");
    let attempts = db.post_attempts(doubtful.id).await.expect("attempts");
    assert_eq!((attempts.len(), attempts[0].ended.as_deref()), (1, Some("needs_review")), "as it was");
    for text in ["a1", "a2"] {
        let next = claim_one(&player).await;
        assert_eq!(next.content.text, text, "the message goes on");
        settle(&player, &next, posted(db, "1")).await;
        assert!(!view(db, next.id).await.marked_posted);
    }

    // It had counted as failed: the failure is forgotten, and what was left out because of it goes out.
    makes(db, &player, &task, parts("b")).await;
    let failed = claim_one(&player).await;
    settle(&player, &failed, post_failed()).await;
    let failures = async || state(db, &task).await.consecutive_failures;
    assert_eq!(failures().await, 1);
    assert_eq!(db.decide(failed.id, seen()).await.expect("an answer"), Decided::Done);
    assert_eq!(view(db, failed.id).await.posted_at, Some(db.time()), "no attempt was in doubt");
    assert_eq!(failures().await, 1, "its message is not settled yet");
    for text in ["b1", "b2"] {
        let next = claim_one(&player).await;
        assert_eq!(next.content.text, text);
        settle(&player, &next, posted(db, "1")).await;
    }
    assert_eq!(failures().await, 0);

    makes(db, &player, &task, vec![message("c", "the only part")]).await;
    let failed = claim_one(&player).await;
    settle(&player, &failed, post_failed()).await;
    assert_eq!(failures().await, 1);
    assert_eq!(db.decide(failed.id, seen()).await.expect("an answer"), Decided::Done);
    assert_eq!(failures().await, 0);
}

/// Even if the parts before it were given up, because that is what the person wants.
pub async fn a_later_part_that_a_person_sends_again_goes_out(db: &TestStore) {
    let (player, task) = sender(db).await;
    makes(db, &player, &task, vec![part("a", 0, "first"), part("a", 1, "second"), part("a", 2, "third")])
        .await;
    let first = claim_one(&player).await;
    settle(&player, &first, post_failed()).await;
    let second = PostId(first.id.0 + 1);
    assert_eq!(db.decide(second, PostDecision::Retry).await.expect("an answer"), Decided::Done);
    assert_eq!(claim_one(&player).await.id, second);

    // The first one again: the others follow it, but not one that was left out for another reason.
    makes(db, &player, &task, vec![part("c", 0, "first"), part("c", 1, "second"), part("c", 2, "third")])
        .await;
    let first = claim_one(&player).await;
    let (second, third) = (PostId(first.id.0 + 1), PostId(first.id.0 + 2));
    assert_eq!(db.decide(third, PostDecision::Dismiss).await.expect("an answer"), Decided::Done);
    settle(&player, &first, post_failed()).await;
    assert_eq!(db.decide(first.id, PostDecision::Retry).await.expect("an answer"), Decided::Done);
    for expected in [first.id, second] {
        let post = claim_one(&player).await;
        assert_eq!(post.id, expected);
        settle(&player, &post, posted(db, "1")).await;
    }
    assert_eq!(view(db, third).await.state, PostState::Skipped);

    // Dismissing takes the later parts with it.
    makes(db, &player, &task, vec![part("b", 0, "first"), part("b", 1, "second")]).await;
    let all = db.posts(PostFilter { limit: 2, ..PostFilter::default() }).await.expect("posts");
    assert_eq!(db.decide(all[1].id, PostDecision::Dismiss).await.expect("an answer"), Decided::Done);
    assert_eq!(view(db, all[0].id).await.state, PostState::Skipped);
    assert_eq!(claim(&player).await, []);
}

/// While people decide and nodes die: no post is in two hands, and each ends where somebody said.
pub async fn deliveries_decisions_and_rescues_at_once_do_not_write_over_each_other(db: &TestStore) {
    let (player, task) = sender(db).await;
    let posts: Vec<_> = (0..60).map(|n| message(&format!("channel {n}"), "text")).collect();
    makes(db, &player, &task, posts).await;
    let mut workers = Vec::new();
    for n in 0..3 {
        let player = Player::enter(db, &format!("deliverer {n}")).await;
        workers.push(tokio::spawn(async move {
            let (mut accepted, mut idle) = (Vec::new(), 0);
            while idle < 5 {
                // A lease of no time at all: the rescuers take what they find.
                let claimed =
                    player.store.claim_posts(&player.id, 10, Duration::ZERO, &[]).await.expect("an answer");
                idle = if claimed.is_empty() { idle + 1 } else { 0 };
                let receipt = |n: i64| Receipt {
                    message_id: n.to_string(),
                    posted_at: DateTime::UNIX_EPOCH,
                    link: None,
                    recovered: false,
                    to_follow: Vec::new(),
                    missing: Vec::new(),
                };
                let ends: Vec<_> = claimed
                    .iter()
                    .map(|post| SettledPost {
                        id: post.id,
                        fence: post.fence,
                        end: PostEnd::Posted(receipt(post.fence.0)),
                        exchanges: Vec::new(),
                    })
                    .collect();
                let lost = player.store.settle_posts(&player.id, &ends).await.expect("an answer").lost;
                accepted.extend(
                    ends.into_iter().filter(|end| !lost.contains(&end.id)).map(|end| (end.id, end.fence)),
                );
            }
            accepted
        }));
    }
    let rescuer = db.another().await;
    let tired = db.another().await;
    let rescues = tokio::spawn(async move {
        for _ in 0..60 {
            rescuer.rescue_posts().await.expect("an answer");
        }
    });
    let decisions = tokio::spawn(async move {
        let all = tired.posts(PostFilter { limit: 60, ..PostFilter::default() }).await.expect("posts");
        let mut dismissed = HashSet::new();
        for post in all {
            if tired.decide(post.id, PostDecision::Dismiss).await.expect("an answer") == Decided::Done {
                dismissed.insert(post.id);
            }
        }
        dismissed
    });
    // Leases of no time are over one moment later.
    db.advance(SECOND).await;
    let mut accepted = HashMap::new();
    for worker in workers {
        for (id, fence) in worker.await.expect("no panic") {
            assert_eq!(accepted.insert(id, fence), None, "two ends of one post were stored");
        }
    }
    rescues.await.expect("no panic");
    let dismissed = decisions.await.expect("no panic");
    for post in db.posts(PostFilter { limit: 100, ..PostFilter::default() }).await.expect("posts") {
        match post.state {
            PostState::Posted => {
                let fence = accepted.get(&post.id).expect("somebody was told so");
                assert_eq!(post.receipt.expect("a receipt").message_id, fence.0.to_string());
                assert!(!dismissed.contains(&post.id));
            }
            PostState::Skipped => assert!(dismissed.contains(&post.id) && !accepted.contains_key(&post.id)),
            other => assert!(other == PostState::Pending && !accepted.contains_key(&post.id), "{other:?}"),
        }
    }
}

/// Each asks for the others that wait there.
pub async fn people_who_retry_posts_of_one_destination_at_once_do_not_lock_each_other_out(db: &TestStore) {
    let (player, task) = sender(db).await;
    let other_task = each_minute("another task");
    register(db, &[&task, &other_task]).await;
    makes(db, &player, &task, vec![message("a", "first")]).await;
    makes(db, &player, &other_task, vec![message("a", "second")]).await;
    let (here, there) = (db.another().await, db.another().await);
    let posts = db.posts(PostFilter { limit: 2, ..PostFilter::default() }).await.expect("posts");
    for _ in 0..30 {
        db.sql(
            "UPDATE actor_server_posts SET state = 'deferred', deliver_at = '2099-01-01 00:00:00+00:00', \
             holds_until = '2099-01-01 00:00:00+00:00'",
        )
        .await;
        let (one, two) = futures::join!(
            here.decide(posts[0].id, PostDecision::Retry),
            there.decide(posts[1].id, PostDecision::Retry)
        );
        assert_eq!((one.expect("an answer"), two.expect("an answer")), (Decided::Done, Decided::Done));
    }
}
