//! How fast posts reach Discord, and how many requests are in vain when things go wrong: the whole way through the
//! outbox (SQLite) and the deliverer, beside unmodified `serenity` and `twilight-http`, each against a double of its own.

mod clients;
mod faults;
mod front;
mod ours;

use crate::{Args, repeat};
use botticelli_actor::clock::SystemClock;
use botticelli_server::clock::Clock as _;
use chrono::{DateTime, TimeDelta, Utc};
use clients::Client;
use discord_double::{ChannelKind, Double, Id, Options, Settings, World, standard};
use std::collections::HashMap;
use std::time::Duration;

/// So many destinations.
const DESTINATIONS: usize = 1_000;
/// The double's limit for all requests of a token, as Discord's: in each second, counted from its first request.
const PER_SECOND: usize = 50;

/// A post, and when it is to leave.
#[derive(Clone)]
struct Offer {
    at: DateTime<Utc>,
    channel: Id,
    text: String,
}

/// A double with so many channels.
fn place(channels: usize, settings: Settings) -> (Double, Vec<Id>) {
    let mut world = World::standard();
    let add = |number| world.add_channel(standard::GUILD, ChannelKind::Text, &format!("channel-{number}"));
    let channels = (0..channels).map(add).collect();
    (Double::start(Options { world, settings, ..Options::default() }).expect("a double"), channels)
}

/// So many posts, the `number`-th at `due(number)` after the start, which is soon, to one channel after the other.
fn offers(channels: &[Id], count: usize, due: impl Fn(usize) -> TimeDelta) -> Vec<Offer> {
    let start = SystemClock.now() + TimeDelta::seconds(2);
    let offer = |number: usize| Offer {
        at: start + due(number),
        channel: channels[number % channels.len()],
        text: format!("post {number}"),
    };
    (0..count).map(offer).collect()
}

fn milliseconds(number: usize) -> TimeDelta {
    TimeDelta::milliseconds(i64::try_from(number).expect("small"))
}

/// When each post was first on the wire.
fn arrivals(double: &Double) -> HashMap<String, DateTime<Utc>> {
    let mut arrivals = HashMap::new();
    for request in double.requests() {
        if let Some(text) = request.body["content"].as_str() {
            arrivals.entry(text.to_owned()).or_insert(request.at);
        }
    }
    arrivals
}

/// Waits until so many messages are there, or the time is over.
async fn arrive(double: &Double, count: usize, patience: Duration) {
    let end = tokio::time::Instant::now() + patience;
    while double.all_visible().len() < count && tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Sends them, and returns when all are there or the time is over.
async fn send(client: Client, double: &Double, offers: &[Offer], patience: Duration) {
    let there = arrive(double, offers.len(), patience);
    match client {
        Client::Ours => ours::send(double, offers, there).await,
        other => clients::send(other, double, offers, there).await,
    }
}

pub(crate) async fn run(args: &Args) {
    let wanted = |name: &str| name.contains(&args.only);
    for client in Client::ALL {
        let name = format!("discord_rate_{}", client.name());
        if wanted(&name) {
            repeat(args, "sqlite", &name, "share of what is allowed", async || rate(client).await).await;
        }
    }
    for client in Client::ALL {
        for (kind, burst) in [("spread", 1), ("bursts", 40)] {
            let name = format!("discord_lateness_{kind}_{}", client.name());
            if wanted(&name) {
                repeat(args, "sqlite", &name, "ms", async || lateness(client, burst).await).await;
            }
        }
    }
    if wanted("discord_drain") {
        repeat(args, "sqlite", "discord_drain", "posts/s", async || drain(Client::Ours).await).await;
    }
    if wanted("discord_faults") {
        faults::run(Duration::from_secs(args.seconds)).await;
    }
}

/// All at once: how much of the global limit is used, from the first request to the last.
async fn rate(client: Client) -> Vec<(&'static str, f64)> {
    const POSTS: usize = 1_500;
    let (double, channels) = place(DESTINATIONS, Settings::default());
    let offers = offers(&channels, POSTS, |_| TimeDelta::zero());
    send(client, &double, &offers, Duration::from_secs(90)).await;
    rates(&double)
}

/// Many posts wait at few destinations: for a minute, how fast they go out. The limits allow one a second at each.
async fn drain(client: Client) -> Vec<(&'static str, f64)> {
    let (double, channels) = place(20, Settings::default());
    let offers = offers(&channels, 4_000, |_| TimeDelta::zero());
    send(client, &double, &offers, Duration::from_secs(60)).await;
    rates(&double)
}

fn rates(double: &Double) -> Vec<(&'static str, f64)> {
    let mut at: Vec<_> = double.all_visible().iter().map(|visible| visible.created_at).collect();
    at.sort_unstable();
    let took = at.last().zip(at.first()).map_or(TimeDelta::MAX, |(last, first)| *last - *first);
    // The last ones may go when the last window opens.
    let allowed = (at.len().saturating_sub(1) / PER_SECOND) as f64;
    let seconds = took.as_seconds_f64();
    vec![
        ("share", allowed / seconds),
        ("posts_per_second", at.len() as f64 / seconds),
        ("arrived", at.len() as f64),
        ("invalid", double.invalid_requests() as f64),
    ]
}

/// Forty a second, evenly or `burst` at one instant: how long after its time each is on the wire.
async fn lateness(client: Client, burst: usize) -> Vec<(&'static str, f64)> {
    const POSTS: usize = 1_200;
    let (double, channels) = place(DESTINATIONS, Settings::default());
    let offers = offers(&channels, POSTS, |number| milliseconds(number / burst * burst * 25));
    send(client, &double, &offers, Duration::from_secs(60)).await;
    let arrivals = arrivals(&double);
    let late = offers.iter().filter_map(|offer| {
        let late = *arrivals.get(&offer.text)? - offer.at;
        late.num_microseconds().map(|micros| micros as f64 / 1_000.0)
    });
    let mut late: Vec<f64> = late.collect();
    late.sort_by(f64::total_cmp);
    let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize];
    vec![
        ("p50", at(0.5)),
        ("p99", at(0.99)),
        ("max", at(1.0)),
        ("arrived", late.len() as f64),
        ("invalid", double.invalid_requests() as f64),
    ]
}
