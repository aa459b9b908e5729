//! The double as tests hold it.

use crate::change::Change;
use crate::clock::Clock;
use crate::control;
use crate::faults::Fault;
use crate::id::Id;
use crate::ledger::{Entry, Ledger, Visible};
use crate::permissions::{self, Permissions};
use crate::scenario::{self, ScenarioError};
use crate::server::{self, Shared};
use crate::state::{Request, Settings, State};
use crate::world::World;
use serde_json::{Value, json};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout_at};

/// How to start a double. The default is the standard world on a free port, with everything as it is commonly seen.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where Discord's API listens.
    pub listen: SocketAddr,
    /// Where the control server listens, if there shall be one.
    pub control: Option<SocketAddr>,
    /// The clock.
    pub clock: Clock,
    /// Decides what is left to chance: faults with a probability, names of buckets.
    pub seed: u64,
    /// What exists.
    pub world: World,
    /// How it behaves.
    pub settings: Settings,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Where the ledger is also kept. If the file is there, the double goes on with it: the messages in it count as
    /// visible, but are not served to clients.
    pub ledger: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            control: None,
            clock: Clock::system(),
            seed: 0,
            world: World::standard(),
            settings: Settings::default(),
            faults: Vec::new(),
            ledger: None,
        }
    }
}

/// Why a double did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or not ours.
    #[error("can't listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The ledger's file can't be read or written, or is no ledger.
    #[error("can't use the ledger {path}")]
    Ledger {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A fault can't be, or a setting names what does not exist.
    #[error(transparent)]
    Plan(#[from] ScenarioError),
    /// No thread or no runtime.
    #[error("can't start a thread")]
    Thread(#[source] io::Error),
}

/// A running double. It has a thread and a runtime of its own, so it also answers clients that block. Dropping it
/// ends it.
#[derive(Debug)]
pub struct Double {
    shared: Arc<Shared>,
    address: SocketAddr,
    control: Option<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

impl Double {
    /// Starts a double. It answers as soon as this returns.
    ///
    /// # Errors
    /// The address or the ledger's file can't be used.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let Options { listen, control, clock, seed, world, settings, faults, ledger } = options;
        faults.iter().try_for_each(scenario::check)?;
        scenario::check_limits(&settings.limits)?;
        let ledger = match ledger {
            Some(path) => Ledger::open(&path).map_err(|source| StartError::Ledger { path, source })?,
            None => Ledger::default(),
        };
        let mut state = State::new(world, clock, settings, seed, ledger);
        faults.into_iter().for_each(|fault| state.faults.add(fault));
        let shared = Arc::new(Shared::new(state));
        let (address, listener) = bind(listen)?;
        let control = control.map(bind).transpose()?;
        let control_address = control.as_ref().map(|(address, _)| *address);
        let serving = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("discord-double".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime needs no more than a thread, and here it is");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("the listener is non-blocking");
                let api = server::run(listener, server::api(&serving), serving.stop.clone());
                let Some((control_address, control)) = control else { return api.await };
                let control = TcpListener::from_std(control).expect("the listener is non-blocking");
                let about = about(&serving.state().world, address, Some(control_address));
                let control = server::run(control, control::router(&serving, about), serving.stop.clone());
                tokio::join!(api, control);
            });
        });
        Ok(Self {
            shared,
            address,
            control: control_address,
            thread: Some(thread.map_err(StartError::Thread)?),
        })
    }

    /// Where clients find the API: `http://127.0.0.1:PORT/api/v10`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/api/v10", self.address)
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the control server answers, if there is one: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn control_url(&self) -> Option<String> {
        self.control.map(|address| format!("http://{address}"))
    }

    /// URLs, tokens and ids as JSON: what a person or a script needs to begin.
    #[must_use]
    pub fn about(&self) -> Value {
        about(&self.shared.state().world, self.address, self.control)
    }

    /// Its clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.shared.state().clock.clone()
    }

    /// What people see in a channel now, oldest first.
    #[must_use]
    pub fn visible(&self, channel: Id) -> Vec<Visible> {
        self.shared.state().ledger.visible_in(channel).cloned().collect()
    }

    /// What people see in all channels now, by channel, oldest first.
    #[must_use]
    pub fn all_visible(&self) -> Vec<Visible> {
        self.shared.state().ledger.visible().cloned().collect()
    }

    /// All that ever happened to messages.
    #[must_use]
    pub fn ledger(&self) -> Vec<Entry> {
        self.shared.state().ledger.entries().to_vec()
    }

    /// The requests that came in, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.iter().cloned().collect()
    }

    /// How many requests ever counted as invalid (401, 403, 429 but shared ones).
    #[must_use]
    pub fn invalid_requests(&self) -> u64 {
        self.shared.state().invalid.total()
    }

    /// How many requests ever went to webhooks that were gone.
    #[must_use]
    pub fn dead_webhook_requests(&self) -> u32 {
        self.shared.state().invalid.dead_webhook_requests()
    }

    /// The addresses that sent requests which count as invalid, and how many in the window that ends now.
    #[must_use]
    pub fn invalid_in_window(&self) -> Vec<(IpAddr, usize)> {
        let state = self.shared.state();
        state.invalid.in_window(&state.settings.ban, state.clock.now())
    }

    /// Arms a fault; without conditions it strikes the next request.
    ///
    /// # Panics
    /// If it names a route that does not exist, or a probability that is none.
    pub fn next(&self, fault: impl Into<Fault>) {
        let fault = fault.into();
        scenario::check(&fault).unwrap_or_else(|error| panic!("{error}"));
        self.shared.update(|state| state.faults.add(fault));
    }

    /// Disarms all faults.
    pub fn clear_faults(&self) {
        self.shared.update(|state| state.faults.clear());
    }

    /// The faults that are armed.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.shared.state().faults.armed()
    }

    /// Lets go of the requests and replies that are held now.
    pub fn release(&self) {
        self.shared.release();
    }

    /// Changes the world.
    ///
    /// # Errors
    /// What the change names does not exist.
    pub fn change(&self, change: Change) -> Result<(), String> {
        self.shared.update(|state| change.apply(state))
    }

    /// Changes the world in any way.
    pub fn world<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        self.shared.update(|state| change(&mut state.world))
    }

    /// Changes how it behaves.
    pub fn settings(&self, change: impl FnOnce(&mut Settings)) {
        self.shared.update(|state| change(&mut state.settings));
    }

    /// What a user may do in a channel.
    #[must_use]
    pub fn permissions(&self, user: Id, channel: Id) -> Permissions {
        let state = self.shared.state();
        let channel = state.world.channel(channel);
        channel.map_or(Permissions::NONE, |channel| {
            permissions::in_channel(&state.world, user, channel, state.clock.now())
        })
    }

    /// Waits until `found` finds something. It is asked after each request and each change.
    ///
    /// # Panics
    /// After 60 seconds: what a test waits for so long does not come.
    pub async fn until<T>(&self, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let mut changes = self.shared.changes();
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            changes.mark_unchanged();
            if let Some(found) = found(self) {
                return found;
            }
            let changed = timeout_at(end, changes.changed()).await.expect("waited for 60 seconds");
            changed.expect("the double is there, so its changes are too");
        }
    }

    /// Waits until a channel has so many visible messages, and returns them.
    ///
    /// # Panics
    /// After 60 seconds.
    pub async fn until_visible(&self, channel: Id, count: usize) -> Vec<Visible> {
        self.until(|double| Some(double.visible(channel)).filter(|visible| visible.len() >= count)).await
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("discord-double: its thread panicked");
        }
    }
}

fn about(world: &World, api: SocketAddr, control: Option<SocketAddr>) -> Value {
    let base_url = format!("http://{api}/api/v10");
    let webhooks = world.webhooks.values();
    let webhooks: Vec<_> = webhooks
        .map(|hook| {
            let url = format!("{base_url}/webhooks/{}/{}", hook.id, hook.token);
            json!({"channel_id": hook.channel_id, "url": url})
        })
        .collect();
    let channels = world.channels.values();
    let channels: Vec<_> = channels
        .map(|channel| json!({"id": channel.id, "name": channel.name, "kind": channel.kind}))
        .collect();
    json!({
        "base_url": base_url,
        "control_url": control.map(|address| format!("http://{address}")),
        "bot_tokens": world.tokens.keys().collect::<Vec<_>>(),
        "guilds": world.guilds.values().map(|guild| json!({"id": guild.id, "name": guild.name})).collect::<Vec<_>>(),
        "channels": channels,
        "webhooks": webhooks,
    })
}

fn bind(address: SocketAddr) -> Result<(SocketAddr, std::net::TcpListener), StartError> {
    let listen = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok((listener.local_addr()?, listener))
    };
    listen().map_err(|source| StartError::Listen { address, source })
}
