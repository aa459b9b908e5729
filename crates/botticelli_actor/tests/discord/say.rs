//! What an actor's file can make appear on Discord.

use super::way::{Way, discord, item, webhook};
use super::*;
use botticelli_server::outbox::PostState;
use discord_double::{Change, Overwrite, OverwriteTarget, Permissions, Pings};
use serde_json::json;

const FORMATTER: &str = "[[skills]]\nname = 'content_formatter'\n";

fn with(settings: &str) -> String {
    format!("{FORMATTER}[[skills]]\nname = 'discord_message'\n{settings}")
}

#[tokio::test]
async fn each_destination_splits_a_text_by_its_own_limit() {
    let way = Way::new().await;
    let text = "word ".repeat(1000);
    let to = [discord(standard::GENERAL), way.file(), webhook(), discord(standard::RANDOM)];
    way.say(&item(&text), FORMATTER, &to).await.expect("posted");
    assert_eq!(way.filed(), [text.trim()], "a file has no limit");
    let parts = way.stage.texts(standard::RANDOM);
    let lengths: Vec<_> = parts.iter().map(|part| part.chars().count()).collect();
    assert_eq!(lengths, [1999, 1999, 999]);
    assert_eq!(parts.join(" "), text.trim());
    let mut general = way.stage.texts(standard::GENERAL);
    general.sort();
    let mut twice = [parts.clone(), parts].concat();
    twice.sort();
    assert_eq!(general, twice, "the bot's and the webhook's");
    assert!(way.posts().await.iter().all(|post| post.state == PostState::Posted));
}

#[tokio::test]
async fn a_text_is_counted_as_its_destination_counts_and_a_limit_of_the_actor_s_own_holds_everywhere() {
    let way = Way::new().await;
    let to = [discord(standard::GENERAL), way.file()];
    // 4000 units of UTF-16, 8000 bytes.
    let faces = "😀".repeat(2000);
    way.say(&item(&faces), FORMATTER, &to).await.expect("posted");
    assert_eq!((way.stage.texts(standard::GENERAL), way.filed()), (vec![faces.clone()], vec![faces]));
    let way = Way::new().await;
    let to = [discord(standard::GENERAL), way.file()];
    let short = format!("{FORMATTER}max_length = 8");
    way.say(&item("one two three"), &short, &to).await.expect("posted");
    assert_eq!(way.stage.texts(standard::GENERAL), ["one two", "three"]);
    assert_eq!(way.filed(), ["one two", "three"]);
    let cut = format!("{FORMATTER}overflow = 'truncate'\nadd_hashtags = ['#art']");
    let way = Way::new().await;
    let to = [way.file(), discord(standard::GENERAL)];
    let text = "word ".repeat(1000);
    way.say(&item(&text), &cut, &to).await.expect("posted");
    assert_eq!(way.filed(), [format!("{}\n\n#art", text.trim())]);
    let [there] = <[String; 1]>::try_from(way.stage.texts(standard::GENERAL)).expect("one message");
    assert!(there.ends_with("…\n\n#art") && there.chars().count() <= 2000, "{there}");
}

#[tokio::test]
async fn a_text_too_long_for_one_destination_is_refused_with_field_and_limit_and_nothing_is_sent() {
    let way = Way::new().await;
    let to = [way.file(), discord(standard::GENERAL)];
    let long = "x".repeat(2001);
    let fail = format!("{FORMATTER}overflow = 'fail'");
    for (skills, wrong) in [
        ("", "the text has a length of 2001 (allowed: 2000)"),
        (&fail, "the text has a length of 2001 (allowed: 2000)"),
        (&with("forum = { name = 'x' }"), "the text has 2 parts, and a post in a forum has only one"),
    ] {
        let error = way.say(&item(&long), skills, &to).await.expect_err("refused");
        assert!(error.contains(wrong), "{error}");
    }
    assert_eq!((way.posts().await.len(), way.filed().len()), (0, 0));
    assert_eq!(way.stage.double.requests().len(), 0);
}

#[tokio::test]
async fn a_draft_that_does_not_fit_discord_is_refused_with_field_and_limit_and_nothing_is_sent() {
    let way = Way::new().await;
    std::fs::write(way.folder.path().join("big"), vec![0; (10 << 20) + 1]).expect("written");
    let long = "x".repeat(4100);
    let (text, words) = ("{{ text }}", "{{ text[:4000] }}");
    for (settings, wrong) in [
        (format!("embeds = [{{ title = '{text}' }}]"), "embeds[0].title has 4100 characters (allowed: 256)"),
        (
            format!("embeds = [{{ description = '{text}' }}]"),
            "embeds[0].description has 4100 characters (allowed: 4096)",
        ),
        (
            format!("embeds = [{{ description = '{words}' }}, {{ description = '{words}' }}]"),
            "characters together (allowed: 6000)",
        ),
        (
            format!("poll = {{ question = 'Tea?', answers = ['{text}'] }}"),
            "poll.answers[0] has 4100 characters (allowed: 55)",
        ),
        (
            format!("links = [{{ label = '{text}', url = 'https://a.b' }}]"),
            "links[0].label has 4100 characters (allowed: 80)",
        ),
        ("files = [{ path = '{{ file }}' }]".into(), "files[0] has 10485761 bytes (allowed: 10485760)"),
        (format!("thread = {{ name = '{text}' }}"), "thread.name has 4100 characters (allowed: 100)"),
        ("reply_to = '{{ file }}'".into(), "reply_to"),
        ("links = [{ label = 'x', url = '{{ file }}' }]".into(), "links[0].url is no URL of a page"),
    ] {
        let item = json!({ "text": long, "file": "big" }).to_string();
        let short = format!("{FORMATTER}template = 'short'\n{}", &with(&settings)[FORMATTER.len()..]);
        let error = way.say(&item, &short, &[discord(standard::GENERAL)]).await.expect_err("refused");
        assert!(error.contains(wrong), "{settings}\n{error}");
    }
    let sender = with("sender = { name = 'Herald' }");
    let error = way.say(&item("x"), &sender, &[discord(standard::GENERAL)]).await.expect_err("refused");
    assert!(error.contains("sender is possible only through a webhook"), "{error}");
    let reply = with("reply_to = '1'");
    let error = way.say(&item("x"), &reply, &[webhook()]).await.expect_err("refused");
    assert!(error.contains("reply is not possible through a webhook"), "{error}");
    assert_eq!((way.posts().await.len(), way.stage.double.requests().len()), (0, 0));
}

#[tokio::test]
async fn an_embed_files_links_and_a_reply_arrive_silently_with_the_first_part() {
    let way = Way::new().await;
    std::fs::write(way.folder.path().join("table.csv"), "a,b\n").expect("written");
    let first = say(&way.stage.bot(), standard::GENERAL, "first", "1").await.expect("posted");
    let settings = with(&format!(
        "silent = true\nreply_to = '{}'\n\
         embeds = [{{ title = '{{{{ title }}}}', color = '#ff0000', fields = [{{ name = 'N', value = 'V' }}] }}]\n\
         files = [{{ path = '{{{{ file }}}}', description = 'a table' }}, {{ name = 'n.txt', text = '{{{{ title }}}}' }}]\n\
         links = [{{ label = 'Read', url = 'https://example.org/{{{{ title }}}}' }}]",
        first.id
    ));
    let text = "word ".repeat(500);
    let item = json!({ "text": text, "title": "T", "file": "table.csv" }).to_string();
    way.say(&item, &settings, &[discord(standard::GENERAL), way.file()]).await.expect("posted");
    let visible = way.stage.double.visible(standard::GENERAL);
    let [_, head, tail] = visible.as_slice() else { panic!("{visible:?}") };
    let seen = &head.message;
    assert_eq!((&seen["embeds"][0]["title"], &seen["embeds"][0]["color"]), (&json!("T"), &json!(0xff0000)));
    assert_eq!(seen["attachments"][0]["filename"], "table.csv");
    assert_eq!(seen["attachments"][0]["description"], "a table");
    assert_eq!(seen["attachments"][1]["filename"], "n.txt");
    assert_eq!(seen["components"][0]["components"][0]["url"], "https://example.org/T");
    assert_eq!(seen["message_reference"]["message_id"], first.id.to_string());
    assert_eq!(
        (&seen["flags"], &tail.message["flags"]),
        (&json!(1 << 12), &json!(1 << 12)),
        "all are silent"
    );
    assert!(tail.message["embeds"].as_array().is_none_or(Vec::is_empty));
    assert_eq!(way.filed(), [text.trim()]);
}

#[tokio::test]
async fn a_poll_and_a_post_in_a_forum_arrive() {
    let way = Way::new().await;
    let poll = with("poll = { question = '{{ text }}', answers = ['yes', 'no'], hours = 2 }");
    way.say(&item("Tea?"), &poll, &[discord(standard::GENERAL)]).await.expect("posted");
    let seen = &way.stage.double.visible(standard::GENERAL)[0].message;
    assert_eq!(seen["poll"]["question"]["text"], "Tea?");
    let forum = with("forum = { name = '{{ text }}', tags = ['{{ tag }}'] }");
    let question = json!({ "text": "How?", "tag": "help" }).to_string();
    way.say(&question, &forum, &[discord(standard::FORUM)]).await.expect("posted");
    let posts = way.posts().await;
    let receipt = posts[1].receipt.as_ref().expect("a receipt");
    let thread = way.stage.bot().channel(receipt.message_id.parse().expect("an id")).await.expect("a thread");
    assert_eq!((thread.name.as_deref(), thread.parent_id), (Some("How?"), Some(at(standard::FORUM))));
    let tags = way.stage.double.world(|world| {
        world.channel(Id(thread.id.0)).map(|channel| channel.applied_tags.clone()).unwrap_or_default()
    });
    assert_eq!(tags, [standard::TAG]);
    let question = json!({ "text": "Why?", "tag": "hepl" }).to_string();
    way.say(&question, &forum, &[discord(standard::FORUM)]).await.expect("made");
    let refused = &way.posts().await[2];
    assert_eq!(refused.state, PostState::Failed);
    let reason = refused.reason.as_deref().unwrap_or_default();
    assert!(reason.contains("forum.tags: unknown tag \"hepl\": did you mean \"help\"?"), "{reason}");
    assert_eq!(way.stage.double.invalid_requests(), 0, "it was not sent");
}

#[tokio::test]
async fn a_webhook_speaks_under_the_name_that_it_is_given() {
    let way = Way::new().await;
    let settings = with(
        "sender = { name = '{{ who }}' }\nembeds = [{ description = '{{ text }}' }]\nhide_text = true\nsilent = true",
    );
    let item = json!({ "text": "news", "who": "Herald" }).to_string();
    way.say(&item, &settings, &[webhook()]).await.expect("posted");
    let [there] = <[_; 1]>::try_from(way.stage.double.all_visible()).expect("one message");
    assert_eq!((there.content.as_str(), &there.message["embeds"][0]["description"]), ("", &json!("news")));
    assert_eq!(there.message["author"]["username"], "Herald");
    assert_eq!((there.pings, &there.message["flags"]), (Pings::default(), &json!(1 << 12)));
}

#[tokio::test]
async fn destinations_of_one_task_have_states_of_their_own() {
    let way = Way::new().await;
    let overwrite = Overwrite {
        target: OverwriteTarget::Role(standard::BOT_ROLE),
        allow: Permissions::NONE,
        deny: Permissions::SEND_MESSAGES,
    };
    let change = Change::Overwrite { channel: standard::GENERAL, overwrite };
    way.stage.double.change(change).expect("it is there");
    let to = [discord(standard::GENERAL), discord(standard::RANDOM), way.file(), webhook()];
    way.say(&item("news"), FORMATTER, &to).await.expect("made");
    let posts = way.posts().await;
    let states: Vec<_> = posts.iter().map(|post| post.state).collect();
    let posted = PostState::Posted;
    assert_eq!(states, [PostState::Deferred, posted, posted, posted]);
    assert!(posts[0].reason.as_ref().is_some_and(|reason| reason.contains("the destination is paused")));
    assert_eq!((way.stage.texts(standard::RANDOM), way.filed()), (vec!["news".into()], vec!["news".into()]));
    assert_eq!(way.stage.double.invalid_requests(), 1);
}
