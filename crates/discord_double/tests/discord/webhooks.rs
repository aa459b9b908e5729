//! Webhooks.

use crate::{double, messages};
use discord_double::{Change, Id, standard};
use serde_json::{Value, json};

fn url(id: Id, token: &str) -> String {
    format!("/webhooks/{id}/{token}")
}

fn general() -> String {
    url(standard::WEBHOOK, standard::WEBHOOK_TOKEN)
}

fn forum() -> String {
    url(standard::FORUM_WEBHOOK, standard::FORUM_WEBHOOK_TOKEN)
}

#[tokio::test]
async fn with_wait_the_message_comes_back_and_without_it_nothing() {
    let (double, mut http) = double();
    http.authorization = None;
    let waited =
        http.post(&format!("{}?wait=true", general()), json!({"content": "a", "username": "Bob"})).await;
    assert_eq!((waited.status, &waited.json["author"]["username"]), (200, &json!("Bob")));
    assert_eq!(waited.json["webhook_id"], standard::WEBHOOK.to_string());
    let silent = http.post(&general(), json!({"content": "b"})).await;
    assert_eq!((silent.status, silent.text.as_str()), (204, ""));
    assert_eq!(double.visible(standard::GENERAL).len(), 2);
}

#[tokio::test]
async fn without_wait_a_message_that_was_not_saved_looks_saved() {
    let (double, http) = double();
    let thread = standard::THREAD;
    let path = format!("{}?thread_id=5", general());
    assert_eq!(http.post(&path, json!({"content": "x"})).await.status, 204);
    assert_eq!(http.post(&format!("{path}&wait=true"), json!({"content": "x"})).await.json["code"], 10003);
    assert!(double.all_visible().is_empty());
    let path = format!("{}?thread_id={thread}&wait=true", general());
    assert_eq!(http.post(&path, json!({"content": "x"})).await.json["channel_id"], thread.to_string());
}

#[tokio::test]
async fn a_webhook_that_is_gone_and_a_wrong_token_are_told_apart() {
    let (double, http) = double();
    let wrong = http.post(&url(standard::WEBHOOK, "wrong"), json!({"content": "x"})).await;
    assert_eq!((wrong.status, &wrong.json["code"]), (401, &json!(50027)));
    double.change(Change::DeleteWebhook { webhook: standard::WEBHOOK }).expect("it is there");
    let gone = http.post(&general(), json!({"content": "x"})).await;
    assert_eq!((gone.status, &gone.json["code"]), (404, &json!(10015)));
    assert_eq!(double.invalid_requests(), 1, "only the 401 counts");
}

#[tokio::test]
async fn who_keeps_asking_for_a_webhook_that_is_gone_is_restricted_there() {
    let (double, http) = double();
    double.change(Change::DeleteWebhook { webhook: standard::WEBHOOK }).expect("it is there");
    for _ in 0..10 {
        assert_eq!(http.post(&general(), json!({"content": "x"})).await.status, 404);
    }
    let restricted = http.post(&general(), json!({"content": "x"})).await;
    assert_eq!(
        (restricted.status, restricted.json.is_null(), double.dead_webhook_requests()),
        (429, true, 10)
    );
    assert_eq!(http.get(&forum()).await.status, 200, "elsewhere all is well");
    double.clock().advance(std::time::Duration::from_secs(3600));
    assert_eq!(http.post(&general(), json!({"content": "x"})).await.status, 404);
}

#[tokio::test]
async fn a_forum_needs_a_thread_and_only_one_way_to_name_it() {
    let (double, http) = double();
    let code = async |path: String, body: Value| http.post(&path, body).await.json["code"].clone();
    let named = json!({"content": "x", "thread_name": "t", "applied_tags": [standard::TAG]});
    assert_eq!(code(format!("{}?wait=true", forum()), json!({"content": "x"})).await, 220_001);
    assert_eq!(code(format!("{}?wait=true", general()), named.clone()).await, 220_003);
    let post = http.post(&format!("{}?wait=true", forum()), named.clone()).await;
    assert_eq!((post.status, &post.json["id"]), (200, &post.json["channel_id"]));
    let thread = post.json["channel_id"].as_str().expect("an id").to_owned();
    let both = format!("{}?wait=true&thread_id={thread}", forum());
    assert_eq!(code(both.clone(), named).await, 220_002);
    assert_eq!(http.post(&both, json!({"content": "y"})).await.status, 200);
    assert_eq!(double.visible(thread.parse().expect("an id")).len(), 2);
}

#[tokio::test]
async fn names_are_checked() {
    let (_double, http) = double();
    for (name, code) in [
        ("x".repeat(81), "BASE_TYPE_BAD_LENGTH"),
        ("My Discord".into(), "USERNAME_INVALID_CONTAINS"),
        ("clyde".into(), "USERNAME_INVALID_CONTAINS"),
        ("here".into(), "USERNAME_INVALID"),
    ] {
        let reply = http.post(&general(), json!({"content": "x", "username": name})).await;
        assert_eq!(reply.form_errors("username")[0].0, code, "{name}");
    }
    assert_eq!(http.post(&general(), json!({"content": "x", "username": "groundsphere"})).await.status, 204);
}

#[tokio::test]
async fn components_need_to_be_asked_for_and_pings_are_for_users_only() {
    let (double, http) = double();
    let button = json!({"type": 2, "style": 5, "url": "https://example.org", "label": "go"});
    let row = json!([{"type": 1, "components": [button]}]);
    let content = format!("@everyone <@77> <@&{}>", standard::MENTIONABLE_ROLE);
    for (query, count) in [("wait=true", 0), ("wait=true&with_components=true", 1)] {
        let body = json!({"content": content, "components": row});
        let reply = http.post(&format!("{}?{query}", general()), body).await;
        assert_eq!(reply.json["components"].as_array().map(Vec::len), Some(count));
    }
    let pings = &double.visible(standard::GENERAL)[0].pings;
    assert_eq!((pings.users.len(), pings.roles.len(), pings.everyone), (1, 0, false));
}

#[tokio::test]
async fn its_messages_can_be_read_edited_and_deleted_with_its_token() {
    let (double, http) = double();
    let posted = http.post(&format!("{}?wait=true", general()), json!({"content": "a"})).await;
    let message = format!("{}/messages/{}", general(), posted.json["id"].as_str().expect("an id"));
    assert_eq!(http.patch(&message, json!({"content": "b"})).await.json["content"], "b");
    assert_eq!(http.get(&message).await.json["content"], "b");
    assert_eq!(http.delete(&message).await.status, 204);
    assert_eq!(http.get(&message).await.json["code"], 10008);
    let own = http.post(&messages(standard::GENERAL), json!({"content": "the bot's"})).await;
    let others = format!("{}/messages/{}", general(), own.json["id"].as_str().expect("an id"));
    assert_eq!(http.delete(&others).await.json["code"], 10008);
    assert_eq!(double.visible(standard::GENERAL).len(), 1);
}

#[tokio::test]
async fn a_webhook_can_be_looked_at() {
    let (_double, http) = double();
    let shown = http.get(&general()).await;
    assert_eq!((shown.status, &shown.json["channel_id"]), (200, &json!(standard::GENERAL)));
    let by_bot = http.get(&format!("/webhooks/{}", standard::WEBHOOK)).await;
    assert_eq!(by_bot.json["code"], 50013, "that needs MANAGE_WEBHOOKS");
}
