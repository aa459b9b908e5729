//! Posts go out in order, one at a time for each destination, and never by two nodes.

use super::*;

/// The oldest first.
pub async fn one_post_of_a_destination_is_on_its_way_at_a_time(db: &TestStore) {
    let (player, task) = sender(db).await;
    assert_eq!(db.next_post_due(&[]).await.expect("an answer"), None);
    let first = db.time();
    makes(db, &player, &task, vec![message("a", "a1"), message("b", "b1")]).await;
    makes(db, &player, &task, vec![message("a", "a2")]).await;
    assert_eq!(db.next_post_due(&[]).await.expect("an answer"), Some(first));
    let claimed = claim(&player).await;
    assert_eq!(texts(&claimed), ["a1", "b1"]);
    assert_eq!(texts(&claim(&player).await), Vec::<&str>::new(), "a2 waits for a1");
    assert_eq!(db.next_post_due(&[]).await.expect("an answer"), Some(first + MINUTE));
    let a1 = claimed.iter().find(|post| post.content.text == "a1").expect("a1");
    assert_eq!((a1.attempt, a1.uncertain_since, a1.lease_until), (1, None, db.time() + LEASE));
    let attempts = db.post_attempts(a1.id).await.expect("attempts");
    assert_eq!((attempts.len(), attempts[0].sent_at, attempts[0].ended_at), (1, db.time(), None));
    assert_eq!(settle(&player, a1, posted(db, "77")).await, []);
    let there = view(db, a1.id).await;
    assert_eq!((there.state, there.posted_at), (PostState::Posted, Some(db.time())));
    assert_eq!(there.receipt.expect("a receipt").message_id, "77");
    let attempts = db.post_attempts(a1.id).await.expect("attempts");
    assert_eq!(attempts[0].ended.as_deref(), Some("posted"));
    assert_eq!(texts(&claim(&player).await), ["a2"]);
    assert_eq!(db.next_post_due(&[]).await.expect("an answer"), None);
}

/// Each post once, each destination in order, however many send.
pub async fn many_deliverers_at_once_send_each_post_once_and_in_order(db: &TestStore) {
    let (player, task) = sender(db).await;
    let posts: Vec<_> = (0..5)
        .flat_map(|part_no| (0..8).map(move |d| part(&format!("channel {d}"), part_no, &part_no.to_string())))
        .collect();
    makes(db, &player, &task, posts).await;
    let mut deliverers = Vec::new();
    for n in 0..4 {
        let player = Player::enter(db, &format!("deliverer {n}")).await;
        deliverers.push(tokio::spawn(async move {
            let mut sent = Vec::new();
            // Each round may find the destinations busy with the others' posts.
            while player.store.value_of_waiting().await {
                for post in player.store.claim_posts(&player.id, 3, LEASE, &[]).await.expect("an answer") {
                    sent.push((post.fence, post.destination.target.clone(), post.content.text.clone()));
                    let receipt = Receipt {
                        message_id: "1".into(),
                        posted_at: post.lease_until,
                        link: None,
                        recovered: false,
                        to_follow: Vec::new(),
                        missing: Vec::new(),
                    };
                    assert_eq!(settle(&player, &post, PostEnd::Posted(receipt)).await, []);
                }
            }
            sent
        }));
    }
    let mut sent = Vec::new();
    for deliverer in deliverers {
        sent.extend(deliverer.await.expect("no panic"));
    }
    sent.sort();
    let mut by_destination: HashMap<String, Vec<String>> = HashMap::new();
    for (_, destination, text) in sent {
        by_destination.entry(destination).or_default().push(text);
    }
    assert_eq!(by_destination.len(), 8);
    for texts in by_destination.values() {
        assert_eq!(texts, &["0", "1", "2", "3", "4"]);
    }
}

/// However many posts wait at the first ones, and however old they are.
pub async fn destinations_take_turns(db: &TestStore) {
    let (player, task) = sender(db).await;
    let many = (0..20).flat_map(|n| ["a", "b", "c", "d"].map(|d| part(d, n, "old"))).collect();
    makes(db, &player, &task, many).await;
    makes(db, &player, &task, ["e", "f", "g", "h"].map(|d| message(d, "new")).into()).await;
    let mut turns = Vec::new();
    for _ in 0..3 {
        let claimed = player.store.claim_posts(&player.id, 3, LEASE, &[]).await.expect("an answer");
        for post in &claimed {
            settle(&player, post, posted(db, "1")).await;
        }
        let mut targets: Vec<_> = claimed.into_iter().map(|post| post.destination.target).collect();
        targets.sort();
        turns.push(targets.concat());
    }
    assert_eq!(turns, ["abc", "def", "agh"]);
}

/// What waits for a later time is found when it has come, in the order in which it was made.
pub async fn many_posts_whose_time_comes_at_once_go_out_in_order(db: &TestStore) {
    let (player, task) = sender(db).await;
    let opens = db.time() + 10 * MINUTE;
    let windowed = |n: u32| NewPost { not_before: Some(opens), ..part("a", n, &n.to_string()) };
    let mut windowed: Vec<_> = (0..6).map(windowed).collect();
    windowed[0].not_before = Some(opens + MINUTE);
    for (n, post) in windowed.iter_mut().enumerate() {
        post.first_part = n as u32;
    }
    makes(db, &player, &task, windowed).await;
    makes(db, &player, &task, vec![message("a", "made later")]).await;
    let now = claim_one(&player).await;
    settle(&player, &now, posted(db, "1")).await;
    assert_eq!(now.content.text, "made later");
    assert_eq!(claim(&player).await, []);
    assert_eq!(db.next_post_due(&[]).await.expect("an answer"), Some(opens));
    db.set(opens + 2 * MINUTE).await;
    let mut order = Vec::new();
    for _ in 0..6 {
        let post = claim_one(&player).await;
        settle(&player, &post, posted(db, "2")).await;
        order.push(post.content.text);
    }
    assert_eq!(order, ["0", "1", "2", "3", "4", "5"]);
}

trait Waiting {
    async fn value_of_waiting(&self) -> bool;
}

impl Waiting for botticelli_database::Store {
    /// Whether any post is not there yet.
    async fn value_of_waiting(&self) -> bool {
        let all = self.posts(PostFilter { limit: 1000, ..PostFilter::default() }).await.expect("posts");
        all.iter().any(|post| post.state != PostState::Posted)
    }
}

/// A part goes out after the parts before it, or not at all.
pub async fn parts_go_out_in_order_and_not_after_one_that_failed(db: &TestStore) {
    let (player, task) = sender(db).await;
    let parts = |target: &str| (0..3).map(|n| part(target, n, &format!("{target}{n}"))).collect::<Vec<_>>();
    makes(db, &player, &task, [parts("a"), parts("b")].concat()).await;
    for round in ["a0 b0", "a1 b1"] {
        let claimed = claim(&player).await;
        assert_eq!(texts(&claimed).join(" "), round);
        for post in &claimed {
            let fails = post.content.text == "b1";
            settle(&player, post, if fails { post_failed() } else { posted(db, "1") }).await;
        }
    }
    let last = claim_one(&player).await;
    assert_eq!(last.content.text, "a2");
    settle(&player, &last, PostEnd::Skipped { reason: SkipReason::RateLimited }).await;
    let all = db.posts(PostFilter { limit: 10, ..PostFilter::default() }).await.expect("posts");
    let b2 = all.iter().find(|post| post.content == "b2").expect("b2");
    assert_eq!(b2.state, PostState::Skipped);
    assert!(b2.reason.as_deref().expect("a reason").contains("an earlier part"));
    assert_eq!(b2.attempts, 0);
}

/// Its own later parts wait for the person; other messages do not.
pub async fn a_post_that_needs_review_does_not_hold_up_the_destination(db: &TestStore) {
    let (player, task) = sender(db).await;
    makes(db, &player, &task, vec![part("a", 0, "doubtful"), part("a", 1, "after it")]).await;
    makes(db, &player, &task, vec![message("a", "next message")]).await;
    let doubtful = claim_one(&player).await;
    settle(&player, &doubtful, needs_review()).await;
    let next = claim_one(&player).await;
    assert_eq!(next.content.text, "next message");
    settle(&player, &next, posted(db, "1")).await;
    assert_eq!(claim(&player).await, []);
    // The person has looked, and it is not there.
    assert_eq!(db.decide(doubtful.id, PostDecision::Resend).await.expect("an answer"), Decided::Done);
    let again = claim_one(&player).await;
    assert_eq!((again.id, again.attempt, again.uncertain_since), (doubtful.id, 2, None));
    assert_eq!(again.key, doubtful.key);
    settle(&player, &again, posted(db, "2")).await;
    assert_eq!(claim_one(&player).await.content.text, "after it");
}

/// Waiting is not failing.
pub async fn a_deferred_post_goes_out_at_its_time_and_not_before(db: &TestStore) {
    let (player, task) = sender(db).await;
    let mut later = message("a", "later");
    later.not_before = Some(db.time() + 3 * MINUTE);
    makes(db, &player, &task, vec![later]).await;
    makes(db, &player, &task, vec![message("a", "now")]).await;
    let now = claim_one(&player).await;
    assert_eq!(now.content.text, "now", "who waits for a time holds up nobody");
    settle(&player, &now, deferred(db.time() + 5 * MINUTE, false)).await;
    let waiting = view(db, now.id).await;
    assert_eq!((waiting.state, waiting.reason.as_deref()), (PostState::Deferred, Some("a limit")));
    assert_eq!(db.next_post_due(&[]).await.expect("an answer"), Some(db.time() + MINUTE));
    assert_eq!(claim(&player).await, []);
    db.advance(MINUTE - Duration::from_micros(1)).await;
    assert_eq!(claim(&player).await, []);
    db.advance(Duration::from_micros(1)).await;
    let later = claim_one(&player).await;
    assert_eq!(later.content.text, "later");
    settle(&player, &later, posted(db, "1")).await;
    db.advance(4 * MINUTE).await;
    assert_eq!(claim_one(&player).await.attempt, 2);
    assert_eq!(state(db, &task).await.consecutive_failures, 0);
}
