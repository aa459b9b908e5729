//! Content from people who mean no good, the whole way: no unrequested ping, no panic, a clear refusal.

use super::way::{Way, discord, item, webhook};
use super::*;
use botticelli_server::outbox::PostState;
use discord_double::Pings;
use serde_json::json;

const FORMATTER: &str = "[[skills]]\nname = 'content_formatter'\n";

/// An item's text wherever a text can stand.
const EVERYWHERE: &str = "[[skills]]\nname = 'discord_message'\n\
     embeds = [{ title = '{{ text }}', description = '{{ text }}', author = { name = '{{ text }}' }, \
     footer = { text = '{{ text }}' }, fields = [{ name = '{{ text }}', value = '{{ text }}' }] }]\n\
     files = [{ name = 'a.txt', text = '{{ text }}', description = '{{ text }}' }]\n\
     links = [{ label = '{{ text }}', url = 'https://example.org/' }]\n";

fn pings() -> Vec<String> {
    let ping =
        format!("@everyone @here <@{0}> <@!{0}> <@&{1}>", standard::OWNER.0, standard::MENTIONABLE_ROLE.0);
    let with = |change: &dyn Fn(char) -> String| ping.chars().map(change).collect::<String>();
    vec![
        with(&|letter| letter.to_string()),
        with(&|letter| if letter == '@' { "@\u{200b}".into() } else { letter.into() }),
        with(&|letter| format!("{letter}\u{200d}")),
        with(&|letter| if letter == '@' { "\u{ff20}".into() } else { letter.into() }),
        format!("\u{202e}{ping}\u{2066}"),
        format!("`{ping}\u{7}` \\{ping}"),
        "<\u{200b}@everyone> \u{feff}@everyone\u{34f}".to_owned(),
    ]
}

#[tokio::test]
async fn no_text_pings_anybody_wherever_it_stands() {
    let forum = "[[skills]]\nname = 'discord_message'\nforum = { name = '{{ text[:90] }}' }";
    let thread = "[[skills]]\nname = 'discord_message'\nthread = { name = '{{ text[:90] }}' }";
    let poll = "[[skills]]\nname = 'discord_message'\n\
         poll = { question = '{{ text }}', answers = ['{{ text[:50] }}'] }";
    for text in pings() {
        let way = Way::new().await;
        let (general, item) = (discord(standard::GENERAL), item(&text));
        for (skills, to) in [
            ("", vec![general.clone(), webhook()]),
            (&format!("{FORMATTER}{EVERYWHERE}"), vec![general.clone(), webhook()]),
            (forum, vec![discord(standard::FORUM)]),
            (thread, vec![general.clone()]),
            (poll, vec![general.clone()]),
        ] {
            // What Discord would not take is refused; what it takes pings nobody.
            if let Err(refused) = way.say(&item, skills, &to).await {
                assert!(refused.contains("characters (allowed: "), "{refused}");
            }
        }
        let visible = way.stage.double.all_visible();
        assert!(visible.len() >= 3, "{text:?}");
        for message in visible {
            assert_eq!(message.pings, Pings::default(), "{text:?}: {message:?}");
        }
        assert!(way.posts().await.iter().all(|post| post.state == PostState::Posted), "{text:?}");
    }
}

#[tokio::test]
async fn who_is_to_be_pinged_is_and_nobody_else() {
    let way = Way::new().await;
    let skills = format!(
        "{FORMATTER}template = '<@{}> {{{{ text }}}}'\n[[skills]]\nname = 'discord_message'\n\
         mentions = {{ users = ['{}'] }}",
        standard::OWNER.0,
        standard::OWNER.0
    );
    let text = format!("@everyone <@&{}> <@{}>", standard::MENTIONABLE_ROLE.0, standard::BOT.0);
    way.say(&item(&text), &skills, &[discord(standard::GENERAL)]).await.expect("posted");
    let pings = way.stage.double.all_visible().remove(0).pings;
    let owner_only = Pings { users: [standard::OWNER].into_iter().collect(), ..Pings::default() };
    assert_eq!(pings, owner_only);
}

#[tokio::test]
async fn a_hundred_thousand_combining_marks_are_refused_wherever_they_stand() {
    let way = Way::new().await;
    let marks = format!("@everyone{}", "\u{301}".repeat(100_000));
    let discord_message = |settings: &str| {
        format!("{FORMATTER}template = 'short'\n[[skills]]\nname = 'discord_message'\n{settings}")
    };
    for (skills, wrong) in [
        (String::new(), "the text has a length of 100009 (allowed: 2000)"),
        (FORMATTER.to_owned(), "one character of length 100001 can't be cut"),
        (
            discord_message("embeds = [{ description = '{{ text }}' }]"),
            "embeds[0].description has 100009 characters (allowed: 4096)",
        ),
        (
            discord_message("forum = { name = '{{ text }}' }"),
            "forum.name has 100009 characters (allowed: 100)",
        ),
        (
            discord_message("thread = { name = '{{ text }}' }"),
            "thread.name has 100009 characters (allowed: 100)",
        ),
        (
            discord_message("links = [{ label = '{{ text }}', url = 'https://example.org/' }]"),
            "links[0].label has 100009 characters (allowed: 80)",
        ),
    ] {
        let error =
            way.say(&item(&marks), &skills, &[discord(standard::GENERAL)]).await.expect_err("refused");
        assert!(error.contains(wrong), "{error}");
        assert!(error.len() < 2000, "an error of {} bytes", error.len());
    }
    // Cut, it is harmless.
    let cut = format!("{FORMATTER}overflow = 'truncate'");
    way.say(&item(&marks), &cut, &[discord(standard::GENERAL), webhook()]).await.expect("posted");
    let visible = way.stage.double.all_visible();
    assert_eq!(visible.len(), 2);
    assert!(visible.iter().all(|message| message.pings == Pings::default() && message.content.len() < 100));
    assert_eq!(way.stage.double.invalid_requests(), 0);
}

#[tokio::test]
async fn lone_surrogates_in_json_are_refused_with_their_place_and_pairs_are_fine() {
    let way = Way::new().await;
    let to = [discord(standard::GENERAL)];
    for bad in [r"\ud800", r"\udc00", r"\ud800\ud800", r"\ud83dx", r"@everyone \udfff"] {
        for (items, place) in [
            (format!("{{\"text\": \"fine\"}}\n{{\"text\": \"{bad}\"}}"), "items.jsonl: line 2: "),
            (format!("[{{\"text\": \"fine\"}},\n {{\"text\": \"{bad}\"}}]"), "items.json: "),
        ] {
            let error = way.say(&items, FORMATTER, &to).await.expect_err("refused");
            assert!(error.contains(place) && error.contains("column"), "{error}");
        }
    }
    assert_eq!(way.stage.double.requests().len(), 0);
    way.say(r#"[{"text": "\ud83d\ude00"}]"#, FORMATTER, &to).await.expect("posted");
    assert_eq!(way.stage.texts(standard::GENERAL), ["😀"]);
}

#[tokio::test]
async fn a_nul_is_refused_when_it_is_recorded_and_by_name() {
    let way = Way::new().await;
    let error =
        way.say(&item("a\u{0}b"), FORMATTER, &[discord(standard::GENERAL)]).await.expect_err("refused");
    assert!(error.contains("NUL"), "{error}");
    assert_eq!((way.posts().await.len(), way.stage.double.requests().len()), (0, 0));
}

#[tokio::test]
async fn huge_embeds_and_many_of_them_are_refused_by_field() {
    let way = Way::new().await;
    let huge = json!({ "text": "x".repeat(1 << 20) }).to_string();
    for (settings, wrong) in [
        ("embeds = [{ title = '{{ text }}' }]", "embeds[0].title has 1048576 characters (allowed: 256)"),
        ("embeds = [{ title = 'a', description = '{{ text * 2 }}' }]", "embeds[0].description"),
        (
            "embeds = [{ fields = [{ name = 'N', value = '{{ text }}' }] }]",
            "embeds[0].fields[0].value has 1048576 characters (allowed: 1024)",
        ),
    ] {
        let skills =
            format!("{FORMATTER}template = 'short'\n[[skills]]\nname = 'discord_message'\n{settings}");
        let error = way.say(&huge, &skills, &[discord(standard::GENERAL)]).await.expect_err("refused");
        assert!(error.contains(wrong) && error.len() < 2000, "{error}");
    }
    assert_eq!((way.posts().await.len(), way.stage.double.requests().len()), (0, 0));
}

#[tokio::test]
async fn a_text_of_nothing_visible_ends_in_a_refusal_that_is_seen() {
    let way = Way::new().await;
    for (text, wrong) in [("", "empty"), (" \n\t", "empty"), ("\u{2003}\u{a0}", "empty")] {
        let item = json!({ "text": text, "note": "@everyone" }).to_string();
        let skills = format!("{FORMATTER}template = '{{{{ text }}}}'");
        let error = way.say(&item, &skills, &[discord(standard::GENERAL)]).await.expect_err("refused");
        assert!(error.contains(wrong), "{error}");
    }
    assert_eq!(way.stage.double.requests().len(), 0);
}
