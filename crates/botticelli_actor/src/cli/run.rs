//! `actor-server run`: the server, until a signal.

use super::args::GlobalArgs;
use super::load_config;
use crate::app::{App, AppParts};
use crate::clock::SystemClock;
use crate::config::env;
use crate::engine::node_name;
use botticelli_server::clock::Clock as _;
use botticelli_server::server::ActorServer as _;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

pub(super) async fn run(global: GlobalArgs) -> anyhow::Result<()> {
    let config = load_config(&global)?;
    let mut signals = Signals::new()?;
    let node = node_name(&env::host_name(), std::process::id(), SystemClock.now());
    let parts = AppParts::new(Arc::new(SystemClock), node.clone());
    let app = App::build(config, parts, Box::new(move || load_config(&global)));
    info!(%node, "starting");
    tokio::select! {
        started = app.start() => started?,
        () = signals.stop() => return Ok(()),
    }
    info!("running; Ctrl-C stops");
    let broke_down = loop {
        let told = tokio::select! {
            told = signals.next() => told,
            () = app.breaks_down() => break true,
        };
        match told {
            Told::Stop => break false,
            Told::Reload => {
                if let Err(error) = app.reload().await {
                    error!("not reloaded, the server goes on as before: {error}");
                }
            }
        }
    };
    if broke_down {
        error!("a part of the server has broken down: stopping, so that it can be started again");
    }
    info!("stopping; a second signal stops at once");
    tokio::select! {
        stopped = app.stop() => stopped?,
        () = signals.stop() => {
            warn!("stopped at once: what was running is handed on when its lease is over");
            anyhow::bail!("stopped by a second signal");
        }
    }
    info!("stopped");
    anyhow::ensure!(!broke_down, "a part of the server broke down; the log above says which");
    Ok(())
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    reload: Signal,
}

enum Told {
    Stop,
    Reload,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.terminate.recv() => Told::Stop,
            _ = self.reload.recv() => Told::Reload,
        }
    }

    /// Waits until this process is told to stop.
    async fn stop(&mut self) {
        while let Told::Reload = self.next().await {}
    }
}
