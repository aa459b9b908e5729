//! `actor-server run`: the server, until a signal.

use super::args::GlobalArgs;
use super::watch::{LastLoad, Watch};
use super::{load_noting, supervisor};
use crate::app::{App, AppError, AppParts};
use crate::clock::SystemClock;
use crate::config::{Files, LoadedConfig, Problems, env};
use crate::engine::node_name;
use botticelli_server::clock::Clock;
use botticelli_server::server::ActorServer as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

pub(super) async fn run(global: GlobalArgs) -> anyhow::Result<()> {
    let last_load = LastLoad::default();
    let config = load_runnable(&global, &last_load)?;
    let mut watch = config.settings.watch.then(|| Watch::new(last_load.clone()));
    let mut signals = Signals::new()?;
    let node = node_name(&env::host_name(), std::process::id(), SystemClock.now());
    let parts = AppParts::new(&config, clock()?, node.clone())?;
    let app = App::build(config, parts, Box::new(move || load_runnable(&global, &last_load)));
    info!(%node, "starting");
    tokio::select! {
        started = app.start() => started?,
        _ = signals.stop() => return Ok(()),
    }
    info!("running; Ctrl-C stops");
    supervisor::ready();
    let _watched = supervisor::keep_watchdog_quiet(app.engine().await);
    let first = loop {
        let told = tokio::select! {
            told = signals.next() => told,
            () = changed(watch.as_mut()) => Told::Reload,
            () = app.breaks_down() => break None,
        };
        match told {
            Told::Stop(signal) => break Some(signal),
            Told::Reload => {
                info!("reloading the configuration");
                supervisor::reloading();
                tokio::select! {
                    reloaded = app.reload() => {
                        if let Some(watch) = &mut watch {
                            watch.note(matches!(&reloaded, Err(error) if !matches!(error, AppError::Config(_))));
                        }
                        if let Err(error) = reloaded {
                            error!("not reloaded, the server goes on as before: {error}");
                        }
                    }
                    // A database that does not answer keeps a reload waiting, but nobody who wants the server to end.
                    signal = signals.stop() => break Some(signal),
                }
                supervisor::ready();
            }
        }
    };
    let broke_down = first.is_none();
    if broke_down {
        error!("a part of the server has broken down: stopping, so that it can be started again");
    }
    info!("stopping; a second signal stops at once");
    supervisor::stopping();
    tokio::select! {
        stopped = app.stop() => stopped?,
        () = signals.stop_again(first) => {
            warn!("stopped at once: what was running is handed on when its lease is over");
            anyhow::bail!("stopped by a second signal");
        }
    }
    info!("stopped");
    anyhow::ensure!(!broke_down, "a part of the server broke down; the log above says which");
    Ok(())
}

#[cfg(not(feature = "fail-points"))]
fn clock() -> anyhow::Result<Arc<dyn Clock>> {
    Ok(Arc::new(SystemClock))
}

#[cfg(feature = "fail-points")]
fn clock() -> anyhow::Result<Arc<dyn Clock>> {
    crate::rehearsal::begin()
}

async fn changed(watch: Option<&mut Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// The configuration, if all of its tasks can run, or the others shall.
fn load_runnable(global: &GlobalArgs, last_load: &LastLoad) -> Result<LoadedConfig, Problems> {
    let mut files = Files::default();
    let config = load_noting(global, &mut files);
    last_load.note(files);
    let config = config?;
    let problems: Vec<_> = config.without_token().into_iter().map(|(_, problem)| problem).collect();
    if problems.is_empty() || global.allow_degraded { Ok(config) } else { Err(Problems(problems)) }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    reload: Signal,
}

enum Told {
    Stop(SignalKind),
    Reload,
}

/// Supervisors tell a process and its group, which is the same signal twice.
const ECHO: Duration = Duration::from_millis(500);

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
            _ = self.interrupt.recv() => Told::Stop(SignalKind::interrupt()),
            _ = self.terminate.recv() => Told::Stop(SignalKind::terminate()),
            _ = self.reload.recv() => Told::Reload,
        }
    }

    /// Waits until this process is told to stop.
    async fn stop(&mut self) -> SignalKind {
        loop {
            if let Told::Stop(signal) = self.next().await {
                return signal;
            }
        }
    }

    /// Waits until it is told so again, and not only by the echo of the first time.
    async fn stop_again(&mut self, first: Option<SignalKind>) {
        let echo_ends = Instant::now() + ECHO;
        while Some(self.stop().await) == first && Instant::now() < echo_ends {}
    }
}
