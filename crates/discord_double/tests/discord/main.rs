//! What the double does, seen from the wire.

#[cfg(feature = "compare")]
mod compare;
mod content;
mod faults;
mod history;
mod limits;
mod mentions;
mod messages;
mod nonce;
mod permissions;
mod program;
mod support;
mod threads;
mod webhooks;

use chrono::{DateTime, Utc};
use discord_double::{Clock, Double, Id, Limits, Options, Settings, standard};
use support::Http;

/// A moment that is later than all ids of the standard world.
fn noon() -> DateTime<Utc> {
    "2026-11-23T12:00:00Z".parse().expect("a time")
}

/// A double without rate limits whose clock stands still, and its bot.
fn double() -> (Double, Http) {
    double_with(Settings { limits: Limits::off(), ..Settings::default() })
}

fn double_with(settings: Settings) -> (Double, Http) {
    start(Options { settings, clock: Clock::manual(noon()), ..Options::default() })
}

fn start(options: Options) -> (Double, Http) {
    let double = Double::start(options).expect("it starts");
    let http = Http::new(&double.base_url(), standard::TOKEN);
    (double, http)
}

fn messages(channel: Id) -> String {
    format!("/channels/{channel}/messages")
}
