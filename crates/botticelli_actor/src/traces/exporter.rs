//! Brings spans to the collector, beside all work: what makes a span waits for nothing, and where there is no room for it,
//! it is left out.

use super::span::Span;
use super::wire;
use crate::alerts::sinks::client;
use crate::causes::with_causes;
use crate::config::TraceSettings;
use axum::body::Bytes;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, StatusCode};
use secrecy::ExposeSecret as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// So often spans are sent again that a collector could not take; some seconds in all, while others gather.
const MOST_TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Where spans go in.
pub(super) struct Sender {
    spans: mpsc::Sender<Span>,
    left_out: Arc<AtomicU64>,
}

impl Sender {
    pub(super) fn send(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The background loop that sends spans.
pub(crate) struct Exporter {
    settings: TraceSettings,
    client: Client,
    spans: mpsc::Receiver<Span>,
    left_out: Arc<AtomicU64>,
    is_away: bool,
    has_lacked_room: bool,
}

/// Why spans were not taken.
struct NotTaken {
    why: String,
    /// Whether another try may go better, and how long the collector wants to be left alone.
    again: Option<Duration>,
}

impl Exporter {
    /// # Errors
    /// When the HTTP client can't start.
    pub(super) fn new(settings: TraceSettings) -> Result<(Sender, Self), String> {
        let (spans, received) = mpsc::channel(settings.queue);
        let left_out = Arc::<AtomicU64>::default();
        let exporter = Self {
            client: client()?,
            settings,
            spans: received,
            left_out: left_out.clone(),
            is_away: false,
            has_lacked_room: false,
        };
        Ok((Sender { spans, left_out }, exporter))
    }

    /// Sends until `stop`, and then what is there by then. Who wants it to end in time cuts it off.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::new();
        while self.gather(&mut batch, &stop).await {
            self.bring(&batch, &stop).await;
            batch.clear();
        }
    }

    /// Waits for spans, and a moment for more of them. Says whether there are any.
    async fn gather(&mut self, batch: &mut Vec<Span>, stop: &CancellationToken) -> bool {
        let mut until = None;
        while batch.len() < self.settings.batch {
            let room = self.settings.batch - batch.len();
            tokio::select! {
                biased;
                more = self.spans.recv_many(batch, room) => {
                    if more == 0 {
                        break;
                    }
                    until.get_or_insert(Instant::now() + self.settings.delay);
                }
                () = stop.cancelled(), if !self.spans.is_closed() => self.spans.close(),
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => break,
            }
        }
        !batch.is_empty()
    }

    async fn bring(&mut self, batch: &[Span], stop: &CancellationToken) {
        let body = Bytes::from(wire::request(&self.settings.resource, batch));
        let mut wait = FIRST_WAIT;
        for tries in 1.. {
            let NotTaken { why, again } = match self.post(body.clone()).await {
                Ok(()) => return self.note_taken(),
                Err(not_taken) => not_taken,
            };
            self.note_not_taken(&why);
            let Some(wanted) = again.filter(|_| tries < MOST_TRIES && !stop.is_cancelled()) else { break };
            tokio::select! {
                () = sleep(wait.max(wanted).min(LONGEST_WAIT)) => {}
                () = stop.cancelled() => {}
            }
            wait *= 2;
        }
        self.left_out.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }

    async fn post(&self, body: Bytes) -> Result<(), NotTaken> {
        let settings = &self.settings;
        let request = self.client.post(settings.endpoint.expose_secret()).headers(settings.headers.clone());
        let request = request.header(CONTENT_TYPE, "application/x-protobuf").timeout(settings.timeout);
        let answer = request.body(body).send().await.map_err(|error| NotTaken {
            why: with_causes(&error.without_url()),
            again: Some(Duration::ZERO),
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        // Those of the specification of OTLP.
        let may_pass = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        );
        let wanted = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let wanted = Duration::from_secs(wanted.unwrap_or_default());
        Err(NotTaken { why: format!("HTTP {status}"), again: may_pass.then_some(wanted) })
    }

    fn note_taken(&mut self) {
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if std::mem::take(&mut self.is_away) {
            info!(left_out, "traces are taken again");
        } else if left_out > 0 && !std::mem::replace(&mut self.has_lacked_room, true) {
            warn!(
                left_out,
                "there are more spans than are sent, and some are left out, which is not said again; \
                 OTEL_BSP_MAX_QUEUE_SIZE makes more room"
            );
        }
    }

    fn note_not_taken(&mut self, why: &str) {
        if std::mem::replace(&mut self.is_away, true) {
            debug!(reason = why, "traces are still not taken");
        } else {
            warn!(
                reason = why,
                "traces are not taken; what can't be sent is left out, and that is not said again"
            );
        }
    }
}
