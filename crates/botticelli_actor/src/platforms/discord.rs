//! Discord, as the configuration sets it up.

use super::{Finding, Intended, Platforms, SetupError};
use crate::config::{BotPost, DiscordSettings, LoadedConfig, Problem};
use crate::discord::limits::{LimitSettings, Limiter};
use crate::discord::message::FileLimits;
use crate::discord::platform::{BotSettings, Webhooks};
use crate::discord::preflight::{self, Check, Weight};
use crate::discord::{HttpSettings, Message, Rest, WebhookRest};
use crate::discord_server::DiscordContentPoster;
use botticelli_server::clock::Clock;
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Enters `discord` where there is a token, and `discord_webhook` where there are webhooks. They share their limits:
/// the ban of an address concerns all of them.
pub(super) fn register(
    platforms: &mut Platforms,
    config: &LoadedConfig,
    clock: &Arc<dyn Clock>,
) -> Result<(), SetupError> {
    let limiter = Limiter::new(LimitSettings::default(), clock.clone());
    if let Some(rest) = client(config, &limiter, clock)? {
        let poster = DiscordContentPoster::new(rest.clone(), clock.clone(), bot_settings(&config.discord));
        platforms.register("discord", Arc::new(poster));
        platforms.bot = Some(rest);
    }
    let webhooks = webhooks(&config.discord, &limiter, clock)?;
    if platforms.bot.is_some() || !webhooks.is_empty() {
        platforms.limiter = Some(limiter);
    }
    if !webhooks.is_empty() {
        platforms.register("discord_webhook", Arc::new(Webhooks::new(webhooks, FileLimits::default())));
    }
    Ok(())
}

/// What stands in the way of what `posts` will do, found out without posting, and by no request that counts towards a
/// ban.
pub(super) async fn preflight(rest: &Rest, posts: &[Intended], now: DateTime<Utc>) -> Vec<Finding> {
    let mut checks: Vec<Check> = Vec::new();
    // For each check the posts that it concerns.
    let mut concerned: Vec<Vec<&BotPost>> = Vec::new();
    for Intended { post, example } in posts {
        let Ok(channel) = post.channel.parse() else { continue };
        let message = Message::try_from(example).unwrap_or_else(|_| Message::text("text"));
        let check = Check { channel, message };
        match checks.iter().position(|known| *known == check) {
            Some(known) => concerned[known].push(post),
            None => {
                checks.push(check);
                concerned.push(vec![post]);
            }
        }
    }
    if checks.is_empty() {
        return Vec::new();
    }
    match preflight::preflight(rest, &checks, now).await {
        Ok(report) => report.findings.iter().flat_map(|finding| told(finding, &concerned)).collect(),
        Err(error) => {
            let problem = Problem::with("Discord", format!("it can't be asked: {error}"));
            let problem = problem.hint("is the network there, and `[discord] api_base_url` right?");
            vec![Finding { problem, blocks: true }]
        }
    }
}

/// The finding at each line that it concerns.
fn told(finding: &preflight::Finding, concerned: &[Vec<&BotPost>]) -> Vec<Finding> {
    let blocks = finding.weight == Weight::Problem;
    let Some(posts) = finding.check.and_then(|check| concerned.get(check)) else {
        let problem = Problem::with("Discord", finding.what.clone()).hint(finding.fix.clone());
        return vec![Finding { problem, blocks }];
    };
    let at = |post: &&BotPost| {
        let message = format!("channel {}: {}", post.channel, finding.what);
        Finding { problem: post.problem(message, finding.fix.clone()), blocks }
    };
    posts.iter().map(at).collect()
}

fn client(
    config: &LoadedConfig,
    limiter: &Arc<Limiter>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Rest>, SetupError> {
    let rest = |token| Rest::new(&http(&config.discord), token, limiter.clone(), clock.clone());
    config.discord_token.as_ref().map(rest).transpose().map_err(|error| set_up(&error))
}

fn webhooks(
    settings: &DiscordSettings,
    limiter: &Arc<Limiter>,
    clock: &Arc<dyn Clock>,
) -> Result<BTreeMap<String, WebhookRest>, SetupError> {
    let http = http(settings);
    let webhook = |(name, url): (&String, _)| {
        let webhook = WebhookRest::new(&http, url, limiter.clone(), clock.clone());
        webhook.map(|webhook| (name.clone(), webhook)).map_err(|error| set_up(&error))
    };
    settings.webhooks.0.iter().map(webhook).collect()
}

fn set_up(error: &impl std::fmt::Display) -> SetupError {
    SetupError(format!("Discord can't be set up: {error}"))
}

fn http(settings: &DiscordSettings) -> HttpSettings {
    HttpSettings {
        api_base_url: settings.api_base_url.clone(),
        about_url: settings.about_url.clone(),
        connect_timeout: settings.connect_timeout,
        total_timeout: settings.request_timeout,
    }
}

fn bot_settings(settings: &DiscordSettings) -> BotSettings {
    BotSettings {
        nonce_window: settings.nonce_window,
        history_grace: settings.history_grace,
        files: FileLimits::default(),
    }
}
