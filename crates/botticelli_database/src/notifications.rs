//! Notifications of PostgreSQL: who listens to which channel, and listening.
//!
//! They are not durable: what is notified while nobody listens is lost. So one node at a time listens, and the database
//! knows up to when it has heard everything.

use crate::postgres::{CHANNEL, chain, plain_connection};
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client};

/// Whether this is the channel on which the servers wake each other.
pub fn is_own_channel(name: &str) -> bool {
    name == CHANNEL
}

/// What a node has of a channel that it listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Up to when all notifications were heard, by whichever node; `None`: nobody has listened yet.
    pub until: Option<DateTime<Utc>>,
    /// The store's time.
    pub now: DateTime<Utc>,
}

/// Why nothing is heard any more.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// There is no connection, or the database does not let us listen.
    #[error("no connection: {0}")]
    Connect(String),
    /// There was a connection.
    #[error("the connection was lost: {0}")]
    Lost(String),
}

/// So many notifications wait in memory; further ones wait with PostgreSQL.
const IN_MEMORY: usize = 1_000;
/// A database that does not answer for so long is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The notifications of one channel, on a connection of their own.
pub struct Notifications {
    client: Arc<Client>,
    payloads: mpsc::Receiver<String>,
    driver: JoinHandle<String>,
}

impl Notifications {
    /// Listens. What is notified from the answer on is heard.
    ///
    /// # Errors
    /// When the database can't be reached, or refuses.
    pub async fn listen(url: &str, channel: &str) -> Result<Self, ListenError> {
        let failed = |error: &tokio_postgres::Error| ListenError::Connect(chain(error));
        let (client, mut connection) = plain_connection(url).await.map_err(|error| failed(&error))?;
        let (sender, payloads) = mpsc::channel(IN_MEMORY);
        let driver = tokio::spawn(async move {
            loop {
                let message = std::future::poll_fn(|context| connection.poll_message(context)).await;
                match message {
                    // Whoever listened has gone when nobody takes it.
                    Some(Ok(AsyncMessage::Notification(heard))) => {
                        if sender.send(heard.payload().to_owned()).await.is_err() {
                            return "nobody listens".to_owned();
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return chain(&error),
                    None => return "the database closed it".to_owned(),
                }
            }
        });
        let listening = Self { client: Arc::new(client), payloads, driver };
        // Channel names are checked; a quoted one can't hold more than its name.
        let listen = format!("LISTEN \"{}\"", channel.replace('"', "\"\""));
        match tokio::time::timeout(PATIENCE, listening.client.batch_execute(&listen)).await {
            Ok(Ok(())) => Ok(listening),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(ListenError::Connect("the database does not answer".into())),
        }
    }

    /// The next payload. Cancelling this loses none.
    ///
    /// # Errors
    /// When the connection is lost, and all that came before was taken.
    pub async fn next(&mut self) -> Result<String, ListenError> {
        match self.payloads.recv().await {
            Some(payload) => Ok(payload),
            None => {
                let why = (&mut self.driver).await;
                Err(ListenError::Lost(why.unwrap_or_else(|error| error.to_string())))
            }
        }
    }

    /// How many payloads have come and were not taken.
    pub fn waiting(&self) -> usize {
        self.payloads.len()
    }

    /// Asks the database something. After its answer, all that was notified before the question has come.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn pulse(&self) -> impl Future<Output = Result<(), ListenError>> + Send + 'static {
        let client = self.client.clone();
        async move {
            match tokio::time::timeout(PATIENCE, client.batch_execute("SELECT 1")).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(ListenError::Lost(chain(&error))),
                Err(_) => Err(ListenError::Lost("the database does not answer".into())),
            }
        }
    }
}

impl Drop for Notifications {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
