//! Who may do what.

use crate::{double, messages};
use discord_double::{
    ChannelKind, Double, Id, Overwrite, OverwriteTarget, Permissions, Role, What, standard,
};
use serde_json::{Value, json};
use std::time::Duration;

const EVERYONE: OverwriteTarget = OverwriteTarget::Role(standard::GUILD);
const BOT_ROLE: OverwriteTarget = OverwriteTarget::Role(standard::BOT_ROLE);
const BOT: OverwriteTarget = OverwriteTarget::Member(standard::BOT);

fn set(double: &Double, target: OverwriteTarget, allow: Permissions, deny: Permissions) {
    double.world(|world| world.overwrite(standard::GENERAL, Overwrite { target, allow, deny }));
}

fn may(double: &Double, channel: Id, permission: Permissions) -> bool {
    double.permissions(standard::BOT, channel).has(permission)
}

#[tokio::test]
async fn overwrites_count_for_everyone_then_roles_then_the_member() {
    let (double, _http) = double();
    let send = Permissions::SEND_MESSAGES;
    for (target, allow, deny, allowed) in [
        (EVERYONE, Permissions::NONE, send, false),
        (BOT_ROLE, send, Permissions::NONE, true),
        (BOT, Permissions::NONE, send, false),
        (BOT, send, Permissions::NONE, true),
    ] {
        set(&double, target, allow, deny);
        assert_eq!(may(&double, standard::GENERAL, send), allowed, "{target:?}");
    }
}

#[tokio::test]
async fn one_role_that_allows_wins_over_another_that_denies() {
    let (double, _http) = double();
    let send = Permissions::SEND_MESSAGES;
    let role = Role { id: Id(0), name: "other".into(), permissions: Permissions::NONE, mentionable: false };
    let role = double.world(|world| {
        let role = world.add_role(standard::GUILD, role);
        world.join(standard::GUILD, standard::BOT, &[role]);
        role
    });
    set(&double, BOT_ROLE, Permissions::NONE, send);
    set(&double, OverwriteTarget::Role(role), send, Permissions::NONE);
    assert!(may(&double, standard::GENERAL, send));
}

#[tokio::test]
async fn owner_and_administrator_may_do_everything() {
    let (double, _http) = double();
    set(&double, EVERYONE, Permissions::NONE, Permissions::ALL);
    assert!(double.permissions(standard::OWNER, standard::GENERAL).has(Permissions::MANAGE_THREADS));
    assert_eq!(double.permissions(standard::BOT, standard::GENERAL), Permissions::NONE);
    double.world(|world| {
        let role = world.guild_mut(standard::GUILD).roles.get_mut(&standard::BOT_ROLE).expect("a role");
        role.permissions = Permissions::ADMINISTRATOR;
    });
    assert!(may(&double, standard::GENERAL, Permissions::MENTION_EVERYONE));
}

#[tokio::test]
async fn without_sending_there_are_no_files_embeds_or_mentions_of_everyone() {
    let (double, _http) = double();
    set(&double, EVERYONE, Permissions::MENTION_EVERYONE, Permissions::SEND_MESSAGES);
    for implied in [Permissions::ATTACH_FILES, Permissions::EMBED_LINKS, Permissions::MENTION_EVERYONE] {
        assert!(!may(&double, standard::GENERAL, implied));
    }
    assert!(may(&double, standard::GENERAL, Permissions::READ_MESSAGE_HISTORY));
    set(&double, EVERYONE, Permissions::NONE, Permissions::VIEW_CHANNEL);
    assert_eq!(double.permissions(standard::BOT, standard::GENERAL), Permissions::NONE);
}

#[tokio::test]
async fn threads_go_by_their_parent_and_by_their_own_permission_to_send() {
    let (double, http) = double();
    set(&double, EVERYONE, Permissions::NONE, Permissions::SEND_MESSAGES);
    assert_eq!(http.post(&messages(standard::GENERAL), json!({"content": "x"})).await.json["code"], 50013);
    let in_thread = json!({"embeds": [{"title": "t"}]});
    assert_eq!(http.post(&messages(standard::THREAD), in_thread).await.status, 200, "with an embed");
    set(&double, EVERYONE, Permissions::NONE, Permissions::SEND_MESSAGES_IN_THREADS);
    assert_eq!(http.post(&messages(standard::GENERAL), json!({"content": "x"})).await.status, 200);
    assert_eq!(http.post(&messages(standard::THREAD), json!({"content": "x"})).await.json["code"], 50013);
}

#[tokio::test]
async fn a_private_thread_is_seen_by_its_members_only() {
    let (double, http) = double();
    let thread =
        double.world(|world| world.add_thread(standard::GENERAL, ChannelKind::PrivateThread, "secret"));
    assert_eq!(http.get(&format!("/channels/{thread}")).await.json["code"], 50001);
    double.world(|world| world.channel_mut(thread).thread_members.insert(standard::BOT));
    assert_eq!(http.get(&format!("/channels/{thread}")).await.json["type"], 12);
}

#[tokio::test]
async fn who_is_timed_out_may_only_look_until_it_is_over() {
    let (double, http) = double();
    let until = double.clock().now() + Duration::from_secs(60);
    double.world(|world| {
        let member = world.guild_mut(standard::GUILD).members.get_mut(&standard::BOT).expect("a member");
        member.timed_out_until = Some(until);
    });
    assert_eq!(http.post(&messages(standard::GENERAL), json!({"content": "x"})).await.json["code"], 50013);
    assert_eq!(http.get(&messages(standard::GENERAL)).await.status, 200);
    double.clock().advance(Duration::from_secs(60));
    assert_eq!(http.post(&messages(standard::GENERAL), json!({"content": "x"})).await.status, 200);
}

#[tokio::test]
async fn each_kind_of_content_needs_its_permission() {
    let (double, http) = double();
    let path = messages(standard::GENERAL);
    let deny = |denied| set(&double, EVERYONE, Permissions::NONE, denied);
    deny(Permissions::EMBED_LINKS);
    let embeds = json!([{"title": "t"}]);
    assert_eq!(http.post(&path, json!({"embeds": embeds})).await.json["code"], 50013);
    let silent = http.post(&path, json!({"content": "x", "embeds": embeds})).await;
    assert_eq!((silent.status, &silent.json["embeds"]), (200, &json!([])), "dropped without a word");
    deny(Permissions::ATTACH_FILES);
    assert_eq!(http.post_files(&path, json!({"content": "x"}), &[("a", b"a")]).await.json["code"], 50013);
    deny(Permissions::SEND_POLLS);
    let poll = json!({"poll": {"question": {"text": "q"}, "answers": [{"poll_media": {"text": "a"}}]}});
    assert_eq!(http.post(&path, poll).await.json["code"], 50013);
    deny(Permissions::READ_MESSAGE_HISTORY);
    let id = http.post(&path, json!({"content": "x"})).await.json["id"].clone();
    let reply = json!({"content": "y", "message_reference": {"message_id": id}});
    assert_eq!(http.post(&path, reply).await.json["code"], 160_002);
    assert_eq!(double.invalid_requests(), 3);
}

#[tokio::test]
async fn what_does_not_exist_what_is_hidden_and_who_is_a_stranger_are_told_apart() {
    let (double, http) = double();
    let code = |reply: crate::support::Reply| (reply.status, reply.json["code"].clone());
    assert_eq!(code(http.get("/channels/5").await), (404, json!(10003)));
    assert_eq!(code(http.get("/channels/general").await), (400, json!(50035)));
    assert_eq!(code(http.get("/guilds/5").await), (404, json!(10004)));
    set(&double, EVERYONE, Permissions::NONE, Permissions::VIEW_CHANNEL);
    assert_eq!(
        code(http.post(&messages(standard::GENERAL), json!({"content": "x"})).await),
        (403, json!(50001))
    );
    let mut stranger = http.clone();
    stranger.authorization = Some("Bot wrong".into());
    assert_eq!(code(stranger.get("/users/@me").await), (401, json!(0)));
    stranger.authorization = Some(standard::TOKEN.into());
    assert_eq!(code(stranger.get("/users/@me").await), (401, json!(0)), "without `Bot`");
    let mut rude = http.clone();
    rude.user_agent = Some("curl/8".into());
    assert_eq!(code(rude.get("/users/@me").await), (403, json!(40333)));
}

#[tokio::test]
async fn the_version_of_the_api_must_be_said() {
    let (double, http) = double();
    let host = double.base_url().replace("/api/v10", "");
    let code = async |path: &str| http.get(&format!("{host}{path}")).await.json["code"].clone();
    assert_eq!(code("/api/users/@me").await, 50041);
    assert_eq!(code("/api/v9/users/@me").await, 50041);
    assert_eq!(code("/api/v10/nowhere").await, 0);
    assert_eq!(http.send("PUT", "/users/@me", None).await.expect("a reply").status, 404);
}

#[tokio::test]
async fn replies_carry_the_time_of_the_double() {
    let (double, http) = double();
    double.clock().advance(Duration::from_secs(61));
    let time = "Mon, 23 Nov 2026 12:01:01 GMT";
    assert_eq!(http.get("/users/@me").await.header("date"), Some(time));
    double.next(What::FailBeforeCommit { status: 503 });
    assert_eq!(http.get("/users/@me").await.header("date"), Some(time));
}

#[tokio::test]
async fn what_a_preflight_asks_is_answered() {
    let (_double, http) = double();
    let guild = format!("/guilds/{}", standard::GUILD);
    let me = http.get("/users/@me").await;
    assert_eq!((&me.json["username"], &me.json["bot"]), (&json!("double-bot"), &Value::Bool(true)));
    let forum = http.get(&format!("/channels/{}", standard::FORUM)).await;
    assert_eq!((&forum.json["type"], &forum.json["available_tags"][0]["name"]), (&json!(15), &json!("help")));
    assert_eq!(http.get(&guild).await.json["owner_id"], standard::OWNER.to_string());
    let roles = http.get(&format!("{guild}/roles")).await;
    assert_eq!(roles.json[0]["permissions"], Permissions::POSTER.0.to_string());
    let member = http.get(&format!("{guild}/members/{}", standard::BOT)).await;
    assert_eq!(member.json["roles"], json!([standard::BOT_ROLE]));
    assert_eq!(http.get(&format!("{guild}/members/5")).await.json["code"], 10013);
    let channels = http.get(&format!("{guild}/channels")).await;
    assert_eq!(channels.json.as_array().map(Vec::len), Some(6), "threads are not among them");
    let guilds = http.get("/users/@me/guilds").await;
    assert_eq!((&guilds.json[0]["id"], &guilds.json[0]["owner"]), (&json!(standard::GUILD), &json!(false)));
    assert_eq!(guilds.json[0]["permissions"], Permissions::POSTER.0.to_string());
    let after = format!("/users/@me/guilds?after={}", standard::GUILD);
    assert_eq!(http.get(&after).await.json, json!([]));
    assert_eq!(http.get("/applications/@me").await.json["flags"], 1 << 18);
    assert_eq!(http.get("/gateway").await.status, 200);
}
