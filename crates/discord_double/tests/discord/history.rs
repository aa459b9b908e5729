//! Reading, and what stays hidden.

use crate::support::Http;
use crate::{double, double_with, messages};
use discord_double::{
    AfterOrder, Change, Double, Limits, Overwrite, OverwriteTarget, Permissions, Settings, User, standard,
};
use serde_json::{Value, json};

async fn post_many(http: &Http, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        let reply = http.post(&messages(standard::GENERAL), json!({"content": n.to_string()})).await;
        ids.push(reply.json["id"].as_str().expect("an id").to_owned());
    }
    ids
}

fn contents(reply: &Value) -> Vec<&str> {
    let messages = reply.as_array().expect("a list").iter();
    messages.map(|message| message["content"].as_str().expect("a text")).collect()
}

#[tokio::test]
async fn pages_come_newest_first() {
    let (_double, http) = double();
    let ids = post_many(&http, 7).await;
    let page = async |query: &str| {
        let reply = http.get(&format!("{}?{query}", messages(standard::GENERAL))).await;
        contents(&reply.json).join("")
    };
    assert_eq!(page("").await, "6543210");
    assert_eq!(page("limit=2").await, "65");
    assert_eq!(page(&format!("before={}&limit=2", ids[4])).await, "32");
    assert_eq!(page(&format!("after={}&limit=2", ids[1])).await, "32", "those that follow, the newest first");
    assert_eq!(page(&format!("around={}&limit=3", ids[3])).await, "432");
    assert_eq!(page("after=0&limit=3").await, "210");
    for wrong in ["limit=0", "limit=101", "limit=x", "before=x", "before=1&after=2"] {
        let reply = http.get(&format!("{}?{wrong}", messages(standard::GENERAL))).await;
        assert_eq!((reply.status, &reply.json["code"]), (400, &json!(50035)), "{wrong}");
    }
}

#[tokio::test]
async fn the_order_with_after_can_be_switched() {
    let settings =
        Settings { after_order: AfterOrder::OldestFirst, limits: Limits::off(), ..Settings::default() };
    let (_double, http) = double_with(settings);
    post_many(&http, 3).await;
    let page = http.get(&format!("{}?after=0", messages(standard::GENERAL))).await;
    assert_eq!(contents(&page.json), ["0", "1", "2"]);
}

#[tokio::test]
async fn a_snowflake_of_a_time_is_a_bound() {
    let (double, http) = double();
    post_many(&http, 1).await;
    double.clock().advance(std::time::Duration::from_secs(60));
    let bound = discord_double::Id::at(double.clock().now());
    let ids = post_many(&http, 1).await;
    let page = http.get(&format!("{}?after={}", messages(standard::GENERAL), bound.0 - 1)).await;
    assert_eq!(page.json[0]["id"], ids[0]);
    assert_eq!(page.json.as_array().map(Vec::len), Some(1));
    assert_eq!(page.json[0]["timestamp"], "2026-11-23T12:01:00.000000+00:00");
}

#[tokio::test]
async fn without_the_permission_history_is_empty_and_looks_fine() {
    let (double, http) = double();
    let ids = post_many(&http, 1).await;
    let target = OverwriteTarget::Role(standard::GUILD);
    let deny = Permissions::READ_MESSAGE_HISTORY;
    double.world(|world| {
        world.overwrite(standard::GENERAL, Overwrite { target, allow: Permissions::NONE, deny });
    });
    let page = http.get(&messages(standard::GENERAL)).await;
    assert_eq!((page.status, page.json), (200, json!([])));
    let one = http.get(&format!("{}/{}", messages(standard::GENERAL), ids[0])).await;
    assert_eq!(one.json["code"], 50013);
}

/// A second bot that is not allowed to read what others write.
fn shy_bot(double: &Double) -> Http {
    double.world(|world| {
        let bot = world.add_bot(standard::GUILD, "shy", "shy-token");
        let user = world.users[&bot].clone();
        world.add_user(User { message_content: false, ..user });
    });
    Http::new(&double.base_url(), "shy-token")
}

#[tokio::test]
async fn without_the_intent_only_own_messages_and_mentions_can_be_read() {
    let (double, http) = double();
    let shy = shy_bot(&double);
    let me = shy.get("/users/@me").await.json["id"].as_str().expect("an id").to_owned();
    for (poster, content) in [(&http, "secret"), (&http, &format!("hi <@{me}>")), (&shy, "mine")] {
        let body = json!({"content": content, "embeds": [{"title": "t"}]});
        assert_eq!(poster.post(&messages(standard::GENERAL), body).await.status, 200);
    }
    let page = shy.get(&messages(standard::GENERAL)).await;
    assert_eq!(contents(&page.json), ["mine", &format!("hi <@{me}>"), ""]);
    assert_eq!((&page.json[0]["embeds"][0]["title"], &page.json[2]["embeds"]), (&json!("t"), &json!([])));
    assert_eq!(double.visible(standard::GENERAL)[0].content, "secret", "people see it all");
}

#[tokio::test]
async fn only_the_author_edits_and_others_need_permission_to_delete() {
    let (double, http) = double();
    let shy = shy_bot(&double);
    let ids = post_many(&http, 1).await;
    let path = format!("{}/{}", messages(standard::GENERAL), ids[0]);
    assert_eq!(shy.patch(&path, json!({"content": "x"})).await.json["code"], 50005);
    assert_eq!(shy.delete(&path).await.json["code"], 50013);
    assert_eq!(http.delete(&path).await.status, 204);
    assert_eq!(http.delete(&path).await.json["code"], 10008);
}

#[tokio::test]
async fn others_write_too() {
    let (double, http) = double();
    let say = Change::Say { channel: standard::GENERAL, author: standard::OWNER, content: "hi".into() };
    double.change(say).expect("both are there");
    let page = http.get(&messages(standard::GENERAL)).await;
    assert_eq!(page.json[0]["author"]["id"], standard::OWNER.to_string());
    assert_eq!((contents(&page.json), double.visible(standard::GENERAL)[0].request), (vec!["hi"], 0));
}

#[tokio::test]
async fn messages_can_be_pinned() {
    let (double, http) = double();
    let ids = post_many(&http, 2).await;
    let pins = format!("{}/pins", messages(standard::GENERAL));
    let pin = async || http.send("PUT", &format!("{pins}/{}", ids[0]), None).await.expect("a reply");
    assert_eq!(pin().await.json["code"], 50013);
    let target = OverwriteTarget::Role(standard::GUILD);
    let allow = Permissions::PIN_MESSAGES;
    double.world(|world| {
        world.overwrite(standard::GENERAL, Overwrite { target, allow, deny: Permissions::NONE });
    });
    assert_eq!(pin().await.status, 204);
    let list = http.get(&pins).await;
    assert_eq!(
        (&list.json["items"][0]["message"]["id"], &list.json["has_more"]),
        (&json!(ids[0]), &json!(false))
    );
    let old = http.get(&format!("/channels/{}/pins", standard::GENERAL)).await;
    assert_eq!(old.json[0]["pinned"], true);
    assert_eq!(http.delete(&format!("{pins}/{}", ids[0])).await.status, 204);
    assert_eq!(http.get(&pins).await.json["items"], json!([]));
}
