//! The way that posts of the server take: outbox, deliverer, limiter, client.

use super::Offer;
use crate::harness::{Database, open, register, task};
use botticelli_actor::clock::SystemClock;
use botticelli_actor::deliverer::{Deliverer, DeliverySettings, DeliverySignals};
use botticelli_actor::discord::limits::{LimitSettings, Limiter};
use botticelli_actor::discord::{HttpSettings, Rest};
use botticelli_actor::discord_server::DiscordContentPoster;
use botticelli_actor::engine::{CurrentNode, Shutdown};
use botticelli_actor::platforms::Platforms;
use botticelli_server::ids::NodeId;
use botticelli_server::ledger::Ledger as _;
use botticelli_server::outbox::NewPost;
use botticelli_server::post::Destination;
use botticelli_server::schedule::{IntervalSchedule, ScheduleType};
use botticelli_testkit::store_suite::{Player, message};
use discord_double::{Double, standard};
use secrecy::SecretString;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Longer than any benchmark: no heartbeat is needed.
const LEASE: Duration = Duration::from_secs(3_600);

/// Puts them into a new outbox, and delivers until `end`.
pub(super) async fn send(double: &Double, offers: &[Offer], end: impl Future<Output = ()>) {
    let fresh = Database::Sqlite.fresh().await;
    let store = open(&fresh).await;
    let task = task(0, ScheduleType::Interval(IntervalSchedule::new(86_400).expect("a day")));
    register(&store, vec![task.clone()]).await;
    let player = Player { store: store.clone(), id: NodeId::new("author").expect("a name") };
    let node = NodeId::new("node").expect("a name");
    for id in [&player.id, &node] {
        store.renew(id, LEASE).await.expect("a heartbeat");
    }
    player.run(&task, posts(offers)).await;
    let stop = CancellationToken::new();
    let deliverer = Deliverer::new(
        Arc::new(store.clone()),
        platforms(double),
        Arc::new(SystemClock),
        Arc::new(CurrentNode::new(node)),
        DeliverySettings::default(),
        DeliverySignals::default(),
    );
    let running = tokio::spawn(deliverer.run(stop.clone(), Arc::new(Shutdown::new(Duration::from_secs(30)))));
    end.await;
    stop.cancel();
    running.await.expect("the deliverer ends well");
    drop((player, store));
    fresh.end().await;
}

fn platforms(double: &Double) -> Platforms {
    let clock = Arc::new(SystemClock);
    let http = HttpSettings { api_base_url: double.base_url(), ..HttpSettings::default() };
    let limiter = Limiter::new(LimitSettings::default(), clock.clone());
    let token = SecretString::from(standard::TOKEN.to_owned());
    let rest = Rest::new(&http, &token, limiter, clock.clone()).expect("a client");
    let mut platforms = Platforms::default();
    platforms.register("discord", Arc::new(DiscordContentPoster::new(rest, clock, Default::default())));
    platforms
}

/// Each is a message of its own.
fn posts(offers: &[Offer]) -> Vec<NewPost> {
    let mut parts = HashMap::new();
    let post = |offer: &Offer| {
        let part = parts.entry(offer.channel).and_modify(|part| *part += 1).or_insert(0);
        let target = offer.channel.to_string();
        NewPost {
            destination: Destination { platform: "discord".into(), target },
            part: *part,
            first_part: *part,
            not_before: Some(offer.at),
            ..message("", &offer.text)
        }
    };
    offers.iter().map(post).collect()
}
