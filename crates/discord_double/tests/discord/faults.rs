use crate::{double, messages, noon, start};
use discord_double::{
    Change, Clock, Double, Fault, Limits, Options, Overwrite, OverwriteTarget, Permissions, Scope, Settings,
    What, standard,
};
use serde_json::json;
use std::time::Duration;

const GENERAL: discord_double::Id = standard::GENERAL;

async fn seen(double: &Double) -> usize {
    double.until(|double| (!double.requests().is_empty()).then_some(())).await;
    double.visible(GENERAL).len()
}

#[tokio::test]
async fn what_is_done_is_visible_though_the_reply_is_lost_late_or_broken() {
    for what in [What::DropReply, What::ResetReply, What::ResetMidBody] {
        let (double, http) = double();
        double.next(what.clone());
        let reply = http.send("POST", &messages(GENERAL), Some(json!({"content": "x"}))).await;
        assert!(reply.is_err(), "{what:?}: {reply:?}");
        double.until_visible(GENERAL, 1).await;
        assert_eq!(double.requests()[0].fault.as_deref(), Some(what.name()));
    }
    for status in [500, 502, 503, 504] {
        let (double, http) = double();
        double.next(What::FailAfterCommit { status });
        assert_eq!(http.post(&messages(GENERAL), json!({"content": "x"})).await.status, status);
        assert_eq!(double.visible(GENERAL).len(), 1);
    }
    for what in [What::TruncateBody, What::HtmlBody] {
        let (double, http) = double();
        double.next(what);
        let reply = http.post(&messages(GENERAL), json!({"content": "x"})).await;
        assert_eq!((reply.status, reply.json.is_null(), reply.text.is_empty()), (200, true, false));
        assert_eq!(double.visible(GENERAL).len(), 1);
    }
}

#[tokio::test]
async fn what_was_lost_on_the_way_is_not_visible() {
    let (double, http) = double();
    double.next(What::LoseRequest);
    assert!(http.send("POST", &messages(GENERAL), Some(json!({"content": "x"}))).await.is_err());
    double.next(What::FailBeforeCommit { status: 503 });
    assert_eq!(http.post(&messages(GENERAL), json!({"content": "x"})).await.status, 503);
    assert_eq!(seen(&double).await, 0);
    assert_eq!(http.post(&messages(GENERAL), json!({"content": "x"})).await.status, 200);
}

#[tokio::test]
async fn a_request_that_is_delivered_twice_makes_two_messages_unless_a_nonce_is_enforced() {
    let (double, http) = double();
    double.next(Fault::from(What::DeliverTwice).times(2));
    http.post(&messages(GENERAL), json!({"content": "x"})).await;
    assert_eq!(double.visible(GENERAL).len(), 2);
    let reply =
        http.post(&messages(GENERAL), json!({"content": "y", "nonce": "n", "enforce_nonce": true})).await;
    assert_eq!((reply.status, double.visible(GENERAL).len()), (200, 3));
}

#[tokio::test]
async fn a_held_reply_comes_when_it_is_released() {
    let (double, http) = double();
    double.next(What::HoldReply);
    let posting = tokio::spawn(async move { http.post(&messages(GENERAL), json!({"content": "x"})).await });
    double.until_visible(GENERAL, 1).await;
    assert!(!posting.is_finished());
    double.release();
    assert_eq!(posting.await.expect("no panic").status, 200);
}

#[tokio::test]
async fn a_held_request_is_not_done_before_it_is_released() {
    let (double, http) = double();
    double.next(What::HoldRequest);
    let posting = tokio::spawn(async move { http.post(&messages(GENERAL), json!({"content": "x"})).await });
    double.until(|double| (!double.requests().is_empty()).then_some(())).await;
    assert!(double.visible(GENERAL).is_empty());
    double.release();
    assert_eq!(posting.await.expect("no panic").status, 200);
}

#[tokio::test]
async fn what_has_arrived_is_done_though_the_client_has_gone() {
    let (double, http) = double();
    double.next(What::HoldRequest);
    let posting = tokio::spawn(async move { http.post(&messages(GENERAL), json!({"content": "x"})).await });
    double.until(|double| (!double.requests().is_empty()).then_some(())).await;
    posting.abort();
    assert!(posting.await.is_err_and(|error| error.is_cancelled()));
    // Another request is answered, so the double has had the time to see that the first client has gone.
    assert_eq!(support_client(&double).get("/users/@me").await.status, 200);
    double.release();
    assert_eq!(double.until_visible(GENERAL, 1).await[0].content, "x");
}

#[tokio::test]
async fn a_slow_reply_is_visible_before_it_arrives() {
    let (double, http) = double();
    double.next(What::SlowReply { millis: 60_000 });
    let path = messages(GENERAL);
    let posting = tokio::spawn(async move { http.post(&path, json!({"content": "x"})).await });
    double.until_visible(GENERAL, 1).await;
    assert!(!posting.is_finished());
    posting.abort();
    double.next(What::SlowRequest { millis: 1 });
    let (_, http) = (posting, support_client(&double));
    assert_eq!(http.post(&messages(GENERAL), json!({"content": "y"})).await.status, 200);
}

fn support_client(double: &Double) -> crate::support::Http {
    crate::support::Http::new(&double.base_url(), standard::TOKEN)
}

#[tokio::test]
async fn a_message_can_be_late_in_reads() {
    let (double, http) = double();
    double.next(What::HideInReads { millis: 5000 });
    let id = http.post(&messages(GENERAL), json!({"content": "x"})).await.json["id"].clone();
    let path = format!("{}/{}", messages(GENERAL), id.as_str().expect("an id"));
    assert_eq!(http.get(&messages(GENERAL)).await.json, json!([]));
    assert_eq!(http.get(&path).await.status, 404);
    assert_eq!(double.visible(GENERAL).len(), 1, "people see it all the same");
    double.clock().advance(Duration::from_secs(5));
    assert_eq!(http.get(&path).await.status, 200);
}

#[tokio::test]
async fn characters_can_go_missing_from_what_is_stored() {
    let (double, http) = double();
    double.next(What::StripCharacters { characters: "\u{200b}".into() });
    let reply = http.post(&messages(GENERAL), json!({"content": "a\u{200b}b"})).await;
    assert_eq!(reply.json["content"], "ab");
    assert_eq!(double.visible(GENERAL)[0].content, "ab");
}

#[tokio::test]
async fn a_fault_strikes_only_what_it_was_made_for() {
    let (double, http) = double();
    double.next(
        Fault::from(What::FailBeforeCommit { status: 500 })
            .on_route("create_message")
            .on_channel(standard::RANDOM)
            .after(1),
    );
    let mut statuses = Vec::new();
    for channel in [GENERAL, standard::RANDOM, standard::RANDOM, standard::RANDOM] {
        statuses.push(http.post(&messages(channel), json!({"content": "x"})).await.status);
    }
    assert_eq!(statuses, [200, 200, 500, 200]);
    assert!(double.faults().is_empty());
}

#[tokio::test]
async fn a_seed_gives_the_same_faults_again() {
    let run = async |seed| {
        let settings = Settings { limits: Limits::off(), ..Settings::default() };
        let faults = vec![Fault::from(What::FailBeforeCommit { status: 500 }).with_probability(0.5)];
        let (_double, http) =
            start(Options { seed, settings, faults, clock: Clock::manual(noon()), ..Options::default() });
        let mut statuses = Vec::new();
        for _ in 0..32 {
            statuses.push(http.post(&messages(GENERAL), json!({"content": "x"})).await.status);
        }
        statuses
    };
    let (first, again, other) = (run(1).await, run(1).await, run(2).await);
    assert_eq!(first, again);
    assert_ne!(first, other);
    let failed = first.iter().filter(|status| **status == 500).count();
    assert!((6..=26).contains(&failed), "{failed} of 32");
}

#[tokio::test]
async fn a_storm_has_every_kind_of_bad_luck_and_the_ledger_knows_the_truth() {
    let settings = Settings { limits: Limits::off(), ..Settings::default() };
    let faults = Fault::storm(0.05);
    let (double, http) =
        start(Options { seed: 3, settings, faults, clock: Clock::manual(noon()), ..Options::default() });
    let mut posted = 0;
    for n in 0..100 {
        let body = json!({"content": n.to_string(), "nonce": n, "enforce_nonce": true});
        // Sent again with the same nonce until there is a whole reply, as one should.
        let mut whole = false;
        while !whole {
            let reply = http.send("POST", &messages(GENERAL), Some(body.clone())).await;
            whole = reply.is_ok_and(|reply| reply.status == 200 && reply.json["id"].is_string());
        }
        posted += 1;
    }
    let visible = double.visible(GENERAL);
    let mut contents: Vec<_> = visible.iter().map(|visible| visible.content.as_str()).collect();
    contents.dedup();
    assert_eq!((visible.len(), contents.len()), (posted, posted));
    let mut struck: Vec<_> = double.requests().into_iter().filter_map(|request| request.fault).collect();
    struck.sort_unstable();
    struck.dedup();
    assert!(struck.len() >= 8, "{struck:?}");
}

#[tokio::test]
async fn a_scripted_429_says_what_it_was_told_to() {
    let (double, http) = double();
    double.next(What::RateLimit {
        scope: Scope::Shared,
        retry_after_seconds: 1163.5,
        header_seconds: Some(1.0),
        code: 20028,
    });
    let reply = http.post(&messages(GENERAL), json!({"content": "x"})).await;
    assert_eq!(reply.status, 429);
    assert_eq!((reply.header("retry-after"), reply.header("x-ratelimit-scope")), (Some("1"), Some("shared")));
    assert_eq!(
        (&reply.json["retry_after"], &reply.json["code"], &reply.json["global"]),
        (&json!(1163.5), &json!(20028), &json!(false))
    );
    assert_eq!(double.invalid_requests(), 0);
}

#[tokio::test]
async fn a_scripted_error_has_the_code_it_was_given() {
    let (double, http) = double();
    double.next(What::Error { status: 403, code: 240_000, message: "blocked".into() });
    let reply = http.post(&messages(GENERAL), json!({"content": "x"})).await;
    assert_eq!((reply.status, &reply.json), (403, &json!({"code": 240_000, "message": "blocked"})));
    assert_eq!(double.invalid_requests(), 1);
}

#[tokio::test]
async fn the_world_changes_just_before_the_nth_request() {
    let everyone = OverwriteTarget::Role(standard::GUILD);
    let deny = Overwrite { target: everyone, allow: Permissions::NONE, deny: Permissions::SEND_MESSAGES };
    let changes = [
        (Change::Overwrite { channel: GENERAL, overwrite: deny }, 403, 50013),
        (Change::DeleteChannel { channel: GENERAL }, 404, 10003),
        (Change::RevokeToken { token: standard::TOKEN.into() }, 401, 0),
        (Change::RemoveMember { guild: standard::GUILD, user: standard::BOT }, 403, 50001),
    ];
    for (change, status, code) in changes {
        let (double, http) = double();
        double.next(Fault::from(What::Change { change: Box::new(change.clone()) }).after(1));
        assert_eq!(http.post(&messages(GENERAL), json!({"content": "x"})).await.status, 200);
        let reply = http.post(&messages(GENERAL), json!({"content": "x"})).await;
        assert_eq!((reply.status, &reply.json["code"]), (status, &json!(code)), "{change:?}");
    }
}

#[tokio::test]
async fn a_thread_that_is_archived_opens_and_one_that_is_locked_stays_shut() {
    let (double, http) = double();
    let set = |archived, locked| {
        double.change(Change::Thread { thread: standard::THREAD, archived, locked }).expect("it is there");
    };
    set(true, false);
    assert_eq!(http.post(&messages(standard::THREAD), json!({"content": "x"})).await.status, 200);
    let shown = http.get(&format!("/channels/{}", standard::THREAD)).await;
    assert_eq!(shown.json["thread_metadata"]["archived"], false);
    set(true, true);
    assert_eq!(http.post(&messages(standard::THREAD), json!({"content": "x"})).await.json["code"], 50083);
    set(false, true);
    assert_eq!(http.post(&messages(standard::THREAD), json!({"content": "x"})).await.json["code"], 160_005);
}

#[tokio::test]
async fn changes_that_name_what_is_not_there_are_refused() {
    let (double, http) = double();
    let scripted =
        What::Change { change: Box::new(Change::DeleteWebhook { webhook: discord_double::Id(5) }) };
    double.next(scripted);
    assert_eq!(http.get("/users/@me").await.status, 200);
    assert_eq!(double.requests()[0].fault.as_deref(), Some("change failed: webhook 5 does not exist"));
    let change = Change::DeleteChannel { channel: discord_double::Id(5) };
    assert_eq!(double.change(change), Err("channel 5 does not exist".into()));
}
