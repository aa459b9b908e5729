//! The Discord client against a Discord on loopback, through real sockets.

mod bad_luck;
mod chance;
mod content;
#[cfg(feature = "fail-points")]
mod crash_points;
mod follow_ups;
mod hostile;
mod judge;
mod limits;
mod platform;
mod posting;
mod preflight;
#[path = "../crash/server.rs"]
mod process;
mod say;
mod server;
mod storm;
mod way;

use botticelli_actor::clock::SystemClock;
use botticelli_actor::discord::limits::{LimitSettings, Limiter};
use botticelli_actor::discord::message::{FileLimits, Message, load};
use botticelli_actor::discord::types::PostedMessage;
use botticelli_actor::discord::{DiscordError, HttpSettings, Nonce, Rest, Snowflake, WebhookRest};
use botticelli_server::clock::Clock;
use botticelli_server::post::IdempotencyKey;
use discord_double::{Double, Id, Options, Settings, standard};
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;

/// A double, and how to reach it.
struct Stage {
    double: Double,
    clock: Arc<dyn Clock>,
    limiter: Arc<Limiter>,
    http: HttpSettings,
}

impl Stage {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        Self::on_clock(settings, Arc::new(SystemClock))
    }

    /// The double's clock is ours.
    fn on_clock(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        Self::seeded(settings, clock, 0)
    }

    fn seeded(settings: Settings, clock: Arc<dyn Clock>, seed: u64) -> Self {
        let follows = clock.clone();
        let clock_of_double = discord_double::Clock::following(move || follows.now());
        let options = Options { settings, clock: clock_of_double, seed, ..Options::default() };
        let double = Double::start(options).expect("a double");
        let http = HttpSettings { api_base_url: double.base_url(), ..HttpSettings::default() };
        let limiter = Limiter::new(LimitSettings::default(), clock.clone());
        Self { double, clock, limiter, http }
    }

    fn bot(&self) -> Rest {
        self.bot_with(standard::TOKEN)
    }

    fn bot_with(&self, token: &str) -> Rest {
        let token = SecretString::from(token.to_owned());
        Rest::new(&self.http, &token, self.limiter.clone(), self.clock.clone()).expect("a client")
    }

    fn webhook(&self, id: Id, token: &str) -> WebhookRest {
        let url = SecretString::from(format!("https://discord.com/api/webhooks/{}/{token}", id.0));
        WebhookRest::new(&self.http, &url, self.limiter.clone(), self.clock.clone()).expect("a client")
    }

    fn texts(&self, channel: Id) -> Vec<String> {
        self.double.visible(channel).into_iter().map(|visible| visible.content).collect()
    }
}

fn at(id: Id) -> Snowflake {
    Snowflake(id.0)
}

fn nonce(name: &str) -> Nonce {
    Nonce::of(&IdempotencyKey::stored(name.into()))
}

async fn send(bot: &Rest, channel: Id, message: &Message, key: &str) -> Result<PostedMessage, DiscordError> {
    message.validate(botticelli_actor::discord::message::Place::Channel).expect("it fits");
    let files = load(&message.files, FileLimits::default()).expect("files");
    bot.create_message(at(channel), message, files, &nonce(key)).await
}

async fn say(bot: &Rest, channel: Id, text: &str, key: &str) -> Result<PostedMessage, DiscordError> {
    send(bot, channel, &Message::text(text), key).await
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
