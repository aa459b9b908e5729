use super::*;
use botticelli_actor::discord::message::{Embed, ForumPost, NewThread};
use botticelli_actor::discord::permissions::{Permissions, Who};
use botticelli_actor::discord::preflight::{Check, Finding, Weight, preflight};
use discord_double::{Change, Limits, Overwrite, OverwriteTarget};

const EVERYONE: OverwriteTarget = OverwriteTarget::Role(standard::GUILD);
const BOT_ROLE: OverwriteTarget = OverwriteTarget::Role(standard::BOT_ROLE);
const BOT: OverwriteTarget = OverwriteTarget::Member(standard::BOT);

fn unlimited() -> Stage {
    Stage::with(Settings { limits: Limits::off(), ..Settings::default() })
}

impl Stage {
    fn overwrite(&self, channel: Id, target: OverwriteTarget, allow: u64, deny: u64) {
        let [allow, deny] = [allow, deny].map(discord_double::Permissions);
        self.double.world(|world| world.overwrite(channel, Overwrite { target, allow, deny }));
    }

    async fn findings(&self, channel: Id, message: Message) -> Vec<Finding> {
        let check = Check { channel: at(channel), message };
        preflight(&self.bot(), &[check], self.clock.now()).await.expect("an answer").findings
    }

    /// One finding, as text.
    async fn finding(&self, channel: Id, message: Message) -> (Weight, String) {
        let findings = self.findings(channel, message).await;
        assert_eq!(findings.len(), 1, "{findings:?}");
        (findings[0].weight, findings[0].to_string())
    }
}

fn text() -> Message {
    Message::text("x")
}

fn question(tags: &[&str]) -> Message {
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    Message { forum: Some(ForumPost { name: "q".into(), tags, auto_archive_minutes: None }), ..text() }
}

/// The double works them out by code of its own.
#[tokio::test]
async fn permissions_are_worked_out_as_discord_does() {
    let stage = unlimited();
    let (bot, guild, me) = (stage.bot(), at(standard::GUILD), at(standard::BOT));
    let (info, roles) = (bot.guild(guild).await.expect("guild"), bot.roles(guild).await.expect("roles"));
    let member = bot.member(guild, me).await.expect("member");
    let who =
        Who { guild, owner: info.owner_id, roles: &roles, user: me, member: &member, now: stage.clock.now() };
    let bits = Permissions::VIEW_CHANNEL
        | Permissions::SEND_MESSAGES
        | Permissions::SEND_MESSAGES_IN_THREADS
        | Permissions::EMBED_LINKS
        | Permissions::ATTACH_FILES
        | Permissions::READ_MESSAGE_HISTORY
        | Permissions::MENTION_EVERYONE
        | Permissions::SEND_POLLS;
    let mut random = 7u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 8) & bits.0
    };
    let mut seen = 0;
    for _ in 0..150 {
        for target in [EVERYONE, BOT_ROLE, BOT] {
            let (allow, deny) = (next(), next() & next());
            stage.overwrite(standard::GENERAL, target, allow, deny & !allow);
        }
        let channels = bot.guild_channels(guild).await.expect("channels");
        let Some(general) = channels.iter().find(|channel| channel.id == at(standard::GENERAL)) else {
            continue;
        };
        seen += 1;
        for (place, in_thread) in [(standard::GENERAL, false), (standard::THREAD, true)] {
            let theirs = Permissions(stage.double.permissions(standard::BOT, place).0) & bits;
            assert_eq!(
                who.in_channel(general, in_thread) & bits,
                theirs,
                "{general:?} in thread: {in_thread}"
            );
        }
    }
    assert!(seen > 20, "{seen}");
}

#[tokio::test]
async fn where_all_is_well_nothing_is_found() {
    let stage = unlimited();
    let thread = Some(NewThread { name: "t".into(), auto_archive_minutes: None });
    let checks = [
        (standard::GENERAL, text()),
        (standard::THREAD, text()),
        (standard::NEWS, Message { crosspost: true, thread, ..text() }),
        (standard::FORUM, question(&["help"])),
    ];
    let checks = checks.map(|(channel, message)| Check { channel: at(channel), message });
    let report = preflight(&stage.bot(), &checks, stage.clock.now()).await.expect("an answer");
    assert_eq!(report.findings, []);
    assert_eq!(report.guilds.len(), checks.len());
    assert!(report.guilds.values().all(|guild| *guild == at(standard::GUILD)));
    assert_eq!(stage.double.invalid_requests(), 0);
    assert!(stage.double.all_visible().is_empty());
}

#[tokio::test]
async fn what_stands_in_the_way_is_named_with_what_to_change_at_no_cost() {
    let stage = unlimited();
    let problem = |text: &str| (Weight::Problem, text.to_owned());
    let found = stage.finding(standard::FORUM, text()).await;
    let channel = standard::FORUM.0;
    let title = "is a forum, which takes no plain messages; give its posts a title: `forum = { name = \"…\" }` in the actor's \
                 discord_message";
    assert_eq!(found, problem(&format!("channel {channel}: #questions {title}")));
    assert!(stage.finding(standard::GENERAL, question(&[])).await.1.contains("#general is no forum"));
    let crosspost = Message { crosspost: true, ..text() };
    assert!(stage.finding(standard::GENERAL, crosspost).await.1.contains("no announcement channel"));
    assert!(stage.finding(standard::FORUM, question(&["hepl"])).await.1.contains("did you mean \"help\"?"));
    assert!(stage.finding(standard::FORUM, question(&["solved"])).await.1.contains("only moderators"));
    stage.double.change(Change::RequireTag { forum: standard::FORUM, required: true }).expect("a forum");
    assert!(stage.finding(standard::FORUM, question(&[])).await.1.contains("requires a tag"));

    stage.overwrite(standard::RANDOM, BOT_ROLE, 0, Permissions::EMBED_LINKS.0);
    assert_eq!(stage.findings(standard::RANDOM, text()).await, []);
    let embeds = vec![Embed { title: Some("T".into()), ..Embed::default() }];
    let found = stage.finding(standard::RANDOM, Message { embeds, ..text() }).await;
    let (channel, fix) =
        (standard::RANDOM.0, "in the settings of #random, under Permissions, allow the bot's role");
    let what = "the bot lacks in #random: Embed Links";
    assert_eq!(found, problem(&format!("channel {channel}: {what}; {fix}: Embed Links")));
    stage.overwrite(standard::RANDOM, BOT_ROLE, 0, Permissions::READ_MESSAGE_HISTORY.0);
    let (weight, found) = stage.finding(standard::RANDOM, text()).await;
    assert_eq!(weight, Weight::Warning);
    assert!(found.contains("waits for a person"), "{found}");

    stage.overwrite(standard::GENERAL, BOT, 0, Permissions::VIEW_CHANNEL.0);
    assert!(stage.finding(standard::GENERAL, text()).await.1.contains("can't see it"));
    stage.double.change(Change::DeleteChannel { channel: standard::NEWS }).expect("it was there");
    assert!(stage.finding(standard::NEWS, text()).await.1.contains("does not exist"));
    assert_eq!(stage.double.invalid_requests(), 0);
    assert!(stage.double.all_visible().is_empty());
}

#[tokio::test]
async fn archived_and_locked_threads_are_found() {
    let stage = unlimited();
    let thread = |archived, locked| {
        let change = Change::Thread { thread: standard::THREAD, archived, locked };
        stage.double.change(change).expect("it is there");
    };
    thread(true, false);
    assert_eq!(stage.finding(standard::THREAD, text()).await.0, Weight::Warning);
    for archived in [false, true] {
        thread(archived, true);
        let (weight, found) = stage.finding(standard::THREAD, text()).await;
        assert_eq!(weight, Weight::Problem);
        assert!(found.contains("locked"), "{found}");
    }
    assert_eq!(stage.double.invalid_requests(), 0);
}

#[tokio::test]
async fn a_token_that_is_refused_is_found_with_one_request() {
    let stage = unlimited();
    stage.double.change(Change::RevokeToken { token: standard::TOKEN.into() }).expect("it was valid");
    assert!(stage.finding(standard::GENERAL, text()).await.1.contains("Discord refuses the token"));
    assert_eq!(stage.double.requests().len(), 1);
}
