//! Other people's clients, unmodified: the double is not shaped around our own.

use discord_double::standard;
use discord_double::{
    Change, Double, Id, Limits, Options, Overwrite, OverwriteTarget, Permissions, Settings,
};

fn start(limits: Limits) -> Double {
    let settings = Settings { limits, ..Settings::default() };
    let double = Double::start(Options { settings, ..Options::default() }).expect("it starts");
    double.world(|world| {
        world.overwrite(
            standard::GENERAL,
            Overwrite {
                target: OverwriteTarget::Role(standard::GUILD),
                allow: Permissions::PIN_MESSAGES | Permissions::MANAGE_WEBHOOKS,
                deny: Permissions::NONE,
            },
        );
    });
    double
}

fn deny_everything(double: &Double) {
    let target = OverwriteTarget::Role(standard::GUILD);
    let overwrite = Overwrite { target, allow: Permissions::NONE, deny: Permissions::ALL };
    double.change(Change::Overwrite { channel: standard::GENERAL, overwrite }).expect("it is there");
}

fn contents(double: &Double, channel: Id) -> Vec<String> {
    double.visible(channel).into_iter().map(|visible| visible.content).collect()
}

mod twilight {
    use super::*;
    use std::future::IntoFuture;
    use twilight_http::Client;
    use twilight_http::api_error::ApiError;
    use twilight_http::error::ErrorType;
    use twilight_model::channel::ChannelType;
    use twilight_model::channel::message::MessageFlags;
    use twilight_model::channel::message::embed::Embed;
    use twilight_model::http::attachment::Attachment;
    use twilight_model::id::Id as TwilightId;

    fn client(double: &Double) -> Client {
        let proxy = double.address().to_string();
        Client::builder().proxy(proxy, true).token(standard::TOKEN.into()).build()
    }

    fn id<T>(id: Id) -> TwilightId<T> {
        TwilightId::new(id.0)
    }

    async fn read<T, R>(request: R) -> T
    where
        R: IntoFuture<Output = Result<twilight_http::Response<T>, twilight_http::Error>>,
        T: serde::de::DeserializeOwned + Unpin,
    {
        request.await.expect("a good reply").model().await.expect("a body that twilight understands")
    }

    fn embed() -> Embed {
        Embed {
            author: None,
            color: Some(0xFF_0000),
            description: Some("a description".into()),
            flags: None,
            fields: Vec::new(),
            footer: None,
            image: None,
            kind: "rich".into(),
            provider: None,
            thumbnail: None,
            timestamp: None,
            title: Some("a title".into()),
            url: None,
            video: None,
        }
    }

    #[tokio::test]
    async fn it_posts_edits_reads_and_deletes() {
        let double = start(Limits::default());
        let client = client(&double);
        let channel = id(standard::GENERAL);
        let (files, embeds) = ([Attachment::from_bytes("a.txt".into(), b"hello".to_vec(), 0)], [embed()]);
        let post =
            client.create_message(channel).content("hello").embeds(&embeds).attachments(&files).nonce(7);
        let message = read(post).await;
        assert_eq!(
            (message.content.as_str(), message.embeds.len(), message.attachments.len()),
            ("hello", 1, 1)
        );
        assert_eq!(message.author.id, id(standard::BOT));
        let edited = read(client.update_message(channel, message.id).content(Some("bye"))).await;
        assert!(edited.edited_timestamp.is_some());
        let page = client.channel_messages(channel).await.expect("a page").models().await.expect("messages");
        assert_eq!((page.len(), page[0].content.as_str()), (1, "bye"));
        assert_eq!(contents(&double, standard::GENERAL), ["bye"]);
        client.create_pin(channel, message.id).await.expect("it may pin");
        client.delete_message(channel, message.id).await.expect("it may delete its own");
        assert!(double.visible(standard::GENERAL).is_empty());
    }

    #[tokio::test]
    async fn it_crossposts_starts_threads_and_posts_in_forums() {
        let double = start(Limits::default());
        let client = client(&double);
        let news = read(client.create_message(id(standard::NEWS)).content("news")).await;
        let crossposted = read(client.crosspost_message(id(standard::NEWS), news.id)).await;
        assert!(crossposted.flags.is_some_and(|flags| flags.contains(MessageFlags::CROSSPOSTED)));
        assert!(double.visible(standard::NEWS)[0].crossposted);
        let thread = read(client.create_thread_from_message(id(standard::NEWS), news.id, "a thread")).await;
        assert_eq!((thread.id.get(), thread.kind), (news.id.get(), ChannelType::AnnouncementThread));
        let post = client.create_forum_thread(id(standard::FORUM), "a post");
        let post = read(post.applied_tags(&[id(standard::TAG)]).message().content("hello")).await;
        assert_eq!(post.message.content, "hello");
        assert_eq!(contents(&double, Id(post.channel.id.get())), ["hello"]);
        let active = read(client.active_threads(id(standard::GUILD))).await;
        assert_eq!(active.threads.len(), 3);
        let archived = read(client.public_archived_threads(id(standard::FORUM))).await;
        assert!(archived.threads.is_empty());
    }

    #[tokio::test]
    async fn it_executes_webhooks_and_reads_guilds() {
        let double = start(Limits::default());
        let client = client(&double);
        let webhook = client.execute_webhook(id(standard::WEBHOOK), standard::WEBHOOK_TOKEN);
        let message = read(webhook.content("hook").wait()).await;
        assert_eq!(message.webhook_id, Some(id(standard::WEBHOOK)));
        let silent = client.execute_webhook(id(standard::WEBHOOK), standard::WEBHOOK_TOKEN).content("silent");
        assert_eq!(silent.await.expect("a good reply").status().get(), 204);
        assert_eq!(contents(&double, standard::GENERAL), ["hook", "silent"]);
        assert_eq!(read(client.webhook(id(standard::WEBHOOK))).await.id, id(standard::WEBHOOK));
        assert_eq!(read(client.current_user()).await.id, id(standard::BOT));
        assert_eq!(read(client.guild(id(standard::GUILD))).await.roles.len(), 3);
        let roles = client.roles(id(standard::GUILD)).await.expect("roles").models().await.expect("roles");
        assert_eq!(roles.len(), 3);
        let member = read(client.guild_member(id(standard::GUILD), id(standard::BOT))).await;
        assert_eq!(member.roles, [id(standard::BOT_ROLE)]);
        for channel in double.world(|world| world.channels.clone()).into_values() {
            let shown = read(client.channel(id(channel.id))).await;
            assert_eq!(u8::from(shown.kind), channel.kind.number(), "{}", channel.name);
        }
    }

    #[tokio::test]
    async fn it_understands_errors() {
        let double = start(Limits::default());
        let client = client(&double);
        deny_everything(&double);
        let error = client.create_message(id(standard::GENERAL)).content("x").await.expect_err("not allowed");
        let ErrorType::Response { error: ApiError::General(error), status, .. } = error.kind() else {
            panic!("{error:?}")
        };
        assert_eq!((error.code, status.get()), (50001, 403));
    }

    #[tokio::test]
    async fn its_rate_limiter_learns_the_limits_and_everything_arrives_in_order() {
        let double = start(Limits::default().faster(50));
        let client = client(&double);
        let wanted: Vec<_> = (0..12).map(|n| n.to_string()).collect();
        for content in &wanted {
            client
                .create_message(id(standard::GENERAL))
                .content(content)
                .await
                .expect("it waits and sends again");
        }
        assert_eq!(contents(&double, standard::GENERAL), wanted);
    }
}

mod serenity_client {
    use super::*;
    use serenity::builder::{
        CreateAttachment, CreateEmbed, CreateForumPost, CreateMessage, CreatePoll, CreatePollAnswer,
        CreateThread, EditMessage, ExecuteWebhook, GetMessages,
    };
    use serenity::http::{Http, HttpBuilder};
    use serenity::model::channel::MessageFlags;
    use serenity::model::id::{ChannelId, GuildId, WebhookId};
    use std::time::Duration;

    fn client(double: &Double) -> Http {
        // Its HTTP client wants TLS even for plain HTTP; whoever was first has installed the same one.
        drop(rustls::crypto::ring::default_provider().install_default());
        HttpBuilder::new(standard::TOKEN)
            .proxy(format!("http://{}", double.address()))
            .ratelimiter_disabled(true)
            .build()
    }

    const GENERAL: ChannelId = ChannelId::new(standard::GENERAL.0);

    #[tokio::test]
    async fn it_posts_edits_reads_and_deletes() {
        let double = start(Limits::default());
        let http = client(&double);
        let message = CreateMessage::new()
            .content("hello")
            .embed(CreateEmbed::new().title("a title"))
            .nonce(serenity::model::channel::Nonce::String("n".into()))
            .enforce_nonce(true);
        let file = CreateAttachment::bytes(b"hello".as_slice(), "a.txt");
        let mut first = GENERAL.send_files(&http, [file], message.clone()).await.expect("a message");
        let again = GENERAL.send_message(&http, message).await.expect("the same message");
        assert_eq!((first.id, first.attachments.len()), (again.id, 1));
        first.edit(&http, EditMessage::new().content("bye")).await.expect("an edit");
        let page = GENERAL.messages(&http, GetMessages::new().limit(5)).await.expect("a page");
        assert_eq!((page.len(), page[0].content.as_str()), (1, "bye"));
        assert_eq!(contents(&double, standard::GENERAL), ["bye"]);
        first.delete(&http).await.expect("it may delete its own");
        assert!(double.visible(standard::GENERAL).is_empty());
    }

    #[tokio::test]
    async fn it_crossposts_polls_starts_threads_and_posts_in_forums() {
        let double = start(Limits::off());
        let http = client(&double);
        let news = ChannelId::new(standard::NEWS.0);
        let message = news.say(&http, "news").await.expect("a message");
        let crossposted = message.crosspost(&http).await.expect("it is crossposted");
        assert!(crossposted.flags.is_some_and(|flags| flags.contains(MessageFlags::CROSSPOSTED)));
        let thread = news.create_thread_from_message(&http, message.id, CreateThread::new("a thread")).await;
        assert_eq!(thread.expect("a thread").id.get(), message.id.get());
        let poll = CreatePoll::new()
            .question("why?")
            .answers(vec![CreatePollAnswer::new().text("so")])
            .duration(Duration::from_secs(3600));
        let poll = GENERAL.send_message(&http, CreateMessage::new().poll(poll)).await.expect("a poll");
        assert_eq!(poll.poll.as_ref().map(|poll| poll.answers.len()), Some(1));
        let ended = poll.end_poll(&http).await.expect("it ends").poll.expect("it is a poll");
        assert!(ended.results.is_some_and(|results| results.is_finalized));
        let post = CreateForumPost::new("a post", CreateMessage::new().content("hello"));
        let post = ChannelId::new(standard::FORUM.0).create_forum_post(&http, post).await.expect("a post");
        assert_eq!(contents(&double, Id(post.id.get())), ["hello"]);
    }

    #[tokio::test]
    async fn it_executes_webhooks_and_reads_guilds() {
        let double = start(Limits::off());
        let http = client(&double);
        let webhook =
            http.get_webhook_with_token(WebhookId::new(standard::WEBHOOK.0), standard::WEBHOOK_TOKEN).await;
        let webhook = webhook.expect("a webhook");
        let message = ExecuteWebhook::new().content("hook").username("Bob");
        let message =
            webhook.execute(&http, true, message).await.expect("it is sent").expect("it was waited for");
        assert_eq!(message.author.name, "Bob");
        let silent = webhook.execute(&http, false, ExecuteWebhook::new().content("silent")).await;
        assert!(silent.expect("it is sent").is_none());
        assert_eq!(contents(&double, standard::GENERAL), ["hook", "silent"]);
        assert_eq!(http.get_current_user().await.expect("the bot").id.get(), standard::BOT.0);
        let guild = GuildId::new(standard::GUILD.0);
        assert_eq!(http.get_guild(guild).await.expect("a guild").roles.len(), 3);
        assert_eq!(http.get_channels(guild).await.expect("channels").len(), 6);
        let member = http.get_member(guild, standard::BOT.0.into()).await.expect("a member");
        assert_eq!(member.roles.len(), 1);
        let active = guild.get_active_threads(&http).await.expect("threads");
        assert_eq!(active.threads.len(), 1);
        let forum = http.get_channel(ChannelId::new(standard::FORUM.0)).await.expect("a forum");
        let tags = forum.guild().map(|forum| forum.available_tags.len());
        assert_eq!(tags, Some(2));
    }

    #[tokio::test]
    async fn it_understands_errors_and_limits() {
        let double = start(Limits::default());
        let http = client(&double);
        deny_everything(&double);
        let error = GENERAL.say(&http, "x").await.expect_err("not allowed");
        let serenity::Error::Http(serenity::http::HttpError::UnsuccessfulRequest(error)) = error else {
            panic!("{error:?}")
        };
        assert_eq!((error.error.code, error.status_code.as_u16()), (50001, 403));
        let channel = http.get_channel(ChannelId::new(standard::RANDOM.0)).await.expect("a channel");
        let slow = channel.guild().and_then(|channel| channel.rate_limit_per_user);
        assert_eq!(slow, Some(0));
    }
}
