use super::*;
use async_trait::async_trait;
use botticelli_actor::deliverer::DeliverySettings;
use botticelli_actor::discord::platform::{BotSettings, LONGEST_REQUEST, Webhooks};
use botticelli_actor::discord_server::DiscordContentPoster;
use botticelli_server::post::{
    ContentPoster, Destination, Doubt, LookUp, Platform, PostContent, PostError, Receipt,
};
use botticelli_testkit::clock::ManualClock;
use botticelli_testkit::platform_suite;
use botticelli_testkit::platform_suite::PlatformUnderTest;
use chrono::{DateTime, TimeDelta, Utc};
use discord_double::{Change, Limits, Overwrite, OverwriteTarget, Permissions, What};

platform_suite!(bot, BotUnderTest::default());
platform_suite!(webhook, WebhookUnderTest::default());

/// A double without limits, whose clock goes on by five minutes whenever a process starts.
pub(super) struct BotUnderTest {
    pub(super) stage: Stage,
    clock: Arc<ManualClock>,
    before: DateTime<Utc>,
}

impl Default for BotUnderTest {
    fn default() -> Self {
        let clock = ManualClock::new();
        let mut settings = Settings { limits: Limits::off(), ..Settings::default() };
        settings.nonce.window_seconds = 1e6;
        let before = clock.now();
        let mut stage = Stage::on_clock(settings, clock.clone());
        // On a clock that stands still nothing would ever be allowed again.
        let no_limit = LimitSettings { global_per_second: u32::MAX, ..LimitSettings::default() };
        stage.limiter = Limiter::new(no_limit, clock.clone());
        Self { stage, clock, before }
    }
}

impl BotUnderTest {
    fn bot(&self) -> DiscordContentPoster {
        DiscordContentPoster::new(self.stage.bot(), self.clock.clone(), BotSettings::default())
    }

    pub(super) fn minutes(&self, minutes: i64) {
        self.clock.set(self.clock.now() + TimeDelta::minutes(minutes));
    }

    async fn look_up(&self, bot: &Platform, text: &str) -> LookUp<Receipt> {
        let (to, key) = (self.destination(), IdempotencyKey::stored("k".into()));
        bot.look_up(&content(text), &to, &key, &first_sent(self.before)).await.expect("an answer")
    }
}

pub(super) fn to(platform: &str, target: &str) -> Destination {
    Destination { platform: platform.into(), target: target.into() }
}

fn first_sent(at: DateTime<Utc>) -> Doubt {
    Doubt { first_sent: at, taken: Vec::new(), rivals: Vec::new() }
}

fn content(text: &str) -> PostContent {
    PostContent::text(text)
}

#[async_trait]
impl PlatformUnderTest for BotUnderTest {
    fn connect(&self) -> Arc<Platform> {
        self.minutes(5);
        Arc::new(self.bot())
    }

    fn destination(&self) -> Destination {
        to("discord", &standard::GENERAL.0.to_string())
    }

    async fn visible(&self) -> Vec<String> {
        self.stage.texts(standard::GENERAL)
    }

    fn refused(&self) -> Vec<(PostContent, Destination)> {
        let empty = ["", " \n\t"].map(|text| (content(text), self.destination()));
        let wrong = ["", "general", "0"].map(|target| (content("Hi"), to("discord", target)));
        empty.into_iter().chain(wrong).collect()
    }

    fn before(&self) -> DateTime<Utc> {
        self.before
    }
}

#[derive(Default)]
struct WebhookUnderTest(BotUnderTest);

#[async_trait]
impl PlatformUnderTest for WebhookUnderTest {
    fn connect(&self) -> Arc<Platform> {
        let webhook = self.0.stage.webhook(standard::WEBHOOK, standard::WEBHOOK_TOKEN);
        Arc::new(Webhooks::new([("herald".to_owned(), webhook)].into(), FileLimits::default()))
    }

    fn destination(&self) -> Destination {
        to("discord_webhook", "herald")
    }

    async fn visible(&self) -> Vec<String> {
        self.0.visible().await
    }

    fn refused(&self) -> Vec<(PostContent, Destination)> {
        vec![(content(""), self.destination()), (content("Hi"), to("discord_webhook", "hreald"))]
    }

    fn before(&self) -> DateTime<Utc> {
        self.0.before
    }
}

#[tokio::test]
async fn an_empty_history_proves_nothing_unless_the_bot_may_read_it() {
    let place = BotUnderTest::default();
    let bot = place.connect();
    assert_eq!(place.look_up(&*bot, "x").await, LookUp::Absent);
    let change = Change::Overwrite {
        channel: standard::GENERAL,
        overwrite: Overwrite {
            target: OverwriteTarget::Role(standard::BOT_ROLE),
            allow: Permissions::NONE,
            deny: Permissions::READ_MESSAGE_HISTORY,
        },
    };
    place.stage.double.change(change).expect("it is there");
    let LookUp::Unknowable { reason } = place.look_up(&*bot, "x").await else { panic!("it can't be known") };
    assert!(reason.contains("Read Message History"), "{reason}");
    assert_eq!(place.stage.double.invalid_requests(), 0);
}

#[tokio::test]
async fn a_look_up_finds_its_message_among_many_and_does_not_choose_between_two() {
    let place = BotUnderTest::default();
    let bot = place.connect();
    bot.post(&content("wanted"), &place.destination(), &IdempotencyKey::stored("w".into()))
        .await
        .expect("posted");
    for number in 0..230 {
        let key = IdempotencyKey::stored(format!("k{number}"));
        bot.post(&content(&number.to_string()), &place.destination(), &key).await.expect("posted");
    }
    assert!(matches!(place.look_up(&*bot, "wanted").await, LookUp::Found(_)));
    assert!(matches!(place.look_up(&*bot, "229").await, LookUp::Found(_)));
    bot.post(&content("wanted"), &place.destination(), &IdempotencyKey::stored("v".into()))
        .await
        .expect("posted");
    let LookUp::Unknowable { reason } = place.look_up(&*bot, "wanted").await else {
        panic!("two look like it")
    };
    assert!(reason.contains("several"), "{reason}");
}

#[tokio::test]
async fn a_look_up_leaves_out_the_messages_of_other_posts() {
    let place = BotUnderTest::default();
    let (bot, to) = (place.connect(), place.destination());
    let doubt = |taken: &[&Receipt]| Doubt {
        first_sent: place.before,
        taken: taken.iter().map(|receipt| receipt.message_id.clone()).collect(),
        rivals: Vec::new(),
    };
    let keys = ["a", "b"].map(|key| IdempotencyKey::stored(key.into()));
    let first = bot.post(&content("same"), &to, &keys[0]).await.expect("posted");
    let found = bot.look_up(&content("same"), &to, &keys[1], &doubt(&[&first])).await;
    assert_eq!(found, Ok(LookUp::Absent), "that is the other post");
    let second = bot.post(&content("same"), &to, &keys[1]).await.expect("posted");
    let found = bot.look_up(&content("same"), &to, &keys[1], &doubt(&[&first])).await;
    assert_eq!(found, Ok(LookUp::Found(Receipt { recovered: true, ..second })));
}

#[tokio::test]
async fn a_look_up_in_a_forum_leaves_out_other_posts_too() {
    let place = BotUnderTest::default();
    let (bot, to) = (place.connect(), to("discord", &standard::FORUM.0.to_string()));
    let mut same = content("same");
    same.extras = [("discord".to_owned(), serde_json::json!({"forum": {"name": "same"}}))].into();
    let keys = ["a", "b"].map(|key| IdempotencyKey::stored(key.into()));
    let first = bot.post(&same, &to, &keys[0]).await.expect("posted");
    let doubt = |taken: Vec<String>, rivals| Doubt { first_sent: place.before, taken, rivals };
    let not_the_first = doubt(vec![first.message_id.clone()], vec![]);
    assert_eq!(bot.look_up(&same, &to, &keys[1], &not_the_first).await, Ok(LookUp::Absent));
    let found = bot.look_up(&same, &to, &keys[0], &doubt(vec![], vec![content("same")])).await;
    assert_eq!(found, Ok(LookUp::Found(Receipt { recovered: true, ..first })), "that has no title");
    let found = bot.look_up(&same, &to, &keys[0], &doubt(vec![], vec![same.clone()])).await;
    assert!(matches!(found, Ok(LookUp::Unknowable { .. })), "{found:?}");
}

#[tokio::test]
async fn a_message_that_may_be_another_posts_tells_nothing() {
    let place = BotUnderTest::default();
    let (bot, to) = (place.connect(), place.destination());
    let keys = ["a", "b"].map(|key| IdempotencyKey::stored(key.into()));
    let first = bot.post(&content("same"), &to, &keys[0]).await.expect("posted");
    let doubt = |rival| Doubt { first_sent: place.before, taken: vec![], rivals: vec![content(rival)] };
    let found = bot.look_up(&content("same"), &to, &keys[1], &doubt("same")).await;
    let Ok(LookUp::Unknowable { reason }) = found else { panic!("{found:?}") };
    assert!(reason.contains(&first.message_id), "{reason}");
    let found = bot.look_up(&content("same"), &to, &keys[1], &doubt("another")).await;
    assert!(matches!(found, Ok(LookUp::Found(_))), "{found:?}");
    let found = bot.look_up(&content("absent"), &to, &keys[1], &doubt("absent")).await;
    assert_eq!(found, Ok(LookUp::Absent));
}

/// Or the deliverer would give a request up that still waits for its turn, or is on its way, and look for it too early.
#[test]
fn a_request_ends_by_itself_before_the_deliverer_gives_it_up() {
    let (deliverer, http) = (DeliverySettings::default(), HttpSettings::default());
    assert!(LimitSettings::default().patience + http.total_timeout < deliverer.request_timeout);
    assert!(deliverer.request_timeout <= LONGEST_REQUEST && deliverer.request_timeout < deliverer.lease);
    assert!(http.connect_timeout < http.total_timeout);
}

#[tokio::test]
async fn a_look_up_waits_until_the_history_can_be_trusted() {
    let place = BotUnderTest::default();
    let bot = place.bot();
    let (to, key) = (place.destination(), IdempotencyKey::stored("k".into()));
    let first_sent = first_sent(place.clock.now());
    let error = bot.look_up(&content("x"), &to, &key, &first_sent).await.expect_err("too early");
    assert!(
        matches!(error, PostError::NotSent { retry_after: Some(wait), .. } if wait == seconds(180)),
        "{error:?}"
    );
    place.minutes(4);
    assert_eq!(bot.look_up(&content("x"), &to, &key, &first_sent).await, Ok(LookUp::Absent));
    place.stage.double.next(What::FailBeforeCommit { status: 503 });
    let error = bot.look_up(&content("x"), &to, &key, &first_sent).await.expect_err("no answer");
    assert!(matches!(error, PostError::NotSent { .. }), "{error:?}");
}

#[tokio::test]
async fn a_receipt_has_a_link_when_the_server_is_known() {
    let place = BotUnderTest::default();
    let bot = place.bot();
    bot.learn(at(standard::GENERAL), at(standard::GUILD));
    let key = IdempotencyKey::stored("k".into());
    let receipt = bot.post(&content("x"), &place.destination(), &key).await.expect("posted");
    let (guild, channel) = (standard::GUILD.0, standard::GENERAL.0);
    let link = format!("https://discord.com/channels/{guild}/{channel}/{}", receipt.message_id);
    assert_eq!(receipt.link, Some(link));
}
