//! How far ahead of its slots a worker claims. A photo in hand is fetched, waits for a slot, has
//! one, or is settled. If the store is slow, slots can be idle although the worker has claimed as
//! much as it may. Then it claims further ahead; step by step less when all slots are busy, and as
//! at first when nothing waits any more.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// The time between two looks at the slots.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After so many looks in a row at which slots were idle, more is claimed: not while the first photos
/// after a pause are fetched.
const IDLE_LOOKS: u32 = 4;
/// After so many looks in a row at which all slots were busy, one photo less is claimed.
const BUSY_LOOKS: u32 = 20;

/// The room for photos beyond what the worker starts with.
#[derive(Debug)]
pub(super) struct Ahead {
    every: Interval,
    more: usize,
    more_max: usize,
    /// Room that is taken away again as soon as it is free: a part of `more`.
    too_much: usize,
    idle_looks: u32,
    busy_looks: u32,
}

impl Ahead {
    pub(super) fn new(more_max: usize) -> Self {
        let mut every = interval(LOOK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { every, more: 0, more_max, too_much: 0, idle_looks: 0, busy_looks: 0 }
    }

    /// Waits until it is time to look at the slots.
    pub(super) async fn is_due(&mut self) {
        self.every.tick().await;
    }

    /// Looks at the slots while there is no room left. Returns how much room to add.
    pub(super) fn look(&mut self, idle_slots: usize) -> usize {
        if idle_slots == 0 {
            self.idle_looks = 0;
            self.busy_looks += 1;
            if self.busy_looks == BUSY_LOOKS {
                self.busy_looks = 0;
                self.too_much = (self.too_much + 1).min(self.more);
            }
            return 0;
        }
        (self.too_much, self.busy_looks) = (0, 0);
        self.idle_looks += 1;
        if self.idle_looks < IDLE_LOOKS {
            return 0;
        }
        self.idle_looks = 0;
        let added = idle_slots.min(self.more_max - self.more);
        self.more += added;
        added
    }

    /// Nothing waits: what is claimed next may be claimed by others too.
    pub(super) fn rest(&mut self) {
        self.too_much = self.more;
        (self.idle_looks, self.busy_looks) = (0, 0);
        self.every.reset();
    }

    /// How much of this free room is to be taken away.
    pub(super) fn take_away(&mut self, free: usize) -> usize {
        let away = self.too_much.min(free);
        self.too_much -= away;
        self.more -= away;
        away
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_grows_while_slots_are_idle_up_to_a_bound_and_shrinks_when_all_are_busy() {
        let mut ahead = Ahead::new(5);
        let looks = |ahead: &mut Ahead, idle: &[usize]| -> usize {
            idle.iter().map(|idle| ahead.look(*idle)).sum()
        };
        assert_eq!(looks(&mut ahead, &[2, 2, 2, 0, 2, 2, 2, 0]), 0, "they were just claimed");
        assert_eq!(looks(&mut ahead, &[2, 2, 2, 1]), 1);
        assert_eq!(looks(&mut ahead, &[9; 20]), 4, "five in all");
        assert_eq!(ahead.take_away(9), 0);

        assert_eq!(looks(&mut ahead, &[0; 40]), 0);
        assert_eq!([1, 9, 9].map(|free| ahead.take_away(free)), [1, 1, 0]);
        assert_eq!(looks(&mut ahead, &[9; 4]), 2, "what was taken away can come again");

        looks(&mut ahead, &[0; 20]);
        looks(&mut ahead, &[1]);
        assert_eq!(ahead.take_away(9), 0, "a slot is idle again");
        looks(&mut ahead, &[0; 2000]);
        assert_eq!(ahead.take_away(9), 5, "and no more than was added");

        looks(&mut ahead, &[3; 4]);
        ahead.rest();
        assert_eq!([2, 9].map(|free| ahead.take_away(free)), [2, 1]);
    }
}
