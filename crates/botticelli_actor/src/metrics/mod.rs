//! Metrics: what the server counts and measures, for Prometheus.
//!
//! There is no global registry. Each part of the server has instruments of its own (atomic numbers, changed where the thing
//! happens), and is a [`Source`] that writes them down when somebody asks. [`Metrics`] is the list of sources.
//! Names and labels are described in `docs/metrics.md`, and are an interface: a test compares that page with `/metrics`.

mod alerts;
mod executions;
mod instruments;
mod notifications;
mod posts;
#[cfg(feature = "discord")]
mod requests;
mod server;
mod text;

pub use alerts::AlertMetrics;
pub use executions::ExecutionMetrics;
pub use instruments::{Counters, Histogram, Labels};
pub use notifications::NotificationMetrics;
pub use posts::DeliveryMetrics;
#[cfg(feature = "discord")]
pub(crate) use requests::Answered;
#[cfg(feature = "discord")]
pub use requests::RequestMetrics;
pub use server::{DatabaseMetrics, NodeMetrics};
pub use text::{Description, Exposition, Kind};

use async_trait::async_trait;
use std::sync::Arc;

/// A part of the server that has metrics.
#[async_trait]
pub trait Source: Send + Sync {
    /// Writes them down as they are now. It describes each of them even while there is nothing to tell.
    async fn write(&self, text: &mut Exposition);
}

/// All metrics of a server.
#[derive(Clone, Default)]
pub struct Metrics {
    sources: Vec<Arc<dyn Source>>,
}

impl Metrics {
    /// Those of these parts, in this order.
    pub fn new(sources: Vec<Arc<dyn Source>>) -> Self {
        Self { sources }
    }

    /// All of them as Prometheus reads them.
    pub async fn render(&self) -> String {
        let mut text = Exposition::default();
        for source in &self.sources {
            source.write(&mut text).await;
        }
        text.finish()
    }
}
