//! The sinks of alerts, as the configuration sets them up.

use super::{Platforms, SetupError};
use crate::alerts::sinks::{Sinks, client};
use crate::alerts::{AlertSettings, Sink};
use botticelli_server::clock::Clock;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Enters those that alerts are told to. Without any there is no client either.
pub(super) fn register(
    platforms: &mut Platforms,
    alerts: &[AlertSettings],
    clock: &Arc<dyn Clock>,
) -> Result<(), SetupError> {
    let mut kinds: BTreeMap<&str, BTreeMap<String, Sink>> = BTreeMap::new();
    for AlertSettings { policy, sink } in alerts {
        if let Some(sink) = sink {
            let of_kind = kinds.entry(&policy.destination.platform).or_default();
            of_kind.insert(policy.destination.target.clone(), sink.clone());
        }
    }
    if kinds.is_empty() {
        return Ok(());
    }
    let client = client().map_err(|error| SetupError(format!("alerts can't be sent: {error}")))?;
    for (platform, sinks) in kinds {
        platforms.register(platform, Arc::new(Sinks::new(client.clone(), clock.clone(), sinks)));
    }
    Ok(())
}
