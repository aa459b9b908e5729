//! Alerts: told once when something begins and once when it ends, by one node, through the outbox.

use super::players::*;
use crate::databases::TestStore;
use botticelli_database::{AlertFilter, AlertView, AlertsSeen, PostFilter, PostView};
use botticelli_server::alert::{
    AlertEvent, AlertPolicy, AlertRule, AlertRules, AlertWatch, EXTRA, Notice, Severity, Trouble,
};
use botticelli_server::ids::AlertName;
use botticelli_server::ledger::Ledger as _;
use botticelli_server::outbox::{
    Asked, ClaimedPost, DESTINATION_PAUSED, Exchange, Outbox as _, PostEnd, PostState, SettledPost,
};
use botticelli_server::post::{Destination, PostError, Reason, Receipt};
use botticelli_server::task::Task;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn everything(name: &str) -> AlertPolicy {
    AlertPolicy {
        name: AlertName::new(name).expect("a name"),
        destination: Destination { platform: "alert_webhook".into(), target: name.into() },
        rules: AlertRules {
            consecutive_failures: NonZeroU32::new(2),
            breaker_opened: true,
            task_overdue: Some(MINUTE),
            posts_need_review: true,
            destination_paused: true,
            token_revoked: true,
            database_unreachable: true,
            invariant_broken: true,
        },
        actors: BTreeMap::new(),
        min_severity: Severity::Warning,
        repeat_after: None,
    }
}

fn watch(player: &Player, policies: Vec<AlertPolicy>) -> AlertWatch {
    let (node, found) = (player.id.clone(), Vec::new());
    AlertWatch { node, policies, found, serving_since: DateTime::<Utc>::MIN_UTC }
}

/// A look at everything, for the section `ops`.
async fn look(player: &Player) -> AlertsSeen {
    player.store.watch_alerts(watch(player, vec![everything("ops")])).await.expect("an answer")
}

fn begun(seen: &AlertsSeen) -> Vec<(AlertRule, &str)> {
    seen.begun.iter().map(|trouble| (trouble.rule, trouble.subject.as_str())).collect()
}

async fn open(db: &TestStore) -> Vec<AlertView> {
    db.alerts(AlertFilter { ended_too: false, limit: 100 }).await.expect("alerts")
}

/// What stands in the outbox of alerts, oldest first.
async fn told(db: &TestStore) -> Vec<(PostView, AlertEvent)> {
    let filter = PostFilter { limit: 1_000, ..PostFilter::default() };
    let mut posts = db.posts(filter).await.expect("posts");
    posts.retain(|post| post.platform == "alert_webhook");
    posts.reverse();
    let event = |post: &PostView| serde_json::from_value(post.extras[EXTRA].clone()).expect("an event");
    posts.into_iter().map(|post| (post.clone(), event(&post))).collect()
}

async fn fails(db: &TestStore, player: &Player, task: &Task) {
    let attempt = player.claim(task).await;
    player.end(task, &attempt, failed_for_good("no such table"), Made::default()).await;
    db.advance(MINUTE).await;
}

async fn claim(player: &Player) -> Vec<ClaimedPost> {
    player.store.claim_posts(&player.id, 100, LEASE, &[]).await.expect("an answer")
}

async fn settle(player: &Player, post: &ClaimedPost, end: PostEnd, exchanges: Vec<Exchange>) {
    let ended = [SettledPost { id: post.id, fence: post.fence, end, exchanges }];
    assert_eq!(player.store.settle_posts(&player.id, &ended).await.expect("an answer").lost, []);
}

fn posted(db: &TestStore) -> PostEnd {
    PostEnd::Posted(Receipt {
        message_id: "1".into(),
        posted_at: db.time(),
        link: None,
        recovered: false,
        to_follow: Vec::new(),
        missing: Vec::new(),
    })
}

/// And not once for each look, nor for each failure.
pub async fn what_begins_and_ends_is_told_once_each(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    fails(db, &player, &task).await;
    assert_eq!(look(&player).await, AlertsSeen { watches: true, ..AlertsSeen::default() });
    fails(db, &player, &task).await;
    let began = db.time();
    assert_eq!(begun(&look(&player).await), [(AlertRule::ConsecutiveFailures, "task")]);
    fails(db, &player, &task).await;
    assert!(!look(&player).await.is_told(), "it goes on");
    let going_on = open(db).await;
    assert_eq!(going_on.len(), 1);
    assert_eq!((going_on[0].started_at, going_on[0].ended_at), (began, None));
    assert!(going_on[0].summary.ends_with("2 times in a row: no such table"), "{}", going_on[0].summary);

    player.run(&task, Vec::new()).await;
    assert_eq!(look(&player).await.ended, 1);
    assert!(!look(&player).await.is_told());
    assert_eq!(open(db).await, []);
    let told = told(db).await;
    let notices: Vec<Notice> = told.iter().map(|(_, event)| event.notice).collect();
    assert_eq!(notices, [Notice::Started, Notice::Ended]);
    assert_eq!(told[0].1.incident, told[1].1.incident);
    let keys: HashSet<&str> = told.iter().map(|(post, _)| post.key.as_str()).collect();
    assert_eq!(keys.len(), 2, "the receiver takes one for the other otherwise");
    assert!(
        told.iter().all(|(post, _)| post.state == PostState::Pending && post.task_id.as_str() == "alert:ops")
    );

    // The same trouble another time is another incident.
    db.advance(MINUTE).await;
    fails(db, &player, &task).await;
    fails(db, &player, &task).await;
    assert_eq!(look(&player).await.begun.len(), 1);
    assert_ne!(open(db).await[0].incident, going_on[0].incident);
}

/// Also when it dies; and what was told before is not told again by the next one.
pub async fn one_node_at_a_time_watches(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let (first, second) = (Player::enter(db, "first").await, Player::enter(db, "second").await);
    fails(db, &first, &task).await;
    fails(db, &first, &task).await;
    for player in [&first, &second] {
        player.store.renew(&player.id, LEASE).await.expect("a heartbeat");
    }
    assert_eq!(look(&first).await.begun.len(), 1);
    // It has other rules, and would end what it does not want.
    let nothing =
        || async { second.store.watch_alerts(watch(&second, Vec::new())).await.expect("an answer") };
    assert_eq!(nothing().await, AlertsSeen::default());
    db.advance(5 * SECOND).await;
    assert!(look(&first).await.watches, "it says so again");
    db.advance(5 * SECOND).await;
    assert!(!look(&second).await.watches);
    first.store.leave(&first.id).await.expect("an answer");
    assert_eq!(look(&second).await, AlertsSeen { watches: true, ..AlertsSeen::default() });
    assert!(!look(&first).await.watches, "it has left");
    assert_eq!(told(db).await.len(), 1);
}

/// Several at once begin each alert once.
pub async fn looks_at_the_same_moment_tell_once(db: &TestStore) {
    let tasks: Vec<Task> = (0..20).map(|n| each_minute(&format!("task {n}"))).collect();
    register(db, &tasks.iter().collect::<Vec<_>>()).await;
    let players = [Player::enter(db, "a").await, Player::enter(db, "b").await];
    for _ in 0..2 {
        for task in &tasks {
            let attempt = players[0].claim(task).await;
            players[0].end(task, &attempt, failed_for_good("no"), Made::default()).await;
        }
        db.advance(MINUTE).await;
    }
    for player in &players {
        player.store.renew(&player.id, LEASE).await.expect("a heartbeat");
    }
    let looks = players.iter().chain(&players).map(|player| async {
        // Two of one node may meet; then the second finds nothing new, or is refused as a whole.
        player.store.watch_alerts(watch(player, vec![everything("ops")])).await
    });
    futures::future::join_all(looks).await;
    assert_eq!(told(db).await.len(), 20);
}

/// Otherwise alerts would make alerts for ever.
pub async fn an_alert_that_can_not_be_told_is_no_failure_and_no_alert_of_its_own(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    fails(db, &player, &task).await;
    fails(db, &player, &task).await;
    look(&player).await;
    let claimed = claim(&player).await;
    assert_eq!((claimed.len(), claimed[0].task_id.as_str()), (1, "alert:ops"));
    settle(&player, &claimed[0], paused(db, None), Vec::new()).await;
    assert!(!look(&player).await.is_told());
    db.advance(2 * MINUTE).await;
    player.store.renew(&player.id, LEASE).await.expect("a heartbeat");
    let claimed = claim(&player).await;
    settle(&player, &claimed[0], PostEnd::Failed { error: "no".into() }, Vec::new()).await;
    let seen = look(&player).await;
    assert_eq!(begun(&seen), [(AlertRule::TaskOverdue, "task")], "that is another thing");
    assert_eq!(state(db, &task).await.consecutive_failures, 2);
}

fn paused(db: &TestStore, why: Option<&str>) -> PostEnd {
    PostEnd::Deferred {
        until: db.time() + MINUTE,
        reason: format!("{DESTINATION_PAUSED}{}", why.unwrap_or("missing permissions")),
        uncertain: false,
        holds: true,
        counts: true,
    }
}

/// While its post is being sent again it is as paused as before.
pub async fn a_paused_destination_is_an_alert_until_it_takes_a_post(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    player.run(&task, vec![message("here", "a"), message("there", "b")]).await;
    let claimed = claim(&player).await;
    let (here, there) = match claimed[0].content.text.as_str() {
        "a" => (&claimed[0], &claimed[1]),
        _ => (&claimed[1], &claimed[0]),
    };
    settle(&player, here, paused(db, None), Vec::new()).await;
    let away = PostEnd::Deferred {
        until: db.time() + MINUTE,
        reason: "the network is away".into(),
        uncertain: false,
        holds: true,
        counts: true,
    };
    settle(&player, there, away, Vec::new()).await;
    let seen = look(&player).await;
    assert_eq!(begun(&seen), [(AlertRule::DestinationPaused, "file:here")]);
    assert_eq!(seen.begun[0].summary, "file:here takes no posts: missing permissions");
    db.advance(MINUTE).await;
    player.store.renew(&player.id, LEASE).await.expect("a heartbeat");
    let sending = claim(&player).await;
    assert!(!look(&player).await.is_told(), "nobody knows yet");
    for post in &sending {
        settle(&player, post, posted(db), Vec::new()).await;
    }
    assert_eq!(look(&player).await.ended, 1);
}

/// A bot's, by its platform; what one destination refuses is that destination's.
pub async fn a_token_that_is_refused_is_an_alert(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    let mut posts = vec![message("1", "as a bot"), message("2", "elsewhere")];
    posts[0].destination.platform = "discord".into();
    player.run(&task, posts).await;
    for post in claim(&player).await {
        let mut asked = Exchange::asked(Asked::Post, db.time());
        let reason = Reason::answered("401: Unauthorized", 401, None);
        asked.failed(db.time(), &PostError::DestinationClosed(reason));
        settle(&player, &post, paused(db, Some("401: Unauthorized")), vec![asked]).await;
    }
    let seen = look(&player).await;
    let mut begun = begun(&seen);
    begun.sort_unstable();
    assert_eq!(
        begun,
        [
            (AlertRule::DestinationPaused, "discord:1"),
            (AlertRule::DestinationPaused, "file:2"),
            (AlertRule::TokenRevoked, "discord"),
        ]
    );
}

/// And it is over when the person has decided.
pub async fn posts_that_wait_for_a_person_are_an_alert_of_their_task(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    player.run(&task, vec![message("here", "a"), message("there", "b")]).await;
    let claimed = claim(&player).await;
    for post in &claimed {
        settle(&player, post, PostEnd::NeedsReview { reason: "nobody knows".into() }, Vec::new()).await;
    }
    assert_eq!(begun(&look(&player).await), [(AlertRule::PostsNeedReview, "task")]);
    for (place, post) in claimed.iter().enumerate() {
        assert_eq!(look(&player).await.ended, 0, "{place}");
        db.decide(post.id, botticelli_database::PostDecision::Dismiss).await.expect("an answer");
    }
    assert_eq!(look(&player).await.ended, 1);
}

/// Not while it runs, nor when it is paused, nor for what waits for its own time.
pub async fn a_task_that_nobody_runs_is_overdue(db: &TestStore) {
    let (left, runs, off) = (each_minute("left"), each_minute("runs"), each_minute("off"));
    register(db, &[&left, &runs, &off]).await;
    let player = Player::enter(db, "node").await;
    let attempt = player.claim(&runs).await;
    db.pause(&off.id).await.expect("paused");
    db.advance(MINUTE).await;
    assert_eq!(begun(&look(&player).await), [], "not by more than a minute");
    db.advance(SECOND).await;
    assert_eq!(begun(&look(&player).await), [(AlertRule::TaskOverdue, "left")]);
    db.advance(10 * MINUTE).await;
    player.store.renew(&player.id, LEASE).await.expect("a heartbeat");
    assert!(!look(&player).await.is_told());
    player.run(&left, Vec::new()).await;
    player.end(&runs, &attempt, botticelli_server::outcome::AttemptEnd::Succeeded, Made::default()).await;
    assert_eq!((look(&player).await.ended, open(db).await.len()), (1, 0));
}

/// Until it is resumed; and what the configuration takes away is over as well.
pub async fn an_open_breaker_is_an_alert_until_the_task_is_resumed(db: &TestStore) {
    let task = with(each_minute("task"), |policy| policy.max_consecutive_failures = NonZeroU32::MIN);
    let gone = each_minute("gone");
    register(db, &[&task, &gone]).await;
    let player = Player::enter(db, "node").await;
    fails(db, &player, &gone).await;
    fails(db, &player, &gone).await;
    fails(db, &player, &task).await;
    player.store.renew(&player.id, LEASE).await.expect("a heartbeat");
    let seen = look(&player).await;
    assert_eq!(begun(&seen), [(AlertRule::ConsecutiveFailures, "gone"), (AlertRule::BreakerOpened, "task")]);
    db.retire(&gone.id).await.expect("retired");
    assert_eq!(look(&player).await.ended, 1);
    db.resume(&task.id).await.expect("resumed");
    assert_eq!((look(&player).await.ended, open(db).await.len()), (1, 0));
}

/// Whoever looks into it does not go through the tables.
pub async fn what_a_node_has_found_itself_is_told_like_the_rest(db: &TestStore) {
    let player = Player::enter(db, "node").await;
    let broken = Trouble {
        rule: AlertRule::InvariantBroken,
        subject: "posts stuck".into(),
        actor_name: None,
        amount: 1,
        summary: "a \0 in it".into(),
    };
    let mut watch = watch(&player, vec![everything("ops"), everything("other")]);
    watch.found.push(broken);
    let seen = db.watch_alerts(watch.clone()).await.expect("an answer");
    assert_eq!(seen.begun.len(), 2, "each section tells it");
    assert_eq!(db.watch_alerts(watch.clone()).await.expect("an answer").begun, []);
    // A section that is gone tells nothing any more.
    watch.policies.truncate(1);
    watch.found.clear();
    assert_eq!(db.watch_alerts(watch).await.expect("an answer").ended, 2);
    let told = told(db).await;
    assert_eq!(
        told.iter().map(|(_, event)| event.notice).collect::<Vec<_>>(),
        [Notice::Started, Notice::Started, Notice::Ended]
    );
}

/// But not what is open or on its way.
pub async fn alerts_that_are_over_are_forgotten_in_time(db: &TestStore) {
    let task = each_minute("task");
    register(db, &[&task]).await;
    let player = Player::enter(db, "node").await;
    fails(db, &player, &task).await;
    fails(db, &player, &task).await;
    look(&player).await;
    settle(&player, &claim(&player).await[0], posted(db), Vec::new()).await;
    player.run(&task, vec![message("here", "stays")]).await;
    for post in claim(&player).await {
        settle(&player, &post, posted(db), Vec::new()).await;
    }
    assert_eq!(look(&player).await.ended, 1);
    db.advance(MINUTE).await;
    assert_eq!(db.prune_alerts(db.time()).await.expect("pruned"), 1);
    let told = told(db).await;
    assert_eq!(told.iter().map(|(_, event)| event.notice).collect::<Vec<_>>(), [Notice::Ended], "on its way");
    assert_eq!(db.posts(PostFilter { limit: 9, ..PostFilter::default() }).await.expect("posts").len(), 2);
}
