//! The outbox: in order, one at a time, and never by two nodes.

use super::players::*;
use crate::databases::TestStore;
use botticelli_database::{Decided, PostDecision, PostFilter, PostView};
use botticelli_server::ids::{Fence, PostId};
use botticelli_server::ledger::{Ledger as _, Recorded};
use botticelli_server::limits::DeliveryLimits;
use botticelli_server::outbox::{
    Asked, ClaimedPost, EGRESS_LEASE, EgressScope, Exchange, HOLDS_FOR, NewPost, Outbox as _, PostEnd,
    PostHistory as _, PostState, SettledPost,
};
use botticelli_server::outcome::{AttemptEnd, SkipReason};
use botticelli_server::post::{LookUp, PostError, Reason, Receipt};
use botticelli_server::task::{PauseReason, Task};
use chrono::{DateTime, Utc};
use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn claim(player: &Player) -> Vec<ClaimedPost> {
    player.store.claim_posts(&player.id, 100, LEASE, &[]).await.expect("an answer")
}

pub(super) async fn claim_one(player: &Player) -> ClaimedPost {
    let mut claimed = claim(player).await;
    assert_eq!(claimed.len(), 1, "{claimed:?}");
    claimed.remove(0)
}

fn texts(claimed: &[ClaimedPost]) -> Vec<&str> {
    let mut texts: Vec<_> = claimed.iter().map(|post| post.content.text.as_str()).collect();
    texts.sort_unstable();
    texts
}

pub(super) fn posted(db: &TestStore, id: &str) -> PostEnd {
    PostEnd::Posted(Receipt {
        message_id: id.into(),
        posted_at: db.time(),
        link: Some(format!("https://example.org/{id}")),
        recovered: false,
        to_follow: Vec::new(),
        missing: Vec::new(),
    })
}

fn post_failed() -> PostEnd {
    PostEnd::Failed { error: "no such channel".into() }
}

fn needs_review() -> PostEnd {
    PostEnd::NeedsReview { reason: "nobody can tell".into() }
}

fn deferred(until: DateTime<Utc>, uncertain: bool) -> PostEnd {
    PostEnd::Deferred { until, reason: "a limit".into(), uncertain, holds: false, counts: false }
}

fn not_taken(until: DateTime<Utc>) -> PostEnd {
    PostEnd::Deferred {
        until,
        reason: "the network is away".into(),
        uncertain: false,
        holds: true,
        counts: true,
    }
}

pub(super) async fn settle(player: &Player, post: &ClaimedPost, end: PostEnd) -> Vec<PostId> {
    let ended = [SettledPost { id: post.id, fence: post.fence, end, exchanges: Vec::new() }];
    player.store.settle_posts(&player.id, &ended).await.expect("an answer").lost
}

pub(super) async fn view(db: &TestStore, id: PostId) -> PostView {
    db.post(id).await.expect("an answer").expect("the post")
}

/// A node, and a task whose runs make posts.
pub(super) async fn sender(db: &TestStore) -> (Player, Task) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    (Player::enter(db, "node").await, task)
}

/// One run of `task` that makes these posts, a minute after the last.
pub(super) async fn makes(db: &TestStore, player: &Player, task: &Task, posts: Vec<NewPost>) {
    player.run(task, posts).await;
    db.advance(MINUTE).await;
}

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

async fn egress(player: &Player, token: &str) -> Vec<String> {
    let scopes = [EgressScope { platform: "file".into(), scope: token.into() }];
    player.store.take_egress(&player.id, &scopes, EGRESS_LEASE).await.expect("an answer")
}

/// So that several nodes do not add up to more than its limit. Other platforms are every node's.
pub async fn one_node_at_a_time_sends_for_a_token(db: &TestStore) {
    let (player, task) = sender(db).await;
    let other = Player::enter(db, "other").await;
    let mut elsewhere = message("a", "elsewhere");
    elsewhere.destination.platform = "console".into();
    makes(db, &player, &task, vec![message("a", "first"), message("b", "second"), elsewhere]).await;
    for node in [&player, &other] {
        node.store.renew(&node.id, 10 * MINUTE).await.expect("a heartbeat");
    }
    assert_eq!(egress(&player, "token").await, Vec::<String>::new());
    let without = egress(&other, "token").await;
    assert_eq!(without, ["file"]);
    assert!(db.next_post_due(&without).await.expect("an answer").is_some(), "what is elsewhere");
    let claimed = other.store.claim_posts(&other.id, 100, LEASE, &without).await.expect("an answer");
    assert_eq!(texts(&claimed), ["elsewhere"]);
    assert_eq!(db.next_post_due(&without).await.expect("an answer"), None, "the rest is not for this node");
    assert_eq!(texts(&claim(&player).await), ["first", "second"]);
    assert_eq!(egress(&other, "another token").await, Vec::<String>::new(), "that one has limits of its own");

    // It goes on for as long as it says so.
    for _ in 0..4 {
        db.advance(EGRESS_LEASE - SECOND).await;
        assert_eq!(egress(&player, "token").await, Vec::<String>::new());
        assert_eq!(egress(&other, "token").await, ["file"]);
    }
    // Its deliverer is stuck, though the node lives.
    db.advance(EGRESS_LEASE + SECOND).await;
    assert_eq!(egress(&other, "token").await, Vec::<String>::new());
    assert_eq!(egress(&player, "token").await, ["file"]);
}

/// After a death within seconds, after a stop at once.
pub async fn what_a_node_sent_for_is_handed_over_when_it_goes(db: &TestStore) {
    let first = Player::enter(db, "first").await;
    let second = Player::enter(db, "second").await;
    let third = Player::enter(db, "third").await;
    let short = 4 * SECOND;
    first.store.renew(&first.id, short).await.expect("a heartbeat");
    assert_eq!(egress(&first, "token").await, Vec::<String>::new());
    db.advance(short).await;
    assert_eq!(egress(&second, "token").await, ["file"], "its lease is not over");
    db.advance(SECOND).await;
    assert_eq!(egress(&second, "token").await, Vec::<String>::new(), "it is dead");
    assert_eq!(egress(&third, "token").await, ["file"]);
    second.store.leave(&second.id).await.expect("an answer");
    assert_eq!(egress(&third, "token").await, Vec::<String>::new());
}

/// However many ask at once.
pub async fn one_of_many_that_ask_at_once_sends_for_a_token(db: &TestStore) {
    let mut asking = Vec::new();
    for n in 0..6 {
        let player = Player::enter(db, &format!("node {n}")).await;
        asking.push(tokio::spawn(async move { egress(&player, "token").await.is_empty() }));
    }
    let mut winners = 0;
    for asked in asking {
        winners += usize::from(asked.await.expect("no panic"));
    }
    assert_eq!(winners, 1);
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

fn seen() -> PostDecision {
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
