//! How long after its nominal time an actor starts.

use crate::harness::{Database, Noop, open, register, serve, task};
use botticelli_actor::clock::SystemClock;
use botticelli_server::clock::Clock as _;
use botticelli_server::schedule::{IntervalSchedule, OnceSchedule, ScheduleType};
use chrono::TimeDelta;
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    kind: Kind,
}

enum Kind {
    /// A period of one second, the times spread over it.
    Spread,
    /// A period of one second, all at the same instant.
    SameInstant,
    /// Due once, at one second, among many that are not.
    AmongIdle(usize),
}

pub(crate) const CASES: &[Case] = &[
    Case { name: "lateness_1000_spread", kind: Kind::Spread },
    Case { name: "lateness_1000_same_instant", kind: Kind::SameInstant },
    Case { name: "lateness_1000_among_100000_idle", kind: Kind::AmongIdle(100_000) },
];

const DUE: usize = 1_000;
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURE: Duration = Duration::from_secs(15);

pub(crate) async fn measure(database: &Database, case: &Case) -> Vec<(&'static str, f64)> {
    let fresh = database.fresh().await;
    let store = open(&fresh).await;
    let actor = Arc::new(Noop::default());
    let every_second = || ScheduleType::Interval(IntervalSchedule::new(1).expect("a second"));
    let mut tasks: Vec<_> = (0..DUE).map(|number| task(number, every_second())).collect();
    match case.kind {
        Kind::Spread => {
            // First seen one after the other, each keeps its place in the second.
            let start = SystemClock.now() + TimeDelta::milliseconds(100);
            for (number, task) in tasks.iter().enumerate() {
                let place = TimeDelta::milliseconds(i64::try_from(number).expect("small"));
                SystemClock.sleep_until(start + place).await;
                register(&store, vec![task.clone()]).await;
            }
        }
        Kind::SameInstant => register(&store, tasks.clone()).await,
        Kind::AmongIdle(idle) => {
            let at = SystemClock.now() + TimeDelta::from_std(idle_set_up(idle)).expect("small");
            let once = |at| ScheduleType::Once(OnceSchedule::new(at));
            tasks = (0..DUE).map(|number| task(number, once(at))).collect();
            tasks.extend((DUE..DUE + idle).map(|number| task(number, once(at + TimeDelta::days(300)))));
            register(&store, tasks.clone()).await;
        }
    }
    let serving = serve(&store, tasks, actor.clone()).await;
    let late = match case.kind {
        Kind::Spread | Kind::SameInstant => {
            tokio::time::sleep(WARM_UP).await;
            actor.started.lock().expect("no panic").clear();
            tokio::time::sleep(MEASURE).await;
            let expected = DUE * usize::try_from(MEASURE.as_secs()).expect("small");
            let late = milliseconds(&actor);
            assert!(late.len() * 10 > expected * 9, "{} of {expected} ran", late.len());
            late
        }
        Kind::AmongIdle(idle) => {
            actor.until.store(DUE, std::sync::atomic::Ordering::Relaxed);
            let patience = idle_set_up(idle) + Duration::from_secs(60);
            tokio::time::timeout(patience, actor.done.notified()).await.expect("all due tasks run");
            milliseconds(&actor)
        }
    };
    serving.stop().await;
    drop(store);
    fresh.end().await;
    figures(late)
}

/// Registering so many takes this long at most.
fn idle_set_up(idle: usize) -> Duration {
    Duration::from_secs(10 + u64::try_from(idle).expect("small") / 5_000)
}

fn milliseconds(actor: &Noop) -> Vec<f64> {
    let started = actor.started.lock().expect("no panic");
    let late = |late: &TimeDelta| late.num_microseconds().map_or(f64::MAX, |us| us as f64 / 1_000.0);
    started.iter().map(|(_, lateness)| late(lateness)).collect()
}

/// The 50th and the 99th percentile, and the worst.
pub(crate) fn figures(mut late: Vec<f64>) -> Vec<(&'static str, f64)> {
    late.sort_by(f64::total_cmp);
    let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize];
    vec![("p50", at(0.5)), ("p99", at(0.99)), ("max", at(1.0)), ("started", late.len() as f64)]
}
