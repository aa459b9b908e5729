//! Who is pinged.

use crate::{double, messages};
use discord_double::{Overwrite, OverwriteTarget, Permissions, Pings, Writes, standard};
use serde_json::{Value, json};

fn everything() -> String {
    let (owner, mentionable, plain) = (standard::OWNER, standard::MENTIONABLE_ROLE, standard::BOT_ROLE);
    format!("@everyone @here <@{owner}> <@!77> <@&{mentionable}> <@&{plain}> <@x> <@&> @every\u{200b}one")
}

async fn pings(body: Value, may_mention_all: bool) -> Pings {
    let (double, http) = double();
    let target = OverwriteTarget::Role(standard::GUILD);
    let allow = if may_mention_all { Permissions::MENTION_EVERYONE } else { Permissions::NONE };
    double.world(|world| {
        world.overwrite(standard::GENERAL, Overwrite { target, allow, deny: Permissions::NONE });
    });
    let reply = http.post(&messages(standard::GENERAL), body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    double.visible(standard::GENERAL).remove(0).pings
}

#[tokio::test]
async fn without_allowed_mentions_everything_pings_that_the_author_may() {
    let users = [discord_double::Id(77), standard::OWNER].into();
    let limited = pings(json!({"content": everything()}), false).await;
    let roles = [standard::MENTIONABLE_ROLE].into();
    assert_eq!(limited, Pings { users, roles, ..Pings::default() });
    let powerful = pings(json!({"content": everything()}), true).await;
    assert!(powerful.everyone && powerful.here && powerful.roles.len() == 2);
}

#[tokio::test]
async fn allowed_mentions_let_through_what_they_name() {
    let with = |allowed: Value| json!({"content": everything(), "allowed_mentions": allowed});
    assert!(pings(with(json!({"parse": []})), true).await.is_empty());
    assert!(pings(with(json!({})), true).await.is_empty());
    let users = pings(with(json!({"users": ["77"], "parse": ["everyone"]})), true).await;
    assert_eq!(
        users,
        Pings { everyone: true, here: true, users: [discord_double::Id(77)].into(), ..Pings::default() }
    );
    let roles = pings(with(json!({"parse": ["roles"], "roles": []})), true).await;
    assert_eq!((roles.roles.len(), roles.users.len()), (2, 0));
}

#[tokio::test]
async fn parse_and_a_list_of_the_same_kind_exclude_each_other() {
    let (_double, http) = double();
    let post = async |allowed: Value| {
        http.post(&messages(standard::GENERAL), json!({"content": "x", "allowed_mentions": allowed})).await
    };
    let reply = post(json!({"parse": ["users"], "users": ["1"]})).await;
    let said = r#"parse:["users"] and users: [ids...] are mutually exclusive."#;
    assert_eq!(
        reply.form_errors("allowed_mentions"),
        [("MESSAGE_ALLOWED_MENTIONS_PARSE_EXCLUSIVE".to_owned(), said.to_owned())]
    );
    assert_eq!(post(json!({"parse": ["users"], "users": null})).await.status, 200);
    let many: Vec<_> = (1..=101).map(|id: u64| id.to_string()).collect();
    assert_eq!(post(json!({"users": many})).await.form_errors("allowed_mentions.users").len(), 1);
    assert_eq!(post(json!({"parse": ["cats"]})).await.form_errors("allowed_mentions.parse.0").len(), 1);
}

#[tokio::test]
async fn an_edit_without_allowed_mentions_pings_by_default_and_the_ledger_tells() {
    let (double, http) = double();
    let silent = json!({"content": "<@77>", "allowed_mentions": {"parse": []}});
    let id = http.post(&messages(standard::GENERAL), silent.clone()).await.json["id"].clone();
    let path = format!("{}/{}", messages(standard::GENERAL), id.as_str().expect("an id"));
    http.patch(&path, silent).await;
    http.patch(&path, json!({"content": "<@77>!"})).await;
    let seen = double.visible(standard::GENERAL).remove(0);
    assert!(seen.pings.is_empty());
    assert_eq!(seen.edit_pings.iter().map(|pings| pings.users.len()).collect::<Vec<_>>(), [0, 1]);
}

#[tokio::test]
async fn texts_of_components_ping_and_embeds_do_not() {
    let text = json!({"type": 17, "components": [{"type": 10, "content": "<@77>"}]});
    assert_eq!(pings(json!({"flags": 1 << 15, "components": [text]}), false).await.users.len(), 1);
    assert!(pings(json!({"embeds": [{"description": "<@77>"}]}), false).await.is_empty());
}

#[tokio::test]
async fn a_reply_pings_whom_it_answers_unless_told_not_to() {
    let (double, http) = double();
    let path = messages(standard::GENERAL);
    let id = http.post(&path, json!({"content": "x"})).await.json["id"].clone();
    let reply = |allowed: Value| json!({"content": "y", "message_reference": {"message_id": id}, "allowed_mentions": allowed});
    let loud = http.post(&path, reply(Value::Null)).await;
    assert_eq!((&loud.json["type"], &loud.json["referenced_message"]["content"]), (&json!(19), &json!("x")));
    http.post(&path, reply(json!({"parse": []}))).await;
    let pinged: Vec<_> =
        double.visible(standard::GENERAL).iter().map(|seen| seen.pings.users.len()).collect();
    assert_eq!(pinged, [0, 1, 0]);
    let lost = json!({"content": "y", "message_reference": {"message_id": "5"}});
    assert_eq!(http.post(&path, lost).await.form_errors("message_reference").len(), 1);
    let lost = json!({"content": "y", "message_reference": {"message_id": "5", "fail_if_not_exists": false}});
    assert_eq!(http.post(&path, lost).await.json["type"], 0);
    let forward =
        json!({"message_reference": {"type": 1, "channel_id": standard::GENERAL, "message_id": id}});
    let forwarded = http.post(&messages(standard::RANDOM), forward).await;
    assert_eq!(forwarded.json["message_snapshots"][0]["message"]["content"], "x");
}

#[test]
fn a_body_is_judged_without_a_double_as_with_one() {
    let replied = discord_double::Id(5);
    let judge = |body: Value, writes| Pings::of(&body, writes, replied).expect("it is taken");
    let loud = || json!({"content": everything()});
    for writes in [Writes::Message, Writes::Edit, Writes::ForumPost] {
        let pings = judge(loud(), writes);
        assert!(
            pings.everyone && pings.here && pings.users.len() == 2 && pings.roles.len() == 2,
            "{writes:?}"
        );
        let quiet = json!({"content": everything(), "allowed_mentions": {"parse": []}});
        assert!(judge(quiet, writes).is_empty(), "{writes:?}");
    }
    let by_webhook = judge(loud(), Writes::Webhook);
    assert!(!by_webhook.everyone && by_webhook.roles.is_empty() && by_webhook.users.len() == 2);
    let answer = json!({"content": "x", "message_reference": {"message_id": "9"}});
    assert_eq!(judge(answer, Writes::Message).users, [replied].into());
    let refused = Pings::of(&json!({"content": ""}), Writes::Message, replied).expect_err("it is empty");
    assert_eq!(refused["code"], 50006);
}
