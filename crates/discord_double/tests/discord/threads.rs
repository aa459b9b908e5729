//! Threads and forums.

use crate::{double, messages};
use discord_double::{Change, Overwrite, OverwriteTarget, Permissions, What, standard};
use serde_json::{Value, json};
use std::time::Duration;

fn forum_path() -> String {
    format!("/channels/{}/threads", standard::FORUM)
}

fn forum_post(tags: Value) -> Value {
    json!({"name": "a post", "applied_tags": tags, "message": {"content": "hello"}})
}

#[tokio::test]
async fn a_message_has_one_thread_with_its_own_id() {
    let (_double, http) = double();
    let id = http.post(&messages(standard::GENERAL), json!({"content": "x"})).await.json["id"].clone();
    let path = format!("{}/{}/threads", messages(standard::GENERAL), id.as_str().expect("an id"));
    let thread = http.post(&path, json!({"name": "t", "auto_archive_duration": 60})).await;
    assert_eq!((thread.status, &thread.json["id"], &thread.json["type"]), (201, &id, &json!(11)));
    assert_eq!(http.post(&path, json!({"name": "t"})).await.json["code"], 160_004);
    let in_thread = format!("/channels/{}/messages", id.as_str().expect("an id"));
    assert_eq!(http.post(&in_thread, json!({"content": "y"})).await.status, 200);
    let shown = http.get(&messages(standard::GENERAL)).await;
    assert_eq!(shown.json[0]["thread"]["name"], "t");
}

#[tokio::test]
async fn names_and_archive_times_are_checked() {
    let (_double, http) = double();
    let id = http.post(&messages(standard::GENERAL), json!({"content": "x"})).await.json["id"].clone();
    let path = format!("{}/{}/threads", messages(standard::GENERAL), id.as_str().expect("an id"));
    let long = http.post(&path, json!({"name": "x".repeat(101), "auto_archive_duration": 61})).await;
    assert_eq!(long.form_errors("name")[0].1, "Must be between 1 and 100 in length.");
    assert_eq!(long.form_errors("auto_archive_duration")[0].0, "BASE_TYPE_CHOICES");
    assert_eq!(http.post(&path, json!({})).await.form_errors("name")[0].0, "BASE_TYPE_REQUIRED");
    let voice = format!("/channels/{}/threads", standard::VOICE);
    assert_eq!(http.post(&voice, json!({"name": "t", "type": 11})).await.json["code"], 50024);
}

#[tokio::test]
async fn a_forum_post_is_a_thread_with_its_first_message() {
    let (double, http) = double();
    let reply = http.post(&forum_path(), forum_post(json!([standard::TAG]))).await;
    assert_eq!((reply.status, &reply.json["message"]["content"]), (201, &json!("hello")));
    assert_eq!(
        (&reply.json["message"]["id"], &reply.json["applied_tags"]),
        (&reply.json["id"], &json!([standard::TAG]))
    );
    let thread = reply.json["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    assert_eq!(double.visible(thread)[0].content, "hello");
    assert_eq!(http.post(&messages(standard::FORUM), json!({"content": "x"})).await.json["code"], 40058);
    let files = http.post_files(&forum_path(), forum_post(json!([])), &[("a.txt", b"a")]).await;
    assert_eq!(files.json["message"]["attachments"][0]["filename"], "a.txt");
}

#[tokio::test]
async fn a_forum_post_can_be_late_in_lists() {
    let (double, http) = double();
    let active = format!("/guilds/{}/threads/active", standard::GUILD);
    let count = async || http.get(&active).await.json["threads"].as_array().map(Vec::len);
    double.next(What::HideInReads { millis: 1000 });
    http.post(&forum_path(), forum_post(json!([]))).await;
    assert_eq!(count().await, Some(1), "only the one of the standard world");
    double.clock().advance(Duration::from_secs(1));
    assert_eq!(count().await, Some(2));
}

#[tokio::test]
async fn tags_are_checked() {
    let (double, http) = double();
    let code = async |tags: Value| http.post(&forum_path(), forum_post(tags)).await.json["code"].clone();
    assert_eq!(code(json!([standard::MODERATED_TAG])).await, 40066);
    assert_eq!(code(json!(["5"])).await, 50035);
    assert_eq!(code(json!(vec![standard::TAG; 6])).await, 50035);
    double.change(Change::RequireTag { forum: standard::FORUM, required: true }).expect("a forum");
    assert_eq!(code(json!([])).await, 40067);
    assert_eq!(code(json!([standard::TAG])).await, Value::Null);
}

#[tokio::test]
async fn a_forum_post_needs_the_permission_to_send_and_not_the_one_for_threads() {
    let (double, http) = double();
    for (deny, status) in [(Permissions::CREATE_PUBLIC_THREADS, 201), (Permissions::SEND_MESSAGES, 403)] {
        let target = OverwriteTarget::Role(standard::GUILD);
        double.world(|world| {
            world.overwrite(standard::FORUM, Overwrite { target, allow: Permissions::NONE, deny });
        });
        assert_eq!(http.post(&forum_path(), forum_post(json!([]))).await.status, status);
    }
}

#[tokio::test]
async fn a_forum_post_has_no_poll_and_few_flags() {
    let (_double, http) = double();
    let poll = json!({"question": {"text": "q"}, "answers": [{"poll_media": {"text": "a"}}]});
    let body = json!({"name": "n", "message": {"poll": poll}});
    assert_eq!(http.post(&forum_path(), body).await.form_errors("poll").len(), 1);
    let body = json!({"name": "n", "message": {"content": "x", "flags": 1 << 2 | 1 << 15}});
    assert_eq!(http.post(&forum_path(), body).await.json["message"]["flags"], 1 << 2);
    let missing = http.post(&forum_path(), json!({"name": "n"})).await;
    assert_eq!(missing.form_errors("message")[0].0, "BASE_TYPE_REQUIRED");
}

#[tokio::test]
async fn threads_are_listed_while_active_and_after() {
    let (double, http) = double();
    let post = http.post(&forum_path(), forum_post(json!([]))).await;
    let id = post.json["id"].as_str().expect("an id").to_owned();
    let active = format!("/guilds/{}/threads/active", standard::GUILD);
    let archived = format!("{}/archived/public", forum_path());
    let listed = http.get(&active).await;
    assert_eq!(
        (&listed.json["threads"][0]["id"], &listed.json["threads"][0]["owner_id"]),
        (&json!(id), &json!(standard::BOT))
    );
    assert_eq!(http.get(&archived).await.json["threads"], json!([]));
    let edited = http.patch(&format!("/channels/{id}"), json!({"archived": true})).await;
    assert_eq!(edited.json["thread_metadata"]["archived"], true);
    assert_eq!(http.get(&active).await.json["threads"].as_array().map(Vec::len), Some(1));
    let listed = http.get(&archived).await;
    assert_eq!((&listed.json["threads"][0]["id"], &listed.json["has_more"]), (&json!(id), &json!(false)));
    let before = http.get(&format!("{archived}?before=2020-01-01T00:00:00Z")).await;
    assert_eq!(before.json["threads"], json!([]));
    assert_eq!(http.patch(&format!("/channels/{id}"), json!({"locked": true})).await.json["code"], 50013);
    assert_eq!(double.visible(id.parse().expect("an id")).len(), 1);
}
