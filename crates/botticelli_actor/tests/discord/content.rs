//! What actors can say, through the platform.

use super::platform::{BotUnderTest, to};
use super::*;
use botticelli_server::post::{Doubt, Extras, LookUp, Platform, PostContent, PostError, Receipt};
use botticelli_testkit::platform_suite::PlatformUnderTest as _;
use discord_double::Pings;
use serde_json::{Value, json};

fn with(text: &str, extra: Value) -> PostContent {
    PostContent { text: text.into(), extras: Extras::from([("discord".to_owned(), extra)]) }
}

async fn post(bot: &Platform, channel: Id, content: &PostContent, key: &str) -> Result<Receipt, PostError> {
    let (to, key) = (to("discord", &channel.0.to_string()), IdempotencyKey::stored(key.into()));
    bot.post(content, &to, &key).await
}

#[tokio::test]
async fn an_embed_a_file_a_reply_and_a_poll_arrive() {
    let place = BotUnderTest::default();
    let bot = place.connect();
    let first = post(&*bot, standard::GENERAL, &PostContent::text("first"), "1").await.expect("posted");
    let extra = json!({
        "embeds": [{"title": "T", "fields": [{"name": "N", "value": "V"}]}],
        "files": [{"name": "a.txt", "data": {"text": "x"}}],
        "links": [{"label": "Go", "url": "https://example.org/"}],
        "reply": {"message_id": first.message_id},
        "silent": true,
    });
    post(&*bot, standard::GENERAL, &with("second", extra), "2").await.expect("posted");
    let poll = json!({"content": "", "poll": {"question": "Tea?", "answers": ["yes", "no"]}});
    post(&*bot, standard::GENERAL, &with("what others show", poll), "3").await.expect("posted");
    let visible = place.stage.double.visible(standard::GENERAL);
    let seen = &visible[1].message;
    assert_eq!(seen["embeds"][0]["fields"][0]["value"], "V");
    assert_eq!(seen["attachments"][0]["filename"], "a.txt");
    assert_eq!(seen["components"][0]["components"][0]["label"], "Go");
    assert_eq!(seen["message_reference"]["message_id"], first.message_id);
    assert_eq!((&seen["content"], &seen["flags"]), (&json!("second"), &json!(1 << 12)));
    assert_eq!(visible[2].message["poll"]["question"]["text"], "Tea?");
    assert_eq!(visible[2].content, "", "its text is for the others");
}

#[tokio::test]
async fn a_receipt_names_what_is_to_follow_also_where_it_was_found_by_a_look_up() {
    let place = BotUnderTest::default();
    let bot = place.connect();
    let content = with("news", json!({"thread": {"name": "talk"}, "crosspost": true}));
    let receipt = post(&*bot, standard::NEWS, &content, "1").await.expect("posted");
    assert_eq!(receipt.to_follow, ["thread", "crosspost"]);
    let (to, key) = (to("discord", &standard::NEWS.0.to_string()), IdempotencyKey::stored("1".into()));
    place.minutes(5);
    let found = bot.look_up(&content, &to, &key, &doubt(&place)).await.expect("an answer");
    let LookUp::Found(found) = found else { panic!("{found:?}") };
    assert_eq!((&found.message_id, &found.to_follow), (&receipt.message_id, &receipt.to_follow));
    assert!(!place.stage.double.visible(standard::NEWS)[0].crossposted, "that is the deliverer's to do");
    for step in ["crosspost", "crosspost", "thread", "thread"] {
        assert_eq!(bot.follow_up(&content, &to, &receipt, step).await, Ok(()), "once or twice");
    }
    assert!(place.stage.double.visible(standard::NEWS)[0].crossposted);
    let unknown = bot.follow_up(&content, &to, &receipt, "pin").await;
    assert!(matches!(unknown, Err(PostError::Refused(_))), "{unknown:?}");
}

fn forum(name: &str, tags: &[&str]) -> PostContent {
    with("so", json!({"forum": {"name": name, "tags": tags}}))
}

#[tokio::test]
async fn a_forum_post_has_tags_and_no_key_and_can_be_looked_up() {
    let place = BotUnderTest::default();
    let bot = place.connect();
    let (to, key) = (to("discord", &standard::FORUM.0.to_string()), IdempotencyKey::stored("1".into()));
    let content = forum("How?", &["help"]);
    assert_eq!(bot.capabilities(&content, &to).idempotent_for, None);
    assert!(bot.capabilities(&PostContent::text("x"), &to).idempotent_for.is_some());
    let look_up = || async { bot.look_up(&content, &to, &key, &doubt(&place)).await.expect("an answer") };
    assert_eq!(look_up().await, LookUp::Absent);
    let receipt = post(&*bot, standard::FORUM, &content, "1").await.expect("posted");
    let link = format!("https://discord.com/channels/{}/{1}/{1}", standard::GUILD.0, receipt.message_id);
    assert_eq!(receipt.link, Some(link));
    post(&*bot, standard::FORUM, &forum("Why?", &[]), "2").await.expect("posted");
    let other_text = with("else", json!({"forum": {"name": "How?"}}));
    post(&*bot, standard::FORUM, &other_text, "3").await.expect("posted");
    assert_eq!(look_up().await, LookUp::Found(Receipt { recovered: true, ..receipt }));
    post(&*bot, standard::FORUM, &content, "4").await.expect("posted");
    assert!(matches!(look_up().await, LookUp::Unknowable { reason } if reason.contains("several")));
}

#[tokio::test]
async fn a_forum_post_that_its_channel_can_not_take_is_refused_by_field() {
    let place = BotUnderTest::default();
    let bot = place.connect();
    for (channel, tags, wrong) in [
        (standard::FORUM, &["hepl"][..], "forum.tags: unknown tag \"hepl\": did you mean \"help\"?"),
        (standard::GENERAL, &[], "forum is set, but the channel is neither"),
    ] {
        let error = post(&*bot, channel, &forum("How?", tags), "1").await.expect_err("refused");
        assert!(matches!(&error, PostError::Refused(reason) if reason.contains(wrong)), "{error:?}");
    }
    assert_eq!((place.stage.double.all_visible().len(), place.stage.double.invalid_requests()), (0, 0));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_field_and_limit_before_it_is_sent() {
    let place = BotUnderTest::default();
    let (bot, to) = (place.connect(), place.destination());
    let long = |count| "x".repeat(count);
    for (extra, wrong) in [
        (json!({"embeds": [{"titel": "x"}]}), "extras.discord.embeds[0].titel unknown field `titel`"),
        (json!({"silent": 3}), "extras.discord.silent invalid type"),
        (json!({"embeds": [{"title": long(257)}]}), "embeds[0].title has 257 characters (allowed: 256)"),
        (
            json!({"poll": {"question": long(301), "answers": ["a"]}}),
            "poll.question has 301 characters (allowed: 300)",
        ),
        (
            json!({"links": vec![json!({"label": "a", "url": "https://a.b"}); 26]}),
            "links has 26 entries (allowed: 25)",
        ),
        (json!({"content": long(2001)}), "content has 2001 characters (allowed: 2000)"),
        (json!({"forum": {"name": long(101)}}), "forum.name has 101 characters (allowed: 100)"),
        (json!({"thread": {"name": ""}}), "thread.name is empty (allowed: 1 to 100 characters)"),
        (json!({"sender": {"name": "x"}}), "sender is possible only through a webhook"),
    ] {
        let content = with("text", extra);
        let Err(PostError::Refused(reason)) = bot.validate(&content, &to) else { panic!("{content:?}") };
        assert!(reason.contains(wrong), "{reason}");
        assert_eq!(post(&*bot, standard::GENERAL, &content, "1").await, Err(PostError::Refused(reason)));
    }
    let huge = with("text", json!({"files": [{"name": "a", "data": {"text": long((10 << 20) + 1)}}]}));
    let error = post(&*bot, standard::GENERAL, &huge, "1").await.expect_err("refused");
    assert!(error.to_string().contains("too large (allowed: 10485760 bytes)"), "{error}");
    assert_eq!(place.stage.double.requests().len(), 0);
}

#[tokio::test]
async fn hostile_texts_ping_nobody_wherever_they_stand() {
    let place = BotUnderTest::default();
    let bot = place.connect();
    let ping = format!("@everyone @here <@{}> <@&{}>", standard::OWNER.0, standard::MENTIONABLE_ROLE.0);
    for (number, text) in
        [ping.clone(), ping.replace('@', "@\u{200b}"), format!("\u{202e}{ping}")].iter().enumerate()
    {
        let extra = json!({"embeds": [{"title": text, "description": text}], "silent": true});
        post(&*bot, standard::GENERAL, &with(text, extra), &number.to_string()).await.expect("posted");
        let forum = with(text, json!({"forum": {"name": text}}));
        post(&*bot, standard::FORUM, &forum, &number.to_string()).await.expect("posted");
    }
    let visible = place.stage.double.all_visible();
    assert_eq!(visible.len(), 6);
    assert!(visible.iter().all(|visible| visible.pings == Pings::default()));
    let marks = format!("{ping}{}", "\u{301}".repeat(100_000));
    for content in [PostContent::text(&marks), with("x", json!({"embeds": [{"description": marks}]}))] {
        let error = post(&*bot, standard::GENERAL, &content, "m").await.expect_err("refused");
        assert!(
            matches!(&error, PostError::Refused(reason) if reason.contains("characters (allowed: ")),
            "{error}"
        );
    }
}

/// It may have been sent since the place was made, and nothing else is known of it.
fn doubt(place: &BotUnderTest) -> Doubt {
    Doubt { first_sent: place.before(), taken: Vec::new(), rivals: Vec::new() }
}
