//! The dead man's switch: somebody else's service is called while all is well, and raises the alarm when that ends.

use super::sinks::client;
use crate::engine::Activity;
use botticelli_database::Store;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// A database that does not answer for so long is not there.
const PATIENCE: Duration = Duration::from_secs(5);
/// Later than this, something keeps the scheduler from its work.
const LATE: TimeDelta = TimeDelta::seconds(10);

/// Where to call, and how often.
#[derive(Debug, Clone)]
pub struct HeartbeatSettings {
    /// Where to. It is as good as a password.
    pub url: SecretString,
    /// How often.
    pub every: Duration,
}

/// Calls until `stop`, while the database answers and the scheduler is on time.
pub(crate) async fn run(
    settings: HeartbeatSettings,
    store: Store,
    activity: watch::Receiver<Activity>,
    now: impl Fn() -> DateTime<Utc>,
    stop: CancellationToken,
) {
    let client = match client() {
        Ok(client) => client,
        Err(error) => {
            warn!(error, "no heartbeat is sent: the HTTP client can't start");
            return stop.cancelled().await;
        }
    };
    let mut was_well = true;
    loop {
        let is_well = match what_is_wrong(&store, &activity, &now).await {
            Some(wrong) => Err(wrong),
            None => call(&client, &settings.url).await,
        };
        match &is_well {
            Ok(()) => debug!("heartbeat sent"),
            Err(wrong) if was_well => warn!(reason = wrong, "no heartbeat"),
            Err(wrong) => debug!(reason = wrong, "no heartbeat"),
        }
        was_well = is_well.is_ok();
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(settings.every) => {}
        }
    }
}

async fn what_is_wrong(
    store: &Store,
    activity: &watch::Receiver<Activity>,
    now: &impl Fn() -> DateTime<Utc>,
) -> Option<String> {
    let answered = timeout(PATIENCE, store.living_nodes()).await;
    match answered {
        Err(_) => return Some("the database does not answer".to_owned()),
        Ok(Err(error)) => return Some(error.to_string()),
        Ok(Ok(_)) => {}
    }
    let next_look = activity.borrow().next_look;
    let late = next_look > DateTime::<Utc>::MIN_UTC && now() - next_look > LATE;
    late.then(|| "the scheduler is late".to_owned())
}

async fn call(client: &reqwest::Client, url: &SecretString) -> Result<(), String> {
    let answer = client.get(url.expose_secret()).send().await;
    let answer = answer.map_err(|error| error.without_url().to_string())?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("HTTP {}", answer.status())) }
}
