use crate::{double, double_with, messages};
use discord_double::{Limits, NonceRules, NonceScope, Settings, standard};
use serde_json::{Value, json};
use std::time::Duration;

fn post(nonce: &str, content: &str) -> Value {
    json!({"content": content, "nonce": nonce, "enforce_nonce": true})
}

#[tokio::test]
async fn the_same_nonce_returns_the_first_message_with_its_old_content() {
    let (double, http) = double();
    let first = http.post(&messages(standard::GENERAL), post("n1", "one")).await;
    let second = http.post(&messages(standard::GENERAL), post("n1", "two")).await;
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.json["nonce"], "n1");
    assert_eq!(second.json["id"], first.json["id"]);
    assert_eq!(second.json["content"], "one");
    assert_eq!(double.visible(standard::GENERAL).len(), 1);
}

#[tokio::test]
async fn a_nonce_that_is_not_enforced_makes_a_second_message() {
    let (double, http) = double();
    for _ in 0..2 {
        let reply = http.post(&messages(standard::GENERAL), json!({"content": "x", "nonce": 7})).await;
        assert_eq!(reply.json["nonce"], 7);
    }
    assert_eq!(double.visible(standard::GENERAL).len(), 2);
}

#[tokio::test]
async fn a_nonce_is_forgotten_when_its_window_is_over() {
    let nonce = NonceRules { window_seconds: 60.0, ..NonceRules::default() };
    let (double, http) = double_with(Settings { nonce, limits: Limits::off(), ..Settings::default() });
    http.post(&messages(standard::GENERAL), post("n", "x")).await;
    double.clock().advance(Duration::from_millis(59_999));
    http.post(&messages(standard::GENERAL), post("n", "x")).await;
    assert_eq!(double.visible(standard::GENERAL).len(), 1);
    double.clock().advance(Duration::from_millis(1));
    http.post(&messages(standard::GENERAL), post("n", "x")).await;
    assert_eq!(double.visible(standard::GENERAL).len(), 2);
}

#[tokio::test]
async fn a_nonce_counts_for_the_author_or_for_the_author_in_a_channel() {
    for (scope, channels_with_it) in [(NonceScope::Author, 1), (NonceScope::AuthorAndChannel, 2)] {
        let nonce = NonceRules { scope, ..NonceRules::default() };
        let (double, http) = double_with(Settings { nonce, limits: Limits::off(), ..Settings::default() });
        for channel in [standard::GENERAL, standard::RANDOM] {
            assert_eq!(http.post(&messages(channel), post("n", "x")).await.status, 200);
        }
        assert_eq!(double.all_visible().len(), channels_with_it, "{scope:?}");
    }
}

#[tokio::test]
async fn a_nonce_whose_message_was_deleted_is_an_unknown_message() {
    let (double, http) = double();
    let id = http.post(&messages(standard::GENERAL), post("n", "x")).await.json["id"].clone();
    let path = format!("{}/{}", messages(standard::GENERAL), id.as_str().expect("an id"));
    assert_eq!(http.delete(&path).await.status, 204);
    let again = http.post(&messages(standard::GENERAL), post("n", "x")).await;
    assert_eq!((again.status, &again.json["code"]), (404, &json!(10008)));
    assert!(double.visible(standard::GENERAL).is_empty());
}

#[tokio::test]
async fn a_nonce_is_not_in_what_is_read_later() {
    let (_double, http) = double();
    http.post(&messages(standard::GENERAL), post("n", "x")).await;
    let read = http.get(&messages(standard::GENERAL)).await;
    assert_eq!(read.json[0]["content"], "x");
    assert_eq!(read.json[0].get("nonce"), None);
}

#[tokio::test]
async fn webhooks_and_forums_know_no_nonce() {
    let (double, http) = double();
    let webhook = format!("/webhooks/{}/{}?wait=true", standard::WEBHOOK, standard::WEBHOOK_TOKEN);
    let forum = format!("/channels/{}/threads", standard::FORUM);
    for _ in 0..2 {
        let reply = http.post(&webhook, post("n", "x")).await;
        assert_eq!((reply.status, reply.json.get("nonce")), (200, None));
        let post = json!({"name": "a post", "message": post("n", "x")});
        assert_eq!(http.post(&forum, post).await.status, 201);
    }
    assert_eq!(double.all_visible().len(), 4);
}

#[tokio::test]
async fn a_nonce_may_have_25_characters() {
    let (_double, http) = double();
    let reply = http.post(&messages(standard::GENERAL), post(&"n".repeat(26), "x")).await;
    assert_eq!((reply.status, reply.form_errors("nonce").len()), (400, 1));
    assert_eq!(http.post(&messages(standard::GENERAL), post(&"n".repeat(25), "x")).await.status, 200);
}
