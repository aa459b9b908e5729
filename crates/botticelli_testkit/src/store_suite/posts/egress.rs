//! Which node sends for a token.

use super::*;

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

/// A token that was replaced is kept no longer than a node that is gone.
pub async fn a_token_that_nobody_sends_for_any_more_is_forgotten(db: &TestStore) {
    let player = Player::enter(db, "node").await;
    let day = 86_400 * SECOND;
    egress(&player, "old").await;
    db.advance(EGRESS_LEASE + day - SECOND).await;
    egress(&player, "new").await;
    let scopes = "SELECT scope AS value FROM actor_server_egress_leases ORDER BY scope";
    db.prune_nodes(day).await.expect("an answer");
    assert_eq!(db.values(scopes).await, ["new", "old"]);
    db.advance(SECOND).await;
    db.prune_nodes(day).await.expect("an answer");
    assert_eq!(db.values(scopes).await, ["new"]);
}
