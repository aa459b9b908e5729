//! Where tests end the process: the boundaries of what is stored, sent and answered.
//!
//! Only with the feature `fail-points`, which no release has, can a process be armed; without it a point is nothing.

/// Lists the points once, with their names.
macro_rules! points {
    ($($(#[doc = $meaning:literal])+ $point:ident $name:literal)+) => {
        /// A moment at which a crash must cost nothing. *Written* is in a transaction that is not yet committed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Point {
            $($(#[doc = $meaning])+ $point,)+
        }

        #[cfg(feature = "fail-points")]
        impl Point {
            /// All of them, in the order in which a post passes them.
            pub const ALL: &[Self] = &[$(Self::$point,)+];

            /// By which it is armed.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)+
                }
            }
        }
    };
}

points! {
    /// An occurrence is claimed: written.
    ClaimWritten "claim_written"
    /// The same: committed, and the node does not know it.
    Claimed "claimed"
    /// A pipeline has come to its end, of which nothing is stored.
    RunProduced "run_produced"
    /// Its posts, used items and outcome: written.
    RunWritten "run_written"
    /// The same: committed, and nobody has been told.
    RunRecorded "run_recorded"
    /// This node sends for a token from now on: committed.
    EgressTaken "egress_taken"
    /// Posts are leased, with their attempt rows: written.
    LeaseWritten "lease_written"
    /// The same: committed, and no request has left.
    PostsLeased "posts_leased"
    /// A request was sent, and the headers of its answer are here.
    AnswerBegun "answer_begun"
    /// The message is there, and what is to follow it (a thread, a crosspost) is not.
    FollowUpDue "follow_up_due"
    /// What the platform answered to a post is known, and not stored.
    AnswerRead "answer_read"
    /// What a look-up found is known, and not stored.
    LookedUp "looked_up"
    /// Ends of attempts: written.
    EndsWritten "ends_written"
    /// A receipt: committed.
    ReceiptStored "receipt_stored"
    /// That a post may be there: committed.
    DoubtStored "doubt_stored"
    /// That a post is not there, and is sent later: committed.
    RetryStored "retry_stored"
    /// That a person must decide: committed.
    ReviewStored "review_stored"
    /// What a dead node had is handed on: written.
    RescueWritten "rescue_written"
    /// The same: committed, and nobody has been told.
    Rescued "rescued"
    /// A node that stops gives back all it has: written.
    LeaveWritten "leave_written"
    /// The same: committed, and the process is still there.
    Left "left"
}

/// Ends the process here, if this is the time for which it was armed.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub fn pass(_: Point) {}

#[cfg(feature = "fail-points")]
pub use armed::{arm, pass};

#[cfg(feature = "fail-points")]
mod armed {
    use super::Point;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static ARMED: OnceLock<(Point, AtomicU32)> = OnceLock::new();

    /// At the `nth` passing of `point` this process aborts, as if it was killed. Only the first call counts.
    pub fn arm(point: Point, nth: u32) {
        ARMED.get_or_init(|| (point, AtomicU32::new(nth)));
    }

    /// Ends the process here, if this is the time for which it was armed.
    pub fn pass(point: Point) {
        if let Some((armed, left)) = ARMED.get()
            && *armed == point
            && left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            eprintln!("aborting at the fail point {}", point.name());
            std::process::abort();
        }
    }
}
