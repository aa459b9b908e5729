use crate::{double_with, messages, noon, start};
use discord_double::{
    BanPage, BanRules, Change, Clock, Limits, Options, Rate, ScopeHeader, Settings, What, standard,
};
use serde_json::json;
use std::time::Duration;

fn text() -> serde_json::Value {
    json!({"content": "x"})
}

#[tokio::test]
async fn headers_count_down_and_the_sixth_message_in_five_seconds_is_a_429() {
    let (double, http) = double_with(Settings::default());
    for remaining in (0..5).rev() {
        let reply = http.post(&messages(standard::GENERAL), text()).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.number("x-ratelimit-limit"), 5.0);
        assert_eq!(reply.number("x-ratelimit-remaining"), f64::from(remaining));
        assert_eq!(reply.header("x-ratelimit-reset-after"), Some("5.000"));
        assert_eq!(reply.header("x-ratelimit-scope"), None);
    }
    double.clock().advance(Duration::from_millis(1250));
    let refused = http.post(&messages(standard::GENERAL), text()).await;
    assert_eq!((refused.status, refused.header("x-ratelimit-scope")), (429, Some("user")));
    assert_eq!((refused.header("retry-after"), &refused.json["retry_after"]), (Some("4"), &json!(3.75)));
    assert_eq!(refused.json["global"], false);
    assert_eq!(double.invalid_requests(), 1);
    double.clock().advance(Duration::from_millis(3750));
    assert_eq!(http.post(&messages(standard::GENERAL), text()).await.status, 200);
    assert_eq!(double.visible(standard::GENERAL).len(), 6);
}

#[tokio::test]
async fn a_bucket_is_one_for_its_routes_and_separate_for_each_channel() {
    let (_double, http) = double_with(Settings::default());
    let post = http.post(&messages(standard::GENERAL), text()).await;
    let other = http.post(&messages(standard::RANDOM), text()).await;
    assert_eq!(post.header("x-ratelimit-bucket"), other.header("x-ratelimit-bucket"));
    assert_eq!(other.number("x-ratelimit-remaining"), 4.0);
    let id = post.json["id"].as_str().expect("an id").to_owned();
    let list = http.get(&messages(standard::GENERAL)).await;
    let one = http.get(&format!("{}/{id}", messages(standard::GENERAL))).await;
    assert_eq!(list.header("x-ratelimit-bucket"), one.header("x-ratelimit-bucket"));
    assert_eq!(one.number("x-ratelimit-remaining"), list.number("x-ratelimit-remaining") - 1.0);
    assert_ne!(list.header("x-ratelimit-bucket"), post.header("x-ratelimit-bucket"));
}

#[tokio::test]
async fn some_routes_send_no_rate_limit_headers() {
    let (_double, http) = double_with(Settings::default());
    let reply = http.get("/users/@me").await;
    assert_eq!(reply.status, 200);
    assert!(!reply.headers.keys().any(|name| name.starts_with("x-ratelimit")), "{reply:?}");
}

#[tokio::test]
async fn the_fifty_first_request_of_a_token_in_a_second_is_a_global_429() {
    let (double, http) = double_with(Settings::default());
    for _ in 0..50 {
        assert_eq!(http.get("/users/@me").await.status, 200);
    }
    let refused = http.post(&messages(standard::GENERAL), text()).await;
    assert_eq!((refused.status, refused.header("x-ratelimit-global")), (429, Some("true")));
    assert_eq!(
        (refused.header("x-ratelimit-scope"), &refused.json["global"]),
        (Some("global"), &json!(true))
    );
    assert_eq!(refused.header("x-ratelimit-bucket"), None);
    double.clock().advance(Duration::from_secs(1));
    assert_eq!(http.post(&messages(standard::GENERAL), text()).await.status, 200);
}

#[tokio::test]
async fn crossposts_have_a_hidden_limit_whose_header_contradicts_its_body() {
    let limits = Limits { crosspost: Rate::new(2, 3_600_000), ..Limits::default() };
    let (double, http) = double_with(Settings { limits, ..Settings::default() });
    let mut last = None;
    for _ in 0..3 {
        let id = http.post(&messages(standard::NEWS), text()).await.json["id"].clone();
        let path = format!("{}/{}/crosspost", messages(standard::NEWS), id.as_str().expect("an id"));
        last = Some(http.post(&path, json!({})).await);
    }
    let refused = last.expect("three");
    assert_eq!((refused.status, &refused.json["code"]), (429, &json!(20028)));
    assert_eq!(
        (refused.header("retry-after"), refused.header("x-ratelimit-scope")),
        (Some("1"), Some("shared"))
    );
    assert_eq!(refused.json["retry_after"], 3600.0);
    assert!(refused.number("x-ratelimit-remaining") > 0.0, "the headers know nothing of it");
    assert_eq!(double.invalid_requests(), 0, "shared limits do not count");
}

#[tokio::test]
async fn edits_of_old_messages_have_a_hidden_limit() {
    let (double, http) = double_with(Settings::default());
    let id = http.post(&messages(standard::GENERAL), text()).await.json["id"].clone();
    let path = format!("{}/{}", messages(standard::GENERAL), id.as_str().expect("an id"));
    for _ in 0..4 {
        assert_eq!(http.patch(&path, text()).await.status, 200);
    }
    double.clock().advance(Duration::from_secs(3601));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let reply = http.patch(&path, text()).await;
        statuses.push((reply.status, reply.json["code"].as_i64().unwrap_or(0)));
    }
    assert_eq!(statuses, [(200, 0), (200, 0), (200, 0), (429, 30046)]);
}

#[tokio::test]
async fn all_webhooks_of_a_channel_share_a_limit_that_no_header_tells() {
    let limits = Limits { webhook_channel: Rate::new(2, 60_000), ..Limits::default() };
    let (_double, http) = double_with(Settings { limits, ..Settings::default() });
    let path = format!("/webhooks/{}/{}?wait=true", standard::WEBHOOK, standard::WEBHOOK_TOKEN);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(http.post(&path, text()).await.status);
    }
    assert_eq!(statuses, [200, 200, 429]);
}

#[tokio::test]
async fn a_429_can_come_before_the_headers_announce_it() {
    let mut limits = Limits::default();
    limits.buckets.insert("message_create".into(), Rate { early: 2, ..Rate::new(5, 5000) });
    let (_double, http) = double_with(Settings { limits, ..Settings::default() });
    let mut seen = Vec::new();
    for _ in 0..4 {
        let reply = http.post(&messages(standard::GENERAL), text()).await;
        seen.push((reply.status, reply.number("x-ratelimit-remaining")));
    }
    assert_eq!(seen, [(200, 4.0), (200, 3.0), (200, 2.0), (429, 2.0)]);
}

#[tokio::test]
async fn limits_can_change_while_it_runs() {
    let (double, http) = double_with(Settings::default());
    let first = http.post(&messages(standard::GENERAL), text()).await;
    let mut limits = Limits::default();
    limits.buckets.insert("message_create".into(), Rate::new(2, 10_000));
    double.change(Change::Limits { limits: Box::new(limits) }).expect("limits can change");
    let second = http.post(&messages(standard::GENERAL), text()).await;
    let third = http.post(&messages(standard::GENERAL), text()).await;
    assert_eq!((first.number("x-ratelimit-limit"), second.number("x-ratelimit-limit")), (5.0, 2.0));
    assert_eq!((second.status, third.status), (200, 429));
}

#[tokio::test]
async fn routes_can_be_put_into_other_buckets() {
    let mut limits = Limits::default();
    limits.routes.insert("edit_message".into(), "message_create".into());
    limits.routes.insert("get_messages".into(), String::new());
    let (_double, http) = double_with(Settings { limits, ..Settings::default() });
    let post = http.post(&messages(standard::GENERAL), text()).await;
    let path = format!("{}/{}", messages(standard::GENERAL), post.json["id"].as_str().expect("an id"));
    assert_eq!(http.patch(&path, text()).await.number("x-ratelimit-remaining"), 3.0);
    assert_eq!(http.get(&messages(standard::GENERAL)).await.header("x-ratelimit-limit"), None);
}

#[tokio::test]
async fn the_scope_can_be_sent_always_or_never() {
    for (scope_header, on_200, on_429) in
        [(ScopeHeader::Always, Some("user"), Some("user")), (ScopeHeader::Never, None, None)]
    {
        let mut limits = Limits { scope_header, ..Limits::default() };
        limits.buckets.insert("message_create".into(), Rate::new(1, 5000));
        let (_double, http) = double_with(Settings { limits, ..Settings::default() });
        let good = http.post(&messages(standard::GENERAL), text()).await;
        let bad = http.post(&messages(standard::GENERAL), text()).await;
        assert_eq!((good.header("x-ratelimit-scope"), bad.header("x-ratelimit-scope")), (on_200, on_429));
        assert_eq!(bad.status, 429);
    }
}

#[tokio::test]
async fn limits_can_be_faster() {
    let limits = Limits::default().faster(100);
    let (double, http) = double_with(Settings { limits, ..Settings::default() });
    for _ in 0..3 {
        for _ in 0..5 {
            assert_eq!(http.post(&messages(standard::GENERAL), text()).await.status, 200);
        }
        double.clock().advance(Duration::from_millis(50));
    }
}

#[tokio::test]
async fn too_many_invalid_requests_ban_the_address() {
    let discord = BanRules::default();
    assert_eq!((discord.limit, discord.window_seconds), (10_000, 600));
    let ban = BanRules { limit: 100, ..discord };
    let (double, http) = double_with(Settings { ban, limits: Limits::off(), ..Settings::default() });
    let mut stranger = http.clone();
    stranger.authorization = None;
    for _ in 0..99 {
        assert_eq!(stranger.get("/users/@me").await.status, 401);
    }
    assert_eq!(http.get("/users/@me").await.status, 200);
    assert_eq!(double.invalid_in_window()[0].1, 99);
    assert_eq!(stranger.get("/users/@me").await.status, 401);
    let banned = http.get("/users/@me").await;
    assert_eq!((banned.status, banned.json.is_null()), (429, true));
    assert!(banned.text.contains("cloudflare") && banned.header("retry-after").is_none());
    assert!(!banned.headers.keys().any(|name| name.starts_with("x-ratelimit")));
    assert_eq!(double.invalid_requests(), 100);
    double.clock().advance(Duration::from_secs(3600));
    assert_eq!(http.get("/users/@me").await.status, 200);
}

#[tokio::test]
async fn invalid_requests_of_more_than_ten_minutes_ago_do_not_ban() {
    let ban = BanRules { limit: 3, ..BanRules::default() };
    let (double, http) = double_with(Settings { ban, limits: Limits::off(), ..Settings::default() });
    let mut stranger = http.clone();
    stranger.authorization = None;
    stranger.get("/users/@me").await;
    stranger.get("/users/@me").await;
    double.clock().advance(Duration::from_secs(600));
    stranger.get("/users/@me").await;
    assert_eq!(http.get("/users/@me").await.status, 200);
    assert_eq!((double.invalid_requests(), double.invalid_in_window()[0].1), (3, 1));
}

#[tokio::test]
async fn a_ban_can_be_scripted_and_has_three_faces() {
    for (page, is_json, content_type) in [
        (BanPage::Html, false, "text/html"),
        (BanPage::Plain, false, "text/plain"),
        (BanPage::Json, true, "application/json"),
    ] {
        let ban = BanRules { page, status: 403, retry_after: true, ..BanRules::default() };
        let (double, http) = double_with(Settings { ban, limits: Limits::off(), ..Settings::default() });
        double.next(What::Ban);
        let banned = http.get("/users/@me").await;
        assert_eq!((banned.status, banned.json.is_object()), (403, is_json));
        assert_eq!(
            (banned.header("content-type"), banned.header("retry-after")),
            (Some(content_type), Some("3600"))
        );
        double.change(Change::Unban).expect("it can be lifted");
        assert_eq!(http.get("/users/@me").await.status, 200);
    }
}

#[tokio::test]
async fn not_found_is_not_an_invalid_request() {
    let (double, http) = start(Options { clock: Clock::manual(noon()), ..Options::default() });
    assert_eq!(http.get("/channels/1").await.json["code"], 10003);
    assert_eq!(double.invalid_requests(), 0);
}
