//! `actor-server alerts`: which there are, and whether they arrive.

use super::args::GlobalArgs;
use super::database::open;
use super::errors::{Failure, UsageError};
use super::load_config;
use super::output::{Row, time_or, visible, write_json, write_table};
use crate::alerts::unreachable::deliver;
use crate::clock::SystemClock;
use crate::names::unknown;
use crate::platforms::Platforms;
use botticelli_database::{AlertFilter, AlertView};
use botticelli_server::alert::{AlertEvent, AlertPolicy, Notice, Severity};
use botticelli_server::clock::Clock as _;
use std::io::Write;
use std::sync::Arc;

pub(super) async fn list(
    global: &GlobalArgs,
    all: bool,
    limit: u32,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let filter = AlertFilter { ended_too: all, limit: usize::try_from(limit)? };
    let alerts = open(global).await?.alerts(filter).await?;
    if json { write_json(&alerts, out) } else { write_table(&alerts, out) }
}

impl Row for AlertView {
    const COLUMNS: &'static [&'static str] =
        &["ID", "ALERT", "SEVERITY", "RULE", "SINCE", "ENDED", "SUMMARY"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.alert.to_string(),
            self.severity.as_str().to_owned(),
            self.rule.as_str().to_owned(),
            time_or(Some(self.started_at), "-"),
            time_or(self.ended_at, "-"),
            self.summary.clone(),
        ]
    }
}

/// Not through the outbox: it shows what the sink answers now, and nothing waits for it.
pub(super) async fn test(
    global: &GlobalArgs,
    name: Option<&str>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let config = load_config(global)?;
    let policies: Vec<&AlertPolicy> = config.alerts.iter().map(|alert| &alert.policy).collect();
    let wanted: Vec<&AlertPolicy> = policies
        .iter()
        .copied()
        .filter(|policy| name.is_none_or(|name| policy.name.as_str() == name))
        .collect();
    if wanted.is_empty() {
        let names = policies.iter().map(|policy| policy.name.as_str());
        let (message, hint) = match name {
            Some(name) => unknown("alert", name, names),
            None => ("there are no [[alerts]] sections".to_owned(), "docs/alerts.md shows one".to_owned()),
        };
        return Err(UsageError::new(message).hint(Some(hint)).into());
    }
    let platforms = Platforms::configured(&config, Arc::new(SystemClock))?;
    let mut failed = Vec::new();
    for policy in wanted {
        let (name, to) = (&policy.name, &policy.destination);
        match arrives(&platforms, policy).await {
            Ok(id) => writeln!(out, "{name}: {to} has taken it, as {}", visible(&id))?,
            Err(error) => {
                writeln!(out, "{name}: {to} has not taken it: {}", visible(&error))?;
                failed.push(name.to_string());
            }
        }
    }
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(Failure::new(format!("not taken: {}", failed.join(", "))).into()),
    }
}

/// A test, and its end: where it opens an incident, that is closed again.
async fn arrives(platforms: &Platforms, policy: &AlertPolicy) -> Result<String, String> {
    let now = SystemClock.now();
    let test = AlertEvent {
        notice: Notice::Test,
        alert: policy.name.clone(),
        incident: format!("test-{}", now.timestamp_micros()),
        rule: None,
        severity: Severity::Warning,
        subject: String::new(),
        actor_name: None,
        summary: "this is a test: alerts arrive here".into(),
        started_at: now,
        ended_at: None,
    };
    let id = deliver(platforms, policy, &test).await?;
    if policy.destination.platform == crate::alerts::sinks::PAGERDUTY {
        let over = AlertEvent { notice: Notice::Ended, ended_at: Some(SystemClock.now()), ..test };
        deliver(platforms, policy, &over).await?;
    }
    Ok(id)
}
