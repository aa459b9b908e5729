//! How much this node claims before it is due.

use chrono::TimeDelta;

/// Claimed work that waits for a slot longer than this says that too much was claimed.
const LATE: TimeDelta = TimeDelta::milliseconds(100);

/// The most that is ever claimed ahead.
const MOST: usize = 4_096;

/// Claims ahead of the slots that are free now. It grows while claims start on time, so that a thousand tasks due at one
/// instant are there when it comes, and shrinks when they wait for a slot: then another node may have one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    size: usize,
    slots: usize,
}

impl Window {
    pub(super) fn new(slots: usize) -> Self {
        Self { size: slots, slots }
    }

    /// How much more may be claimed, with so much claimed and not started.
    pub(super) fn room(&self, claimed: usize) -> usize {
        self.size.saturating_sub(claimed)
    }

    /// A claim has come: whether it took all the room, and how long what was claimed before it has waited for a slot.
    pub(super) fn claimed(&mut self, all_the_room: bool, waiting: TimeDelta) {
        if waiting > LATE {
            self.size = (self.size / 2).max(self.slots);
        } else if all_the_room && waiting < LATE / 2 {
            self.size = (self.size * 2).min(MOST.max(self.slots));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_thousands_within_a_few_claims_and_never_below_the_slots() {
        let mut window = Window::new(16);
        assert_eq!(window.room(16), 0);
        (0..20).for_each(|_| window.claimed(true, TimeDelta::zero()));
        assert_eq!(window.room(0), MOST);
        (0..20).for_each(|_| window.claimed(true, TimeDelta::seconds(1)));
        assert_eq!(window.room(0), 16);
    }

    #[test]
    fn it_stays_when_there_is_no_more_to_claim_and_when_slots_are_just_enough() {
        let mut window = Window::new(16);
        window.claimed(false, TimeDelta::zero());
        window.claimed(true, LATE);
        assert_eq!(window.room(0), 16);
    }
}
