//! Posts that a destination did not take hold the others of it.

use super::*;

/// The network is away: posts wait, in order, and one of them asks whether it is back. Other destinations go on.
pub async fn while_a_destination_takes_no_posts_the_others_wait_in_order(db: &TestStore) {
    let (player, task) = sender(db).await;
    let mut window = message("a", "its window opens meanwhile");
    window.not_before = Some(db.time() + 4 * MINUTE);
    makes(db, &player, &task, vec![window]).await;
    makes(db, &player, &task, vec![part("a", 0, "first"), part("a", 1, "its second part")]).await;
    makes(db, &player, &task, vec![message("a", "next"), message("b", "elsewhere")]).await;
    let claimed = claim(&player).await;
    assert_eq!(texts(&claimed), ["elsewhere", "first"]);
    let first = claimed.iter().find(|post| post.content.text == "first").expect("first").clone();
    let elsewhere = claimed.iter().find(|post| post.content.text == "elsewhere").expect("elsewhere");
    settle(&player, elsewhere, posted(db, "1")).await;
    for wait in [MINUTE, 30 * MINUTE] {
        let until = db.time() + wait;
        let again = if wait == MINUTE { first.clone() } else { claim_one(&player).await };
        assert_eq!(again.id, first.id, "it asks again, and no other");
        settle(&player, &again, not_taken(until)).await;
        assert_eq!(claim(&player).await, []);
        assert_eq!(db.next_post_due(&[]).await.expect("an answer"), Some(until), "nothing to do until then");
        db.advance(wait).await;
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        let post = claim_one(&player).await;
        settle(&player, &post, posted(db, "2")).await;
        order.push(post.content.text);
    }
    assert_eq!(order, ["first", "its window opens meanwhile", "its second part", "next"]);
}

/// Whoever looks sees for which other one a post waits.
pub async fn a_post_that_waits_for_another_names_it(db: &TestStore) {
    let (player, task) = sender(db).await;
    makes(db, &player, &task, vec![part("a", 0, "first"), part("a", 1, "second")]).await;
    makes(db, &player, &task, vec![part("b", 0, "alone"), part("b", 1, "after it")]).await;
    makes(db, &player, &task, vec![message("a", "next"), message("b", "later")]).await;
    let claimed = claim(&player).await;
    for post in &claimed {
        let end = if post.content.text == "first" { not_taken(db.time() + MINUTE) } else { needs_review() };
        settle(&player, post, end).await;
    }
    let all = db.posts(PostFilter { limit: 10, ..PostFilter::default() }).await.expect("posts");
    let find = |text: &str| all.iter().find(|post| post.content == text).expect(text);
    let first = find("first").id;
    let waiting = |text: &str| find(text).waits_for;
    assert_eq!((waiting("first"), waiting("second"), waiting("next")), (None, Some(first), Some(first)));
    assert_eq!(
        (waiting("alone"), waiting("after it"), waiting("later")),
        (None, Some(find("alone").id), None)
    );
    assert_eq!(view(db, find("next").id).await.waits_for, Some(first));
    assert_eq!((find("alone").uncertain_since, find("first").uncertain_since), (Some(db.time()), None));
}

/// Whatever else waits there: who has put the destination right does not want to wait for its next turn.
pub async fn a_retry_asks_the_destination_again_at_once(db: &TestStore) {
    let (player, task) = sender(db).await;
    makes(db, &player, &task, vec![message("a", "failed")]).await;
    let failed = claim_one(&player).await;
    settle(&player, &failed, post_failed()).await;
    makes(db, &player, &task, vec![message("a", "first")]).await;
    let first = claim_one(&player).await;
    settle(&player, &first, not_taken(db.time() + 1000 * MINUTE)).await;
    makes(db, &player, &task, vec![message("a", "next")]).await;
    assert_eq!(claim(&player).await, []);
    assert_eq!(db.decide(first.id, PostDecision::Retry).await.expect("an answer"), Decided::Done);
    let again = claim_one(&player).await;
    assert_eq!(again.id, first.id);
    settle(&player, &again, not_taken(db.time() + 1000 * MINUTE)).await;

    // After so long the next one was tried too, and both wait.
    db.advance(HOLDS_FOR).await;
    let next = claim_one(&player).await;
    assert_eq!(next.content.text, "next");
    settle(&player, &next, not_taken(db.time() + 1000 * MINUTE)).await;
    assert_eq!(claim(&player).await, []);
    assert_eq!(db.decide(first.id, PostDecision::Retry).await.expect("an answer"), Decided::Done);
    let mut order = Vec::new();
    for _ in 0..2 {
        let post = claim_one(&player).await;
        settle(&player, &post, posted(db, "1")).await;
        order.push(post.content.text);
    }
    order.sort();
    assert_eq!(order, ["first", "next"]);
}

/// Then it may be the post that is at fault.
pub async fn a_post_that_is_never_taken_does_not_silence_its_destination_for_ever(db: &TestStore) {
    let (player, task) = sender(db).await;
    makes(db, &player, &task, vec![message("a", "odd")]).await;
    makes(db, &player, &task, vec![message("a", "next")]).await;
    let start = db.time();
    loop {
        let post = claim_one(&player).await;
        if post.content.text == "next" {
            break;
        }
        settle(&player, &post, not_taken(db.time() + 50 * MINUTE)).await;
        db.advance(25 * MINUTE).await;
        if db.time() - start <= chrono::TimeDelta::from_std(HOLDS_FOR).expect("short") {
            assert_eq!(claim(&player).await, []);
            db.advance(25 * MINUTE).await;
        }
    }
    assert!(db.time() - start >= chrono::TimeDelta::from_std(HOLDS_FOR).expect("short"));
}

/// A person's decision about it, and whatever else ends its waiting, lets the others go.
pub async fn a_post_that_is_settled_holds_nobody_any_more(db: &TestStore) {
    let (player, task) = sender(db).await;
    let limit = deferred(db.time() + 1000 * MINUTE, false);
    for (n, end) in [Some(post_failed()), Some(needs_review()), Some(limit), None].into_iter().enumerate() {
        let target = format!("channel {n}");
        makes(db, &player, &task, vec![message(&target, "first")]).await;
        makes(db, &player, &task, vec![message(&target, "next")]).await;
        let first = claim_one(&player).await;
        settle(&player, &first, not_taken(db.time() + MINUTE)).await;
        assert_eq!(claim(&player).await, []);
        match end {
            Some(end) => {
                db.advance(MINUTE).await;
                let again = claim_one(&player).await;
                assert_eq!(again.id, first.id);
                settle(&player, &again, end).await;
            }
            None => {
                let dismissed = db.decide(first.id, PostDecision::Dismiss).await.expect("an answer");
                assert_eq!(dismissed, Decided::Done);
            }
        }
        let next = claim_one(&player).await;
        assert_eq!(next.content.text, "next");
        settle(&player, &next, posted(db, "1")).await;
        db.sql("UPDATE actor_server_state SET consecutive_failures = 0").await;
    }
}
