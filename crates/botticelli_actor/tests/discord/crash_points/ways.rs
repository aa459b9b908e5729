//! How processes meet their end, and what leads them there.

use crate::storm;
use botticelli_database::fail_points::Point;
use botticelli_testkit::random::Random;
use discord_double::{Double, Fault, Scope, What};
use std::time::Duration;

/// The end of one process.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// It aborts at the nth passing of a point.
    At(Point, u32),
    /// The same, while it stops because it was told to.
    WhileStopping(Point),
    /// `kill -9` while Discord has taken a request, and holds the answer.
    AnswerHeld { after: u32 },
    /// `kill -9` while a request is on its way, which Discord takes afterwards.
    RequestHeld { after: u32 },
    /// `kill -9` so long after it started.
    AtAnyTime(Duration),
}

/// What happens in a run, up to where all goes well.
#[derive(Debug)]
pub(super) struct Script {
    /// One after the other. Never three: what dies with its server three times is given up.
    pub(super) ends: Vec<End>,
    /// So long nobody runs after each of them.
    pub(super) pauses: Vec<Duration>,
}

/// So many ends there are to choose from.
pub(super) const KINDS: u64 = Point::ALL.len() as u64 + 3;

/// After this nothing recognises a nonce any more, and the history tells.
const WINDOW_OVER: Duration = Duration::from_secs(100);

impl Script {
    /// Its seed says where it ends first, so that some seeds in a row have them all.
    pub(super) fn of(seed: u64, random: &mut Random) -> Self {
        let nth = 1 + u32::try_from(random.below(2)).expect("small");
        let kind = usize::try_from(seed % KINDS).expect("small");
        let end = match Point::ALL.get(kind) {
            Some(point) => at(*point, nth),
            None if kind == Point::ALL.len() => End::AnswerHeld { after: nth },
            None if kind == Point::ALL.len() + 1 => End::RequestHeld { after: nth },
            None => End::AtAnyTime(Duration::from_micros(random.below(600_000))),
        };
        let ends = match end {
            // Somebody must have died, or been in doubt, before.
            End::At(Point::LookedUp, _) => vec![End::At(Point::AnswerRead, nth), end],
            End::At(Point::RescueWritten | Point::Rescued, _) => {
                vec![End::At(*random.of(&[Point::Claimed, Point::PostsLeased, Point::AnswerRead]), 1), end]
            }
            _ if random.one_in(2) => vec![end, anything(random)],
            _ => vec![end],
        };
        let pause = |end: &End| match end {
            // It arrives while a request can still be on its way.
            End::RequestHeld { .. } => Duration::from_secs(random.below(10)),
            _ if matches!(ends.last(), Some(End::At(Point::LookedUp, _))) => WINDOW_OVER,
            _ => *random.of(&[Duration::ZERO, Duration::from_secs(5), Duration::from_secs(35), WINDOW_OVER]),
        };
        let pauses = ends.iter().map(pause).collect();
        Self { ends, pauses }
    }

    /// What must go wrong so that the points are passed; then what else does.
    pub(super) fn arm(&self, random: &mut Random, double: &Double) {
        for fault in self.ends.iter().filter_map(needed) {
            double.next(fault);
        }
        if !random.one_in(4) {
            storm::bad_luck(random, double, Duration::from_millis(1_200), Duration::from_secs(10));
        }
    }
}

fn at(point: Point, nth: u32) -> End {
    match point {
        Point::LeaveWritten | Point::Left => End::WhileStopping(point),
        Point::RunProduced
        | Point::LeaseWritten
        | Point::PostsLeased
        | Point::AnswerBegun
        | Point::AnswerRead
        | Point::EndsWritten
        | Point::ReceiptStored => End::At(point, nth),
        // They are passed once, or not for sure a second time.
        _ => End::At(point, 1),
    }
}

fn anything(random: &mut Random) -> End {
    match random.below(3) {
        0 => End::AtAnyTime(Duration::from_micros(random.below(600_000))),
        _ => at(*random.of(Point::ALL), 1),
    }
}

fn needed(end: &End) -> Option<Fault> {
    let on = |route: &str, what: What| Some(Fault::from(what).on_route(route));
    let later =
        What::RateLimit { scope: Scope::User, retry_after_seconds: 3.0, header_seconds: None, code: 0 };
    match end {
        End::At(Point::DoubtStored, _) => on("create_message", What::DropReply),
        End::At(Point::RetryStored, _) => on("create_message", later),
        End::At(Point::ReviewStored, _) => on("execute_webhook", What::DropReply),
        End::AnswerHeld { after } => on("create_message", What::HoldReply).map(|fault| fault.after(*after)),
        End::RequestHeld { after } => {
            on("create_message", What::HoldRequest).map(|fault| fault.after(*after))
        }
        End::At(..) | End::WhileStopping(_) | End::AtAnyTime(_) => None,
    }
}
