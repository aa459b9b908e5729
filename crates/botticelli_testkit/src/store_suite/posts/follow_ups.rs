//! What is to follow a post that is there, such as a crosspost.

use super::*;
use botticelli_server::outbox::FollowAgain;

/// A post that is there, and that two things are to follow.
async fn is_posted(db: &TestStore, player: &Player, target: &str) -> ClaimedPost {
    let mut claimed = claim(player).await;
    claimed.retain(|post| post.posted.is_none() && post.destination.target == target);
    let post = claimed.pop().expect("it is due");
    assert_eq!(settle(player, &post, posted_with_more(db)).await, []);
    post
}

fn posted_with_more(db: &TestStore) -> PostEnd {
    let PostEnd::Posted(receipt) = posted(db, "1") else { unreachable!() };
    PostEnd::Posted(Receipt { to_follow: vec!["thread".to_owned(), "crosspost".to_owned()], ..receipt })
}

fn receipt(post: &ClaimedPost) -> Receipt {
    post.posted.clone().expect("it is there")
}

/// The thread is done, the crosspost waits.
fn half_done(post: &ClaimedPost, at: DateTime<Utc>, counts: bool) -> PostEnd {
    let receipt = Receipt { to_follow: vec!["crosspost".into()], ..receipt(post) };
    PostEnd::Followed { receipt, again: Some(FollowAgain { at, reason: "a limit".into(), counts }) }
}

fn all_done(post: &ClaimedPost) -> PostEnd {
    PostEnd::Followed { receipt: Receipt { to_follow: Vec::new(), ..receipt(post) }, again: None }
}

/// The post is posted at once, and stays so; no other post waits for what follows it.
pub async fn what_follows_a_post_is_tried_at_its_own_time_and_holds_nobody(db: &TestStore) {
    let (player, task) = sender(db).await;
    makes(db, &player, &task, vec![message("a", "a1"), message("b", "b1")]).await;
    makes(db, &player, &task, vec![message("a", "a2")]).await;
    let post = is_posted(db, &player, "a").await;
    let there = view(db, post.id).await;
    assert_eq!((there.state, there.follow_up_at), (PostState::Posted, Some(db.time())));
    assert_eq!(
        db.next_post_due(&["file".into()]).await.expect("an answer"),
        None,
        "another node sends there"
    );
    let without = player.store.claim_posts(&player.id, 100, LEASE, &["file".into()]).await;
    assert_eq!(without.expect("an answer"), []);

    let claimed = claim(&player).await;
    let [next, follow] = claimed.as_slice() else { panic!("{claimed:?}") };
    assert_eq!((next.content.text.as_str(), &next.posted), ("a2", &None));
    assert_eq!((follow.id, follow.attempt, follow.tries, follow.uncertain_since), (post.id, 2, 1, None));
    assert_eq!(receipt(follow).to_follow, ["thread", "crosspost"]);
    assert_eq!(claim(&player).await, [], "both are under way");
    assert_eq!(db.next_post_due(&[]).await.expect("an answer"), Some(db.time() + LEASE));
    let until = db.time() + MINUTE;
    assert_eq!(settle(&player, follow, half_done(follow, until, false)).await, []);
    settle(&player, next, posted(db, "2")).await;
    let waits = view(db, post.id).await;
    assert_eq!((waits.state, waits.follow_up_at), (PostState::Posted, Some(until)));
    assert_eq!(waits.reason.as_deref(), Some("a limit"));
    assert_eq!(waits.receipt.expect("a receipt").to_follow, ["crosspost"]);
    assert_eq!(db.next_post_due(&[]).await.expect("an answer"), Some(until));
    assert_eq!(claim(&player).await, []);

    db.advance(MINUTE).await;
    let follow = claim_one(&player).await;
    assert_eq!((follow.id, follow.attempt, follow.tries), (post.id, 3, 1), "a wait is no try");
    settle(&player, &follow, half_done(&follow, db.time() + MINUTE, true)).await;
    db.advance(MINUTE).await;
    let follow = claim_one(&player).await;
    assert_eq!(follow.tries, 2);
    settle(&player, &follow, all_done(&follow)).await;
    let done = view(db, post.id).await;
    assert_eq!((done.state, done.follow_up_at, done.reason), (PostState::Posted, None, None));
    assert_eq!(db.next_post_due(&[]).await.expect("an answer"), None);
    let attempts = db.post_attempts(post.id).await.expect("attempts");
    let ends: Vec<_> = attempts.iter().filter_map(|attempt| attempt.ended.as_deref()).collect();
    assert_eq!(ends, ["posted", "deferred", "deferred", "posted"]);
}

/// It can be repeated, so nothing is in doubt; only the last attempt may say how it ended.
pub async fn a_follow_up_whose_node_is_lost_is_due_again_and_a_late_end_is_refused(db: &TestStore) {
    let (player, task) = sender(db).await;
    let other = Player::enter(db, "other").await;
    makes(db, &player, &task, vec![message("a", "a1")]).await;
    makes(db, &player, &task, vec![message("a", "a2")]).await;
    let post = is_posted(db, &player, "a").await;
    let claimed = claim(&player).await;
    let [next, lost] = claimed.as_slice() else { panic!("{claimed:?}") };
    assert_eq!(settle(&player, next, posted_with_more(db)).await, []);
    assert_eq!(lost.id, post.id, "one of a destination at a time, the oldest first");
    assert_eq!(claim(&other).await, []);
    db.advance(LEASE + MINUTE).await;
    let again = claim_one(&other).await;
    assert_eq!((again.id, again.attempt), (post.id, 3));
    assert_eq!(settle(&player, lost, all_done(lost)).await, [post.id], "too late");
    assert!(view(db, post.id).await.follow_up_at.is_some());
    settle(&other, &again, all_done(&again)).await;
    assert_eq!(view(db, post.id).await.follow_up_at, None);
    assert_eq!(settle(&other, &again, all_done(&again)).await, [post.id], "once");
    let attempts = db.post_attempts(post.id).await.expect("attempts");
    let ends: Vec<_> = attempts.iter().filter_map(|attempt| attempt.ended.as_deref()).collect();
    assert_eq!(ends, ["posted", "lost", "posted"]);
    assert_ne!(claim_one(&player).await.id, post.id, "the next one's turn");
}

/// Tried again, or done without: the post is posted either way.
pub async fn a_person_decides_what_still_follows_a_post(db: &TestStore) {
    let (player, task) = sender(db).await;
    makes(db, &player, &task, vec![message("a", "a1")]).await;
    let post = is_posted(db, &player, "a").await;
    let decide = async |id: PostId, decision: PostDecision| db.decide(id, decision).await.expect("an answer");
    let follow = claim_one(&player).await;
    for decision in [PostDecision::Retry, PostDecision::Dismiss] {
        assert_eq!(decide(post.id, decision).await, Decided::NotNow(PostState::Sending), "it is under way");
    }
    let refused = Receipt {
        to_follow: vec!["crosspost".into()],
        missing: vec!["thread: no permission: ask".into()],
        ..receipt(&follow)
    };
    let again = FollowAgain { at: db.time() + 60 * MINUTE, reason: "a limit".into(), counts: false };
    settle(&player, &follow, PostEnd::Followed { receipt: refused, again: Some(again) }).await;
    assert_eq!(decide(post.id, PostDecision::Retry).await, Decided::Done);
    let follow = claim_one(&player).await;
    assert_eq!(receipt(&follow).to_follow, ["thread", "crosspost"], "both are asked for again, now");
    assert_eq!(receipt(&follow).missing, [""; 0]);
    settle(&player, &follow, half_done(&follow, db.time() + MINUTE, true)).await;
    assert_eq!(decide(post.id, PostDecision::Dismiss).await, Decided::Done);
    let left = view(db, post.id).await;
    assert_eq!((left.state, left.follow_up_at), (PostState::Posted, None));
    let without = "crosspost: dismissed by an operator";
    assert_eq!(left.reason, Some(format!("without its {without}")));
    let receipt = left.receipt.expect("a receipt");
    assert_eq!((receipt.to_follow.len(), receipt.missing), (0, vec![without.to_owned()]));
    assert_eq!(decide(post.id, PostDecision::Dismiss).await, Decided::NotNow(PostState::Posted));
    assert_eq!(decide(post.id, PostDecision::Retry).await, Decided::Done, "a person may change his mind");
    let follow = claim_one(&player).await;
    settle(&player, &follow, all_done(&follow)).await;
    for decision in [PostDecision::Retry, PostDecision::Dismiss, PostDecision::Resend] {
        assert_eq!(
            decide(post.id, decision).await,
            Decided::NotNow(PostState::Posted),
            "nothing is to follow"
        );
    }
}
