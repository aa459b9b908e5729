//! Channels of PostgreSQL whose notifications run tasks.
//!
//! What is notified while nobody listens is lost. So one node at a time listens to a channel, the store knows up to when
//! all of it was heard, and whoever listens next tells of the gap: in the log, as a metric, and to tasks that want to know.

use crate::config::Channel;
use crate::engine::CurrentNode;
use crate::metrics::NotificationMetrics;
use botticelli_database::{DatabaseUrl, Heard, ListenError, Notifications, Store, Wakeups};
use botticelli_server::ledger::LedgerError;
use botticelli_server::server::{Arrival, EventItem, EventServer as _, Received, WhenFull};
use chrono::{DateTime, Utc};
use futures::FutureExt as _;
use futures::future::{BoxFuture, OptionFuture};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// A node that has not said for so long that it listens does not listen any more.
const LEASE: Duration = Duration::from_secs(15);
/// So often it says so, and the others look whether they are needed.
const BEAT: Duration = Duration::from_secs(2);
/// Between two attempts to listen, or to store what was heard.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What the listeners of a server are made of.
pub struct ListenerParts {
    /// Where it is stored what was heard.
    pub store: Store,
    /// The server's own database.
    pub database_url: SecretString,
    /// This process.
    pub node: Arc<CurrentNode>,
    /// Called when there is something to run.
    pub wakeups: Wakeups,
    /// What is counted.
    pub metrics: Arc<NotificationMetrics>,
}

/// A database, and a channel of it.
type Place = (String, String);

struct Listening {
    triggers: watch::Sender<Vec<Channel>>,
    stop: CancellationToken,
}

/// Listens to all channels, which may change, until `stop`.
pub async fn run(
    parts: ListenerParts,
    mut channels: watch::Receiver<Arc<[Channel]>>,
    stop: CancellationToken,
) {
    let parts = Arc::new(parts);
    let mut all = JoinSet::new();
    let mut listening: BTreeMap<Place, Listening> = BTreeMap::new();
    loop {
        let wanted = by_place(&channels.borrow_and_update(), &parts.database_url);
        // Nothing is missed of a channel that stays.
        listening.retain(|place, one| {
            let stays = wanted.contains_key(place);
            if !stays {
                one.stop.cancel();
            }
            stays
        });
        for (place, (url, triggers)) in wanted {
            if let Some(known) = listening.get(&place) {
                known.triggers.send_replace(triggers);
                continue;
            }
            let stop = stop.child_token();
            let (triggers, of_now) = watch::channel(triggers);
            let (database, channel) = place.clone();
            let listener = Listener { parts: parts.clone(), database, channel, url, triggers: of_now };
            all.spawn(listener.run(stop.clone()));
            listening.insert(place, Listening { triggers, stop });
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = channels.changed() => if changed.is_err() { break },
        }
    }
    stop.cancelled().await;
    while let Some(ended) = all.join_next().await {
        if let Err(error) = ended {
            error!(error = %error, "a listener did not end well");
        }
    }
}

fn by_place(channels: &[Channel], own: &SecretString) -> BTreeMap<Place, (SecretString, Vec<Channel>)> {
    let mut places: BTreeMap<Place, (SecretString, Vec<Channel>)> = BTreeMap::new();
    for channel in channels {
        let url = channel.database.as_ref().unwrap_or(own);
        // It was checked, and is shown without its secrets.
        let Ok(shown) = DatabaseUrl::parse(url.expose_secret()) else { continue };
        let place = (shown.to_string(), channel.name.clone());
        places.entry(place).or_insert_with(|| (url.clone(), Vec::new())).1.push(channel.clone());
    }
    places
}

/// Why it does not listen any more.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Store(#[from] LedgerError),
    #[error("another node listens now")]
    Overtaken,
}

/// Listens to one channel.
struct Listener {
    parts: Arc<ListenerParts>,
    database: String,
    channel: String,
    url: SecretString,
    triggers: watch::Receiver<Vec<Channel>>,
}

impl Listener {
    async fn run(self, stop: CancellationToken) {
        let mut wait = FIRST_WAIT;
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => break,
                next = self.turn(&mut wait) => next,
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(next) => {}
            }
        }
        self.leave().await;
    }

    /// Listens as long as that goes well, if no other node does. Returns after how long to look again.
    async fn turn(&self, wait: &mut Duration) -> Duration {
        match self.take(None).await {
            Ok(None) => return BEAT,
            Ok(Some(heard)) => {
                let Err(trouble) = self.listen(heard, wait).await;
                warn!(
                    channel = self.channel, database = self.database, error = %trouble,
                    "not listening: notifications are lost until a node listens again"
                );
                self.leave().await;
            }
            Err(error) => debug!(error = %error, channel = self.channel, "nobody knows who listens"),
        }
        std::mem::replace(wait, (*wait * 2).min(LONGEST_WAIT))
    }

    async fn take(&self, heard: Option<Duration>) -> Result<Option<Heard>, LedgerError> {
        let node = self.parts.node.name();
        self.parts.store.take_channel(&node, &self.database, &self.channel, LEASE, heard).await
    }

    /// Another node may listen at once.
    async fn leave(&self) {
        let node = self.parts.node.name();
        if let Err(error) = self.parts.store.leave_channel(&node, &self.database, &self.channel).await {
            debug!(error = %error, channel = self.channel, "the others will find out that this node does not listen");
        }
    }

    async fn listen(&self, before: Heard, wait: &mut Duration) -> Result<Infallible, Trouble> {
        let mut notifications = Notifications::listen(self.url.expose_secret(), &self.channel).await?;
        let mut held_until = Instant::now() + LEASE;
        let now = self.take(None).await?.ok_or(Trouble::Overtaken)?.now;
        if let Some(from) = before.until {
            self.tell_gap(from, now, held_until).await?;
        }
        self.take(Some(Duration::ZERO)).await?.ok_or(Trouble::Overtaken)?;
        info!(channel = self.channel, database = self.database, "listening");
        *wait = FIRST_WAIT;
        let mut next_beat = Instant::now();
        let mut pulse: Option<BoxFuture<'static, (Instant, Result<(), ListenError>)>> = None;
        // So many payloads are still to be stored until all is that was notified before that moment.
        let mut behind: Option<(usize, Instant)> = None;
        loop {
            if let Some((0, asked)) = behind {
                behind = None;
                self.take(Some(asked.elapsed())).await?.ok_or(Trouble::Overtaken)?;
            }
            tokio::select! {
                () = tokio::time::sleep_until(next_beat) => {
                    let asked = Instant::now();
                    next_beat = asked + BEAT;
                    self.take(None).await?.ok_or(Trouble::Overtaken)?;
                    held_until = asked + LEASE;
                    if pulse.is_none() && behind.is_none() {
                        pulse = Some(notifications.pulse().map(move |answer| (asked, answer)).boxed());
                    }
                }
                Some((asked, answer)) = OptionFuture::from(pulse.as_mut()) => {
                    pulse = None;
                    answer?;
                    behind = Some((notifications.waiting(), asked));
                }
                payload = notifications.next() => {
                    let payload = payload?;
                    self.heard(&payload, held_until).await?;
                    behind = behind.map(|(count, asked)| (count.saturating_sub(1), asked));
                }
            }
        }
    }

    /// Stores a notification for each task that wants it.
    async fn heard(&self, payload: &str, held_until: Instant) -> Result<(), Trouble> {
        let body = serde_json::from_str(payload).unwrap_or_else(|_| Value::String(payload.to_owned()));
        let key = new_key(&self.parts.node.name(), &self.channel);
        let triggers = self.triggers.borrow().clone();
        for trigger in triggers {
            if !trigger.wants(&body) {
                self.count("filtered");
                continue;
            }
            let item = EventItem { key: key.clone(), body: body.clone() };
            self.store(arrival(&trigger, None, item), held_until).await?;
        }
        Ok(())
    }

    /// Nobody has listened for a while.
    async fn tell_gap(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        held_until: Instant,
    ) -> Result<(), Trouble> {
        warn!(
            channel = self.channel, database = self.database, %from, %to,
            "a gap: nobody has listened, and notifications of this time may be lost"
        );
        self.parts.metrics.gap(&self.channel);
        let triggers = self.triggers.borrow().clone();
        for trigger in triggers.iter().filter(|trigger| trigger.run_after_gap) {
            // The same however often it is told, until it is known to be.
            let id = format!("gap since {}", from.timestamp_micros());
            let body = serde_json::json!({ "gap": { "from": from, "to": to } });
            let item = EventItem { key: format!("{} {id}", self.channel), body };
            self.store(arrival(trigger, Some(id), item), held_until).await?;
        }
        Ok(())
    }

    /// Stores it, however long the database is away, as long as no other node listens.
    async fn store(&self, arrival: Arrival, held_until: Instant) -> Result<(), Trouble> {
        let mut wait = FIRST_WAIT;
        loop {
            if Instant::now() >= held_until {
                return Err(Trouble::Overtaken);
            }
            match self.parts.store.receive(arrival.clone()).await {
                Ok(Received::Stored(_)) => {
                    self.count("stored");
                    self.parts.wakeups.changed();
                    return Ok(());
                }
                Ok(Received::Again(_)) => return Ok(()),
                Ok(Received::LeftOut(execution)) => {
                    self.count("left_out");
                    debug!(task.id = %arrival.task, execution.id = %execution, "left out: too many runs wait");
                    return Ok(());
                }
                Ok(other @ (Received::OtherRequest | Received::Full { .. } | Received::UnknownTask)) => {
                    self.count("refused");
                    warn!(task.id = %arrival.task, channel = self.channel, "not stored: {other:?}");
                    return Ok(());
                }
                Err(error @ (LedgerError::Refused(_) | LedgerError::Corrupt(_))) => {
                    self.count("refused");
                    warn!(task.id = %arrival.task, channel = self.channel, error = %error, "a notification can't be stored");
                    return Ok(());
                }
                Err(error) => debug!(error = %error, channel = self.channel, "not stored yet"),
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    fn count(&self, result: &'static str) {
        self.parts.metrics.notification(&self.channel, result);
    }
}

fn arrival(trigger: &Channel, id: Option<String>, item: EventItem) -> Arrival {
    Arrival {
        task: trigger.task.clone(),
        source: trigger.source(),
        id,
        request: None,
        item,
        gathering: trigger.gathering,
        max_waiting: trigger.max_waiting,
        when_full: WhenFull::LeaveOut,
    }
}

/// Unlike any other: a node's name is.
fn new_key(node: &botticelli_server::ids::NodeId, channel: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{channel} {node} {}", COUNT.fetch_add(1, Ordering::Relaxed))
}
