use super::*;
use botticelli_actor::discord::Page;
use botticelli_actor::discord::error::Class;
use botticelli_actor::discord::message::{
    Embed, EmbedPicture, File, FileData, ForumPost, Link, Mentions, NewThread, Poll, Reply, Sender,
};
use botticelli_actor::discord::permissions::{Permissions, Who};
use botticelli_actor::discord::types::ChannelKind;
use botticelli_server::post::PostError;
use discord_double::{Change, Pings};

#[tokio::test]
async fn a_message_with_everything_arrives() {
    let stage = Stage::new();
    let bot = stage.bot();
    let first = say(&bot, standard::GENERAL, "first", "1").await.expect("posted");
    let message = Message {
        embeds: vec![Embed {
            title: Some("Title".into()),
            image: Some(EmbedPicture { url: "attachment://table.csv".into() }),
            ..Embed::default()
        }],
        files: vec![File {
            name: "table.csv".into(),
            data: FileData::Text("a,b\n1,2\n".into()),
            description: Some("a table".into()),
            spoiler: false,
        }],
        links: vec![Link { label: "Read".into(), url: "https://example.org/".into() }],
        reply: Some(Reply { message_id: first.id, must_exist: true }),
        silent: true,
        ..Message::text("with everything")
    };
    let posted = send(&bot, standard::GENERAL, &message, "2").await.expect("posted");
    assert!(posted.is_like(&message));
    let visible = &stage.double.visible(standard::GENERAL)[1];
    assert_eq!((visible.message_id.0, visible.content.as_str()), (posted.id.0, "with everything"));
    let seen = &visible.message;
    assert_eq!(seen["embeds"][0]["title"], "Title");
    assert_eq!(seen["attachments"][0]["filename"], "table.csv");
    assert_eq!(seen["attachments"][0]["description"], "a table");
    assert_eq!(seen["components"][0]["components"][0]["url"], "https://example.org/");
    assert_eq!(seen["message_reference"]["message_id"], first.id.to_string());
    assert_eq!(seen["flags"], 1 << 12);
    assert_eq!(stage.double.requests()[1].files, ["table.csv"]);
    assert_eq!(stage.double.invalid_requests(), 0);
}

#[tokio::test]
async fn the_same_nonce_makes_one_message_also_with_files_and_after_a_restart() {
    let stage = Stage::new();
    let file =
        File { name: "a.txt".into(), data: FileData::Text("a".into()), description: None, spoiler: true };
    let message = Message { files: vec![file], ..Message::text("once") };
    let first = send(&stage.bot(), standard::GENERAL, &message, "key").await.expect("posted");
    let again = send(&stage.bot(), standard::GENERAL, &message, "key").await.expect("posted");
    assert_eq!(first.id, again.id);
    let changed = say(&stage.bot(), standard::GENERAL, "changed", "key").await.expect("posted");
    assert_eq!((changed.id, changed.content.as_str()), (first.id, "once"));
    assert!(!changed.is_like(&Message::text("changed")), "one can see that it is the older message");
    assert_eq!(stage.texts(standard::GENERAL), ["once"]);
}

#[tokio::test]
async fn nobody_is_pinged_unless_the_message_says_so_on_any_route() {
    let stage = Stage::new();
    let bot = stage.bot();
    let text = format!("@everyone @here <@{}> <@&{}>", standard::OWNER.0, standard::MENTIONABLE_ROLE.0);
    let message = Message::text(&text);
    let posted = send(&bot, standard::GENERAL, &message, "1").await.expect("posted");
    bot.edit_message(at(standard::GENERAL), posted.id, &message).await.expect("edited");
    let post = ForumPost { name: "q".into(), tags: vec![], auto_archive_minutes: None };
    let in_forum = Message { forum: Some(post), ..message.clone() };
    bot.create_forum_post(at(standard::FORUM), &in_forum, vec![], &[]).await.expect("posted");
    let webhook = stage.webhook(standard::WEBHOOK, standard::WEBHOOK_TOKEN);
    webhook.execute(&message, vec![]).await.expect("posted");
    let visible = stage.double.all_visible();
    assert_eq!(visible.len(), 3);
    for visible in visible {
        assert_eq!(visible.pings, Pings::default(), "{}", visible.content);
        assert!(visible.edit_pings.iter().all(|pings| *pings == Pings::default()));
    }
    let mentions = Mentions { users: vec![at(standard::OWNER)], ..Mentions::default() };
    send(&bot, standard::RANDOM, &Message { mentions, ..message }, "2").await.expect("posted");
    assert_eq!(stage.double.visible(standard::RANDOM)[0].pings.users.len(), 1, "asked for");
}

#[tokio::test]
async fn what_is_so_already_is_fine() {
    let stage = Stage::new();
    let bot = stage.bot();
    let permissions = discord_double::Permissions::POSTER | discord_double::Permissions::PIN_MESSAGES;
    let (guild, role) = (standard::GUILD, standard::BOT_ROLE);
    stage.double.change(Change::RolePermissions { guild, role, permissions }).expect("it is there");
    let posted = say(&bot, standard::NEWS, "news", "1").await.expect("posted");
    let (news, id) = (at(standard::NEWS), posted.id);
    let thread = NewThread { name: "talk".into(), auto_archive_minutes: Some(60) };
    for _ in 0..2 {
        bot.crosspost(news, id).await.expect("published");
        assert_eq!(bot.start_thread(news, id, &thread).await.expect("started"), id);
        bot.pin(news, id).await.expect("pinned");
    }
    assert!(stage.double.visible(standard::NEWS)[0].crossposted);
    assert_eq!(bot.pins(news).await.expect("pins").len(), 1);
    bot.unpin(news, id).await.expect("unpinned");
    let changed = bot.edit_message(news, id, &Message::text("newer")).await.expect("edited");
    assert_eq!(changed.content, "newer");
    for _ in 0..2 {
        bot.delete_message(news, id).await.expect("deleted");
    }
    assert_eq!(stage.texts(standard::NEWS), [""; 0]);
}

#[tokio::test]
async fn forums_polls_and_webhooks_take_posts() {
    let stage = Stage::new();
    let bot = stage.bot();
    let forum = bot.channel(at(standard::FORUM)).await.expect("a forum");
    assert_eq!(forum.tag_ids(&["HELP".into()]), Ok(vec![at(standard::TAG)]));
    let unknown = forum.tag_ids(&["hepl".into()]).expect_err("unknown");
    assert!(unknown.contains("did you mean \"help\"?"), "{unknown}");
    let post = ForumPost { name: "How?".into(), tags: vec!["help".into()], auto_archive_minutes: None };
    let message = Message { forum: Some(post), ..Message::text("so") };
    let thread =
        bot.create_forum_post(forum.id, &message, vec![], &[at(standard::TAG)]).await.expect("posted");
    assert_eq!(thread.kind, ChannelKind::PublicThread);
    assert_eq!(thread.message.expect("its first message").content, "so");
    let poll =
        Poll { question: "Tea?".into(), answers: vec!["yes".into(), "no".into()], hours: 1, multiple: false };
    let poll = Message { poll: Some(poll), ..Message::default() };
    let posted = send(&bot, standard::GENERAL, &poll, "p").await.expect("posted");
    assert!(posted.is_like(&poll));
    bot.expire_poll(at(standard::GENERAL), posted.id).await.expect("ended");
    let sender = Sender { name: Some("Herald".into()), avatar_url: None };
    let links = vec![Link { label: "Go".into(), url: "https://example.org/".into() }];
    let message = Message { sender: Some(sender), links, ..Message::text("by webhook") };
    let webhook = stage.webhook(standard::WEBHOOK, standard::WEBHOOK_TOKEN);
    let posted = webhook.execute(&message, vec![]).await.expect("posted");
    assert_eq!(posted.webhook_id, Some(webhook.id()));
    let post = ForumPost { name: "By webhook".into(), tags: vec![], auto_archive_minutes: None };
    let message = Message { forum: Some(post), ..Message::text("a question") };
    let webhook = stage.webhook(standard::FORUM_WEBHOOK, standard::FORUM_WEBHOOK_TOKEN);
    webhook.execute(&message, vec![]).await.expect("posted");
    assert_eq!(stage.double.invalid_requests(), 0);
}

#[tokio::test]
async fn what_there_is_can_be_read() {
    let stage = Stage::new();
    let bot = stage.bot();
    let guild = at(standard::GUILD);
    let me = bot.current_user().await.expect("me");
    assert_eq!(me.id, at(standard::BOT));
    let channels = bot.guild_channels(guild).await.expect("channels");
    let general = channels.iter().find(|channel| channel.id == at(standard::GENERAL)).expect("there");
    let (info, roles) = (bot.guild(guild).await.expect("guild"), bot.roles(guild).await.expect("roles"));
    let member = bot.member(guild, me.id).await.expect("member");
    let who = Who {
        guild,
        owner: info.owner_id,
        roles: &roles,
        user: me.id,
        member: &member,
        now: stage.clock.now(),
    };
    let here = who.in_channel(general, false);
    assert_eq!(
        here.0,
        stage.double.permissions(standard::BOT, standard::GENERAL).0,
        "as the double has them"
    );
    assert!(here.has(Permissions::SEND_MESSAGES));
    let threads = bot.active_threads(guild).await.expect("threads");
    assert_eq!(threads.threads[0].id, at(standard::THREAD));
    let archived = bot.archived_threads(general.id, Some(stage.clock.now())).await.expect("threads");
    assert_eq!(archived.threads, []);
    let mut ids = Vec::new();
    for number in 0..3 {
        let key = number.to_string();
        ids.push(say(&bot, standard::GENERAL, &key, &key).await.expect("posted").id);
    }
    let mut found: Vec<_> = bot
        .history(general.id, Page::After(ids[0]))
        .await
        .expect("history")
        .iter()
        .map(|message| message.id)
        .collect();
    found.sort_unstable();
    assert_eq!(found, ids[1..]);
    assert_eq!(bot.history(general.id, Page::Newest).await.expect("history")[0].id, ids[2]);
    assert_eq!(bot.history(general.id, Page::Before(ids[1])).await.expect("history").len(), 1);
    assert_eq!(bot.message(general.id, ids[1]).await.expect("a message").content, "1");
    assert!(bot.skew().num_seconds().abs() <= 1, "one clock: {}", bot.skew());
}

#[tokio::test]
async fn a_refusal_names_the_field_the_cause_and_what_helps() {
    let stage = Stage::new();
    let bot = stage.bot();
    let too_long = Message::text("x".repeat(2001));
    let error =
        bot.create_message(at(standard::GENERAL), &too_long, vec![], &nonce("1")).await.expect_err("refused");
    let answer = error.answer().expect("an answer");
    assert_eq!((answer.class, answer.code), (Class::Message, 50035));
    assert_eq!(answer.fields[0].path, "content");
    let error = say(&bot, standard::FORUM, "x", "2").await.expect_err("refused");
    assert_eq!(error.class(), Some(Class::Destination));
    assert!(error.to_string().contains("forum"), "{error}");
    stage.double.change(Change::DeleteChannel { channel: standard::RANDOM }).expect("it was there");
    let error = say(&bot, standard::RANDOM, "x", "3").await.expect_err("refused");
    assert_eq!(
        (error.class(), error.answer().map(|answer| answer.code)),
        (Some(Class::Destination), Some(10003))
    );
}

#[tokio::test]
async fn what_was_posted_and_deleted_is_not_posted_again() {
    let stage = Stage::new();
    let bot = stage.bot();
    let posted = say(&bot, standard::GENERAL, "x", "1").await.expect("posted");
    bot.delete_message(at(standard::GENERAL), posted.id).await.expect("deleted");
    let error = say(&bot, standard::GENERAL, "x", "1").await.expect_err("refused");
    assert_eq!(error.class(), Some(Class::Removed));
    assert!(matches!(PostError::from(error.clone()), PostError::Removed(_)));
    assert!(error.to_string().contains("somebody deleted it"), "{error}");
}
