//! Requests in vain: each fault script with each client, all at the same time, for as long as Discord counts them.

use super::clients::Client;
use super::{Offer, milliseconds, offers, place, send};
use discord_double::{
    Change, Double, Fault, Id, Limits, Overwrite, OverwriteTarget, Permissions, Rate, Settings, What,
    standard,
};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// So many channels get ten posts a second.
const CHANNELS: usize = 20;
const BETWEEN: usize = 100;

#[derive(Debug, Clone, Copy)]
enum Script {
    /// Nothing goes wrong.
    Calm,
    /// The bot may not write in one channel.
    Forbidden,
    /// The token is revoked after a while.
    Revoked,
    /// For a third of the time Discord takes only one request in twenty seconds of the token.
    GlobalLimit,
    /// Cloudflare bans the address after a while, for five minutes, and does not say for how long.
    Banned,
    /// The headers promise five requests in five seconds, and the third is refused.
    EarlyRefusals,
    /// After a while a channel takes two messages in five seconds instead of five.
    LimitsShrink,
    /// One answer in thirty is lost or wrong, although the message is there.
    LostAnswers,
}

const SCRIPTS: [(Script, &str); 8] = [
    (Script::Calm, "calm"),
    (Script::Forbidden, "forbidden_channel"),
    (Script::Revoked, "revoked_token"),
    (Script::GlobalLimit, "global_limit"),
    (Script::Banned, "banned_address"),
    (Script::EarlyRefusals, "early_refusals"),
    (Script::LimitsShrink, "limits_shrink"),
    (Script::LostAnswers, "lost_answers"),
];

pub(super) async fn run(length: Duration) {
    let runs = SCRIPTS.iter().flat_map(|script| Client::ALL.map(|client| run_one(*script, client, length)));
    futures::future::join_all(runs).await;
}

async fn run_one((script, name): (Script, &str), client: Client, length: Duration) {
    let (double, channels) = place(CHANNELS, script.settings());
    let double = Arc::new(double);
    script.prepare(&double, channels[0]);
    let count = usize::try_from(length.as_millis()).expect("small") / BETWEEN;
    let offers = offers(&channels, count, |number| milliseconds(number * BETWEEN));
    let changes = tokio::spawn(script.go_on(double.clone(), length));
    send(client, &double, &offers, length + Duration::from_secs(10)).await;
    changes.abort();
    tell(name, client, &double, &offers, length);
}

impl Script {
    fn settings(self) -> Settings {
        let mut settings = Settings::default();
        match self {
            Self::EarlyRefusals => {
                let lying = Rate { limit: 5, window_ms: 5_000, early: 3 };
                settings.limits.buckets.insert("message_create".into(), lying);
            }
            Self::Banned => settings.ban.ban_seconds = 300,
            Self::Calm
            | Self::Forbidden
            | Self::Revoked
            | Self::GlobalLimit
            | Self::LimitsShrink
            | Self::LostAnswers => {}
        }
        settings
    }

    fn prepare(self, double: &Double, first: Id) {
        let after_a_while = |what| Fault::from(what).on_route("create_message").after(100);
        match self {
            Self::Forbidden => {
                let target = OverwriteTarget::Role(standard::GUILD);
                let (allow, deny) = (Permissions::NONE, Permissions::SEND_MESSAGES);
                let change =
                    Change::Overwrite { channel: first, overwrite: Overwrite { target, allow, deny } };
                double.change(change).expect("it is there");
            }
            Self::Revoked => {
                let change = Box::new(Change::RevokeToken { token: standard::TOKEN.into() });
                double.next(after_a_while(What::Change { change }));
            }
            Self::Banned => double.next(after_a_while(What::Ban)),
            Self::LostAnswers => {
                for what in [What::DropReply, What::FailAfterCommit { status: 502 }] {
                    double.next(Fault::from(what).on_route("create_message").with_probability(1.0 / 60.0));
                }
            }
            Self::Calm | Self::GlobalLimit | Self::EarlyRefusals | Self::LimitsShrink => {}
        }
    }

    async fn go_on(self, double: Arc<Double>, length: Duration) {
        let third = length / 3;
        let change = |change: fn(&mut Limits)| double.settings(|settings| change(&mut settings.limits));
        match self {
            Self::GlobalLimit => {
                tokio::time::sleep(third).await;
                change(|limits| limits.global = Rate::new(1, 20_000));
                tokio::time::sleep(third).await;
                change(|limits| limits.global = Limits::default().global);
            }
            Self::LimitsShrink => {
                tokio::time::sleep(third).await;
                change(|limits| {
                    limits.buckets.insert("message_create".into(), Rate::new(2, 5_000));
                });
            }
            Self::Calm
            | Self::Forbidden
            | Self::Revoked
            | Self::Banned
            | Self::EarlyRefusals
            | Self::LostAnswers => {}
        }
    }
}

fn tell(name: &str, client: Client, double: &Double, offers: &[Offer], length: Duration) {
    let mut times: HashMap<String, usize> = HashMap::new();
    for visible in double.all_visible() {
        *times.entry(visible.content).or_default() += 1;
    }
    let line = json!({
        "benchmark": format!("discord_faults_{name}"),
        "client": client.name(),
        "seconds": length.as_secs(),
        "offered": offers.len(),
        "requests": double.requests().len(),
        "invalid": double.invalid_requests(),
        "there": times.len(),
        "there_twice": times.values().filter(|times| **times > 1).count(),
    });
    println!("{line}");
}
