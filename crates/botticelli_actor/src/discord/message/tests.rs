use super::*;
use crate::discord::Nonce;
use botticelli_server::post::IdempotencyKey;
use serde_json::{Value, json};

fn nonce() -> Nonce {
    Nonce::of(&IdempotencyKey::stored("uuKrJlqg4wB-ciuAE50eMA".into()))
}

fn everything() -> Message {
    Message {
        content: "Hi".into(),
        mentions: Mentions { users: vec![Snowflake(7)], replied_user: true, ..Mentions::default() },
        embeds: vec![Embed {
            title: Some("T".into()),
            description: Some("D".into()),
            url: Some("https://example.org/".into()),
            timestamp: DateTime::from_timestamp(1_900_000_000, 0),
            color: Some(0xFF_8800),
            footer: Some(EmbedFooter { text: "F".into(), icon_url: None }),
            image: Some(EmbedPicture { url: "attachment://SPOILER_a.png".into() }),
            thumbnail: None,
            author: Some(EmbedAuthor { name: "A".into(), url: None, icon_url: None }),
            fields: vec![EmbedField { name: "N".into(), value: "V".into(), inline: true }],
        }],
        files: vec![File {
            name: "a.png".into(),
            data: FileData::Text("x".into()),
            description: Some("an x".into()),
            spoiler: true,
        }],
        poll: Some(Poll {
            question: "Q".into(),
            answers: vec!["1".into(), "2".into()],
            hours: 24,
            multiple: false,
        }),
        links: vec![Link { label: "Go".into(), url: "https://example.org/".into() }],
        reply: Some(Reply { message_id: Snowflake(5), must_exist: false }),
        silent: true,
        thread: Some(NewThread { name: "talk".into(), auto_archive_minutes: Some(60) }),
        crosspost: true,
        ..Message::default()
    }
}

#[test]
fn a_message_is_sent_as_discord_wants_it() {
    everything().validate(Place::Channel).expect("it fits");
    insta::assert_json_snapshot!(message_body(&everything(), &nonce()).json());
}

#[test]
fn the_stored_form_is_stable_and_strict() {
    let stored = serde_json::to_value(everything()).expect("JSON");
    insta::assert_json_snapshot!(stored);
    assert_eq!(serde_json::from_value::<Message>(stored).expect("a message"), everything());
    assert_eq!(serde_json::to_value(Message::text("Hi")).expect("JSON"), json!({"content": "Hi"}));
    for unknown in [
        json!({"contents": "Hi"}),
        json!({"embeds": [{"titel": "x"}]}),
        json!({"mentions": {"parse": ["everyone"]}}),
        json!({"files": [{"name": "a", "data": {"url": "https://example.org"}}]}),
        json!({"allowed_mentions": {}}),
    ] {
        assert!(serde_json::from_value::<Message>(unknown.clone()).is_err(), "{unknown}");
    }
}

/// Every body that can leave, for one message.
fn bodies(message: &Message) -> Vec<Value> {
    let post = ForumPost { name: "title".into(), tags: vec![], auto_archive_minutes: None };
    let forum = forum_body(message, &post, &[Snowflake(3)]);
    assert_eq!(forum.json().get("allowed_mentions"), None, "it stands in the message");
    vec![
        message_body(message, &nonce()).json().clone(),
        edit_body(message).json().clone(),
        webhook_body(message).json().clone(),
        forum.json()["message"].clone(),
    ]
}

#[test]
fn nobody_is_pinged_unless_the_message_says_so() {
    for body in bodies(&Message::text("@everyone <@1> <@&2>")) {
        assert_eq!(body["allowed_mentions"], json!({"parse": [], "replied_user": false}));
    }
    let mentions =
        Mentions { everyone: true, any_role: true, users: vec![Snowflake(1)], ..Mentions::default() };
    for body in bodies(&Message { mentions, ..Message::text("x") }) {
        let allowed = json!({"parse": ["everyone", "roles"], "users": ["1"], "replied_user": false});
        assert_eq!(body["allowed_mentions"], allowed);
    }
}

/// The fields that are refused.
fn refused(message: &Message, place: Place) -> Vec<String> {
    match message.validate(place) {
        Ok(()) => Vec::new(),
        Err(Problems(problems)) => problems.into_iter().map(|problem| problem.field).collect(),
    }
}

fn with(change: impl FnOnce(&mut Message)) -> Message {
    let mut message = Message::text("Hi");
    change(&mut message);
    message
}

fn embed(change: impl FnOnce(&mut Embed)) -> Message {
    let mut embed = Embed { title: Some("T".into()), ..Embed::default() };
    change(&mut embed);
    with(|message| message.embeds = vec![embed])
}

fn chars(count: usize) -> String {
    "é".repeat(count)
}

fn file(name: &str) -> File {
    File { name: name.into(), data: FileData::Text("x".into()), description: None, spoiler: false }
}

/// What is just allowed, and what is just too much, for each limit.
#[test]
fn each_limit_is_kept_to_the_character() {
    type Make = Box<dyn Fn(usize) -> Message>;
    let limits: Vec<(&str, usize, Make)> = vec![
        ("content", 2000, Box::new(|n| Message::text(chars(n)))),
        ("embeds", 10, Box::new(|n| with(|m| m.embeds = vec![embed(|_| ()).embeds[0].clone(); n]))),
        ("embeds[0].title", 256, Box::new(|n| embed(|e| e.title = Some(chars(n))))),
        ("embeds[0].description", 4096, Box::new(|n| embed(|e| e.description = Some(chars(n))))),
        (
            "embeds[0].footer.text",
            2048,
            Box::new(|n| embed(|e| e.footer = Some(EmbedFooter { text: chars(n), icon_url: None }))),
        ),
        (
            "embeds[0].author.name",
            256,
            Box::new(|n| {
                embed(|e| e.author = Some(EmbedAuthor { name: chars(n), url: None, icon_url: None }))
            }),
        ),
        ("embeds[0].fields", 25, Box::new(|n| embed(|e| e.fields = vec![field(1, 1); n]))),
        ("embeds[0].fields[0].name", 256, Box::new(|n| embed(|e| e.fields = vec![field(n, 1)]))),
        ("embeds[0].fields[0].value", 1024, Box::new(|n| embed(|e| e.fields = vec![field(1, n)]))),
        (
            "embeds[0].url",
            2048,
            Box::new(|n| embed(|e| e.url = Some(format!("https://a.b/{}", "x".repeat(n - 12))))),
        ),
        ("files", 10, Box::new(|n| with(|m| m.files = (0..n).map(|i| file(&format!("{i}"))).collect()))),
        (
            "files[0].description",
            1024,
            Box::new(|n| with(|m| m.files = vec![File { description: Some(chars(n)), ..file("a") }])),
        ),
        ("links", 25, Box::new(|n| with(|m| m.links = vec![link(1, 20); n]))),
        ("links[0].label", 80, Box::new(|n| with(|m| m.links = vec![link(n, 20)]))),
        ("links[0].url", 512, Box::new(|n| with(|m| m.links = vec![link(1, n)]))),
        ("poll.question", 300, Box::new(|n| poll(n, 2, 5, 24))),
        ("poll.answers", 10, Box::new(|n| poll(5, n, 5, 24))),
        ("poll.answers[0]", 55, Box::new(|n| poll(5, 1, n, 24))),
        ("poll.hours", 768, Box::new(|n| poll(5, 1, 5, n as u32))),
        ("mentions.users", 100, Box::new(|n| with(|m| m.mentions.users = vec![Snowflake(1); n]))),
        ("mentions.roles", 100, Box::new(|n| with(|m| m.mentions.roles = vec![Snowflake(1); n]))),
        ("forum.name", 100, Box::new(|n| forum(n, 1))),
        ("forum.tags", 5, Box::new(|n| forum(1, n))),
        (
            "thread.name",
            100,
            Box::new(|n| with(|m| m.thread = Some(NewThread { name: chars(n), auto_archive_minutes: None }))),
        ),
    ];
    for (field, limit, make) in limits {
        assert_eq!(refused(&make(limit), Place::Channel), Vec::<String>::new(), "{field} at {limit}");
        assert_eq!(refused(&make(limit + 1), Place::Channel), [field], "{field} at {}", limit + 1);
    }
    let sender = |n| with(|m| m.sender = Some(Sender { name: Some(chars(n)), avatar_url: None }));
    assert_eq!(refused(&sender(80), Place::Webhook), Vec::<String>::new());
    assert_eq!(refused(&sender(81), Place::Webhook), ["sender.name"]);
}

fn field(name: usize, value: usize) -> EmbedField {
    EmbedField { name: chars(name), value: chars(value), inline: false }
}

fn link(label: usize, url: usize) -> Link {
    Link { label: chars(label), url: format!("https://a.b/{}", "x".repeat(url - 12)) }
}

fn poll(question: usize, answers: usize, answer: usize, hours: u32) -> Message {
    let answers = vec![chars(answer); answers];
    with(|m| m.poll = Some(Poll { question: chars(question), answers, hours, multiple: false }))
}

fn forum(name: usize, tags: usize) -> Message {
    let tags = vec!["tag".to_owned(); tags];
    with(|m| m.forum = Some(ForumPost { name: chars(name), tags, auto_archive_minutes: None }))
}

#[test]
fn all_embeds_together_have_a_limit_too_and_white_space_around_does_not_count() {
    let of = |last: usize| {
        with(|m| {
            let text =
                |count| Embed { description: Some(format!("  {}\n", chars(count))), ..Embed::default() };
            m.embeds = vec![text(3000), text(2000), text(last)];
        })
    };
    assert_eq!(refused(&of(1000), Place::Channel), Vec::<String>::new());
    assert_eq!(
        of(1001).validate(Place::Channel).expect_err("too long").to_string(),
        "embeds have 6001 characters together (allowed: 6000)"
    );
}

#[test]
fn what_does_not_go_together_is_refused() {
    let cases: Vec<(Message, Place, &[&str])> = vec![
        (Message::default(), Place::Channel, &["content"]),
        (Message::text(" \n\t"), Place::Channel, &["content"]),
        (embed(|e| *e = Embed::default()), Place::Channel, &["embeds[0]"]),
        (embed(|e| e.title = Some(" ".into())), Place::Channel, &["embeds[0].title"]),
        (embed(|e| e.color = Some(0x100_0000)), Place::Channel, &["embeds[0].color"]),
        (embed(|e| e.url = Some("javascript:alert(1)".into())), Place::Channel, &["embeds[0].url"]),
        (
            embed(|e| e.image = Some(EmbedPicture { url: "attachment://a.png".into() })),
            Place::Channel,
            &["embeds[0].image.url"],
        ),
        (with(|m| m.files = vec![file("a"), file("a")]), Place::Channel, &["files[1].name"]),
        (with(|m| m.files = vec![file("../a")]), Place::Channel, &["files[0].name"]),
        (Message { suppress_embeds: true, ..embed(|_| ()) }, Place::Channel, &["suppress_embeds"]),
        (poll(5, 0, 5, 24), Place::Channel, &["poll.answers"]),
        (poll(5, 1, 5, 0), Place::Channel, &["poll.hours"]),
        (
            with(|m| {
                m.mentions = Mentions { any_user: true, users: vec![Snowflake(1)], ..Mentions::default() }
            }),
            Place::Channel,
            &["mentions.users"],
        ),
        (
            with(|m| m.thread = Some(NewThread { name: "t".into(), auto_archive_minutes: Some(61) })),
            Place::Channel,
            &["thread.auto_archive_minutes"],
        ),
        (with(|m| m.sender = Some(Sender::default())), Place::Channel, &["sender"]),
        (
            with(|m| {
                m.sender = Some(Sender { name: Some("My Discord".into()), avatar_url: Some("x".into()) });
            }),
            Place::Webhook,
            &["sender.name", "sender.avatar_url"],
        ),
        (
            Message { embeds: vec![], files: vec![], ..everything() },
            Place::Webhook,
            &["reply", "thread", "crosspost"],
        ),
        (
            Message { forum: forum(1, 0).forum, embeds: vec![], ..everything() },
            Place::Channel,
            &["poll", "reply", "thread", "crosspost"],
        ),
    ];
    for (message, place, fields) in cases {
        assert_eq!(refused(&message, place), fields, "{message:?}");
    }
}

#[test]
fn an_edit_changes_text_embeds_and_buttons_only() {
    let edit = Message { links: everything().links, ..embed(|_| ()) };
    edit.validate_edit().expect("it can be changed");
    let body = edit_body(&Message::text("new"));
    assert_eq!(body.json()["embeds"], json!([]), "what is left out is taken away");
    let Err(Problems(problems)) = everything().validate_edit() else { panic!("it can't be changed") };
    let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["files", "poll", "reply", "silent", "thread", "crosspost"]);
}

#[test]
fn files_are_read_up_to_their_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.bin");
    std::fs::write(&path, [0, 159, 146, 150]).expect("written");
    let on_disk = |path: &std::path::Path| File { data: FileData::Path(path.into()), ..file("a.bin") };
    let limits = |each, together| FileLimits { each, together };
    let loaded = load(&[on_disk(&path), file("b")], limits(4, 5)).expect("they fit");
    assert_eq!(loaded[0], LoadedFile { name: "a.bin".into(), bytes: vec![0, 159, 146, 150] });
    assert_eq!(loaded[1].bytes, b"x");
    let reason = |files: &[File], limits| load(files, limits).expect_err("refused").to_string();
    assert_eq!(reason(&[on_disk(&path)], limits(3, 9)), "files[0] \"a.bin\" is too large (allowed: 3 bytes)");
    let two = [on_disk(&path), file("b")];
    assert_eq!(reason(&two, limits(4, 4)), "files[1] together the files are too large (allowed: 4 bytes)");
    assert!(reason(&[on_disk(folder.path())], limits(4, 4)).ends_with("is a directory"));
    assert!(reason(&[on_disk(&folder.path().join("none"))], limits(4, 4)).contains("can't read"));
}
