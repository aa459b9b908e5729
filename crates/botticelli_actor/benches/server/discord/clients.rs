//! The clients that are compared. The others get what their users give them: for each channel a loop that sends one
//! message after the other, each when it is due, and goes on with the next one when one can't be sent.

use super::Offer;
use super::front::Front;
use botticelli_actor::clock::SystemClock;
use botticelli_server::clock::Clock as _;
use discord_double::{Double, Id, standard};
use serenity::http::{Http, HttpBuilder};
use serenity::model::id::ChannelId;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::task::JoinSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    Ours,
    Serenity,
    Twilight,
}

impl Client {
    pub(super) const ALL: [Self; 3] = [Self::Ours, Self::Serenity, Self::Twilight];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Serenity => "serenity",
            Self::Twilight => "twilight",
        }
    }
}

enum Library {
    Serenity(Http),
    Twilight(Box<twilight_http::Client>),
}

impl Library {
    async fn say(&self, channel: Id, text: &str) {
        match self {
            Self::Serenity(http) => drop(ChannelId::new(channel.0).say(http, text).await),
            Self::Twilight(client) => {
                drop(client.create_message(twilight_model::id::Id::new(channel.0)).content(text).await);
            }
        }
    }
}

/// Sends until `end`.
pub(super) async fn send(client: Client, double: &Double, offers: &[Offer], end: impl Future<Output = ()>) {
    let (library, _front) = match client {
        Client::Serenity => {
            let front = Front::start(double.address()).await;
            (Library::Serenity(serenity(&front)), Some(front))
        }
        Client::Ours | Client::Twilight => (Library::Twilight(Box::new(twilight(double))), None),
    };
    let library = Arc::new(library);
    let mut by_channel: HashMap<Id, Vec<Offer>> = HashMap::new();
    for offer in offers {
        by_channel.entry(offer.channel).or_default().push(offer.clone());
    }
    let mut loops = JoinSet::new();
    for offers in by_channel.into_values() {
        let library = library.clone();
        loops.spawn(async move {
            for offer in offers {
                SystemClock.sleep_until(offer.at).await;
                library.say(offer.channel, &offer.text).await;
            }
        });
    }
    end.await;
}

fn twilight(double: &Double) -> twilight_http::Client {
    let proxy = double.address().to_string();
    twilight_http::Client::builder().proxy(proxy, true).token(standard::TOKEN.into()).build()
}

/// With its rate limiter it only speaks to https://discord.com: so that is what the front pretends to be.
fn serenity(front: &Front) -> Http {
    let proxy = serenity_reqwest::Proxy::all(front.url()).expect("a URL");
    let client = serenity_reqwest::Client::builder()
        .use_rustls_tls()
        .proxy(proxy)
        .danger_accept_invalid_certs(true)
        .build()
        .expect("a client");
    HttpBuilder::new(standard::TOKEN).client(client).build()
}
