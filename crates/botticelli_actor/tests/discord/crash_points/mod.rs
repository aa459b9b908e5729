//! The real binary, ended at every boundary of what is stored, sent and answered, and at any time; while Discord loses
//! requests and answers. Only the double's ledger judges what became of the posts.
//!
//! A run is made from a number. `CRASH_POINT_RUNS` says how many there are in each test, `CRASH_POINT_SEED` from which
//! on; CONTRIBUTING.md tells how to see one again.

mod home;
mod ways;

use crate::chance::seeds;
use crate::process::{Ended, PATIENCE, Server};
use botticelli_database::fail_points::Point;
use botticelli_testkit::random::Random;
use home::Home;
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use ways::{End, KINDS, Script};

const SIGABRT: i32 = 6;
const RUNNING: &str = "running; Ctrl-C stops";

#[derive(Clone, Copy)]
struct Cluster {
    name: &'static str,
    is_postgres: bool,
    /// So many nodes run beside the one that meets its end.
    others: usize,
}

#[test]
fn on_sqlite_every_post_appears_once_wherever_the_server_is_killed() {
    let cluster = Cluster { name: "on_sqlite", is_postgres: false, others: 0 };
    let passed = cluster.suffers(3 * KINDS);
    every_point_was_passed(&passed);
}

#[test]
fn on_postgresql_every_post_appears_once_wherever_the_server_is_killed() {
    let cluster = Cluster { name: "on_postgresql", is_postgres: true, others: 0 };
    let passed = cluster.suffers(KINDS);
    every_point_was_passed(&passed);
}

#[test]
fn in_a_cluster_every_post_appears_once_wherever_a_node_is_killed() {
    let cluster = Cluster { name: "in_a_cluster", is_postgres: true, others: 2 };
    cluster.suffers(KINDS);
}

/// Those that nothing passes show nothing.
fn every_point_was_passed(passed: &Option<BTreeSet<Point>>) {
    let Some(passed) = passed else { return };
    let missing: Vec<Point> = Point::ALL.iter().copied().filter(|point| !passed.contains(point)).collect();
    assert!(missing.is_empty(), "no run ended at {missing:?}");
}

impl Cluster {
    /// So many runs, or as many as the caller wishes. Returns the points at which processes ended, if the runs were
    /// enough to reach them all.
    fn suffers(self, share: u64) -> Option<BTreeSet<Point>> {
        let seeds = seeds("CRASH_POINT_SEED", "CRASH_POINT_RUNS", share);
        let (next, passed) = (AtomicU64::new(seeds.start), Mutex::new(BTreeSet::new()));
        let (has_failed, is_left_out) = (AtomicBool::new(false), AtomicBool::new(false));
        let worker = || {
            while !has_failed.load(Ordering::Relaxed) && !is_left_out.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if !seeds.contains(&seed) {
                    break;
                }
                let run = std::panic::AssertUnwindSafe(|| self.run(seed));
                match std::panic::catch_unwind(run) {
                    Ok(Some(points)) => passed.lock().unwrap_or_else(PoisonError::into_inner).extend(points),
                    Ok(None) => is_left_out.store(true, Ordering::Relaxed),
                    Err(panic) => {
                        has_failed.store(true, Ordering::Relaxed);
                        eprintln!("failed: {}", self.story(seed));
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        };
        // They wait as long as they compute.
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..3).map(|_| scope.spawn(worker)).collect();
            for worker in workers {
                if let Err(panic) = worker.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        });
        let is_enough = seeds.end - seeds.start >= KINDS && !is_left_out.into_inner();
        is_enough.then(|| passed.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn story(self, seed: u64) -> String {
        format!(
            "seed {seed}, to be seen again with CRASH_POINT_SEED={seed} CRASH_POINT_RUNS=1 scripts/test.sh -- \
             -p botticelli_actor --test discord crash_points::{}",
            self.name
        )
    }

    /// One run. `None`: the tests are to go without this database.
    fn run(self, seed: u64) -> Option<Vec<Point>> {
        let mut random = Random(seed);
        let home = Home::new(seed, &mut random, self.is_postgres)?;
        let script = Script::of(seed, &mut random);
        println!("{}: {script:?}", self.story(seed));
        script.arm(&mut random, &home.double);
        let mut others: Vec<Server> = Vec::new();
        let mut passed = Vec::new();
        for (end, pause) in script.ends.iter().zip(&script.pauses) {
            let server = home.start(armed(end));
            while others.len() < self.others {
                others.push(home.start(None));
            }
            passed.extend(meets_its_end(&home, server, end));
            if self.others == 0 {
                home.pass(*pause);
            }
            home.double.release();
        }
        home.double.clear_faults();
        let server = home.start(None);
        home.until_settled(|| false);
        for server in others.into_iter().chain([server]) {
            // Before that a signal ends it at once.
            server.says(RUNNING);
            server.stop();
        }
        home.judge(self.story(seed));
        Some(passed)
    }
}

fn armed(end: &End) -> Option<(Point, u32)> {
    match end {
        End::At(point, nth) => Some((*point, *nth)),
        End::WhileStopping(point) => Some((*point, 1)),
        End::AnswerHeld { .. } | End::RequestHeld { .. } | End::AtAnyTime(_) => None,
    }
}

/// At which point it ended, if it was at one. It may have had nothing to do there.
fn meets_its_end(home: &Home, mut server: Server, end: &End) -> Option<Point> {
    match end {
        End::At(point, _) => {
            home.until_settled(|| !server.lives());
            match server.lives() {
                true => {
                    server.kill();
                    None
                }
                false => aborted(server.ended_within(PATIENCE), *point),
            }
        }
        End::WhileStopping(point) => {
            server.says(RUNNING);
            server.signal("TERM");
            aborted(server.ended_within(PATIENCE), *point)
        }
        End::AnswerHeld { .. } | End::RequestHeld { .. } => {
            let is_held = |double: &discord_double::Double| {
                let mut faults = double.requests().into_iter().filter_map(|request| request.fault);
                faults.any(|fault| fault.starts_with("hold_")).then_some(())
            };
            home.until(is_held);
            server.kill();
            None
        }
        End::AtAnyTime(after) => {
            std::thread::sleep(*after);
            server.kill();
            None
        }
    }
}

fn aborted(ended: Ended, point: Point) -> Option<Point> {
    assert_eq!(ended.status.signal(), Some(SIGABRT), "it ended by itself:\n{}", ended.err);
    let words = format!("aborting at the fail point {}", point.name());
    assert!(ended.err.contains(&words), "{}", ended.err);
    Some(point)
}
