//! How much this node claims before it is due.

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

    /// A claim used all the room, and what was claimed before it has started.
    pub(super) fn grow(&mut self) {
        self.size = (self.size * 2).min(MOST.max(self.slots));
    }

    /// Claimed work is late for want of a slot.
    pub(super) fn shrink(&mut self) {
        self.size = (self.size / 2).max(self.slots);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_thousands_within_a_few_claims_and_never_below_the_slots() {
        let mut window = Window::new(16);
        assert_eq!(window.room(16), 0);
        (0..20).for_each(|_| window.grow());
        assert_eq!(window.room(0), MOST);
        (0..20).for_each(|_| window.shrink());
        assert_eq!(window.room(0), 16);
    }
}
