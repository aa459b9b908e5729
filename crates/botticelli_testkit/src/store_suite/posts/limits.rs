//! What was posted, for limits and for skills.

use super::*;

/// What this task posted there, or may have posted; not what waits, nor this message's own parts.
pub async fn a_claimed_post_knows_the_times_that_its_limits_count(db: &TestStore) {
    let (player, task) = sender(db).await;
    let other = each_minute("other");
    register(db, &[&task, &other]).await;
    let limited = |target: &str, n: u32, text: &str| NewPost {
        limits: DeliveryLimits { max_posts_per_day: NonZeroU32::new(10), ..DeliveryLimits::default() },
        ..part(target, n, text)
    };
    makes(db, &player, &other, vec![message("a", "another task's")]).await;
    let others = claim_one(&player).await;
    settle(&player, &others, posted(db, "1")).await;
    let mut expected = Vec::new();
    for end in [posted(db, "2"), post_failed(), needs_review(), deferred(db.time() + 1000 * MINUTE, true)] {
        let counts = !matches!(end, PostEnd::Failed { .. });
        makes(db, &player, &task, vec![message("a", "earlier")]).await;
        let post = claim_one(&player).await;
        let end = match end {
            PostEnd::Posted(_) => posted(db, "2"),
            other => other,
        };
        settle(&player, &post, end).await;
        if counts {
            expected.push(db.time());
        }
    }
    makes(
        db,
        &player,
        &task,
        vec![limited("a", 0, "one"), limited("a", 1, "two"), limited("b", 0, "elsewhere")],
    )
    .await;
    makes(db, &player, &task, vec![limited("a", 0, "waits")]).await;
    let claimed = claim(&player).await;
    for post in &claimed {
        let here = post.destination.target == "a";
        assert_eq!(post.earlier, if here { expected.clone() } else { Vec::new() });
        settle(&player, post, posted(db, "3")).await;
    }
    let second = claim_one(&player).await;
    assert_eq!((second.content.text.as_str(), &second.earlier), ("two", &expected));
    settle(&player, &second, posted(db, "3")).await;
    let next = claim_one(&player).await;
    expected.push(db.time());
    assert_eq!((next.content.text.as_str(), &next.earlier), ("waits", &expected));
}

/// What was posted, or is on its way. An item that a platform refused is not offered again: it would be refused again.
pub async fn skills_are_told_what_was_posted_or_is_on_its_way(db: &TestStore) {
    let (player, task) = sender(db).await;
    let other = each_minute("other");
    register(db, &[&task, &other]).await;
    let start = db.time();
    let uses = async |task: &Task, key: &str, at: Option<DateTime<Utc>>| {
        let attempt = player.claim(task).await;
        let post = NewPost { not_before: at, ..message("a", key) };
        let made =
            Made { posts: vec![post, part("a", 1, "its second part")], used_items: vec![item("a", key)] };
        player.end(task, &attempt, AttemptEnd::Succeeded, made).await;
        db.advance(MINUTE).await;
    };
    let keys = async |task: &Task| {
        let keys = db.used_keys(&task.id, "facts").await.expect("keys");
        assert_eq!(keys.len(), keys.iter().collect::<HashSet<_>>().len());
        let mut keys = keys;
        keys.sort();
        keys.join(" ")
    };
    let window = start + 100 * MINUTE;
    uses(&task, "posted", None).await;
    settle(&player, &claim_one(&player).await, posted(db, "1")).await;
    let posted_at = db.time();
    settle(&player, &claim_one(&player).await, posted(db, "2")).await;
    uses(&task, "failed", None).await;
    settle(&player, &claim_one(&player).await, post_failed()).await;
    uses(&task, "doubtful", None).await;
    let doubtful_at = db.time();
    settle(&player, &claim_one(&player).await, needs_review()).await;
    uses(&task, "waits", Some(window)).await;
    uses(&other, "other", None).await;
    let others = claim_one(&player).await;
    assert_eq!(keys(&task).await, "doubtful failed posted waits");
    assert_eq!(keys(&other).await, "other");
    assert_eq!(db.used_keys(&task.id, "another source").await.expect("keys"), Vec::<String>::new());

    let items = db.earlier_items(&destination("a"), start).await.expect("items");
    let seen: Vec<_> = items.iter().map(|item| item.text.as_str()).collect();
    assert_eq!(
        seen,
        ["text of other", "text of waits", "text of doubtful", "text of posted"],
        "newest first"
    );
    assert_eq!(items[0].post_id, Some(others.id));
    let newer = db.earlier_items(&destination("a"), items[1].used_at).await.expect("items");
    assert_eq!(newer.len(), 2);
    assert_eq!(db.earlier_items(&destination("b"), start).await.expect("items"), []);

    let times = db.post_times(&task.id, &destination("a"), start).await.expect("times");
    assert_eq!(times, [posted_at, doubtful_at, window]);
    let later = db.post_times(&task.id, &destination("a"), window).await.expect("times");
    assert_eq!(later, [window]);

    // An item without a post of its own stays used.
    let attempt = player.claim(&task).await;
    let made = Made { posts: Vec::new(), used_items: vec![item("a", "no post")] };
    player.end(&task, &attempt, AttemptEnd::Succeeded, made).await;
    assert_eq!(keys(&task).await, "doubtful failed no post posted waits");
}

/// What a limit of the actor's own left out may be posted another day; what a person left out is done with.
pub async fn an_item_is_free_again_when_a_limit_left_its_post_out(db: &TestStore) {
    let (player, task) = sender(db).await;
    let uses = async |key: &str| {
        let attempt = player.claim(&task).await;
        let made = Made { posts: vec![message("a", key)], used_items: vec![item("a", key)] };
        let ended = player.ended(&task, &attempt, AttemptEnd::Succeeded, made).await;
        db.advance(MINUTE).await;
        player.record(ended).await
    };
    let keys = async || {
        let mut keys = db.used_keys(&task.id, "facts").await.expect("keys");
        keys.sort();
        keys
    };
    for (key, end) in
        [("limited", PostEnd::Skipped { reason: SkipReason::RateLimited }), ("refused", post_failed())]
    {
        assert!(matches!(uses(key).await, Recorded::Stored { .. }));
        settle(&player, &claim_one(&player).await, end).await;
    }
    assert!(matches!(uses("dismissed").await, Recorded::Stored { .. }));
    let all = db.posts(PostFilter { limit: 1, ..PostFilter::default() }).await.expect("posts");
    assert_eq!(db.decide(all[0].id, PostDecision::Dismiss).await.expect("an answer"), Decided::Done);
    assert_eq!(keys().await, ["dismissed", "refused"]);
    assert!(matches!(uses("limited").await, Recorded::Stored { .. }), "it was free");
    assert_eq!(keys().await, ["dismissed", "limited", "refused"]);
    assert!(matches!(uses("refused").await, Recorded::Overtaken { .. }));
}
