//! Which photos get the credits that there are, if nothing changes: no top-up, no refund, no other
//! budget, order, pace or hold. A plain calculation over the events of one organisation.

use std::collections::BTreeMap;

use super::{Class, Order};
use crate::ids::{EventId, Operation};

/// Photos of an event, by operation: each has a queue of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ByQueue([i64; 2]);

impl ByQueue {
    pub(super) fn of(&self, operation: Operation) -> i64 {
        self.0[operation as usize]
    }

    pub(super) fn add(&mut self, operation: Operation, photos: i64) {
        self.0[operation as usize] = self.of(operation).saturating_add(photos);
    }

    pub(super) fn sum(&self) -> i64 {
        self.0[0].saturating_add(self.0[1])
    }

    /// At most so many of each.
    fn up_to(&self, level: i64) -> i64 {
        self.0[0].min(level).saturating_add(self.0[1].min(level))
    }

    /// Shares what an event gets: its queues get the same, until one of them has enough.
    fn share(&self, gets: i64) -> Self {
        let [one, other] = self.0;
        let first = one.min((gets - other).max(gets - gets / 2));
        Self([first, gets - first])
    }
}

impl std::ops::AddAssign for ByQueue {
    fn add_assign(&mut self, more: Self) {
        for operation in Operation::ALL {
            self.add(operation, more.of(operation));
        }
    }
}

/// What an event wants, and what it may have.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub event: EventId,
    pub class: Class,
    pub turn: Option<i32>,
    /// Photos that wait in queues that nobody holds.
    pub runs: ByQueue,
    /// Credits that it may still use. `None`: any number.
    pub cap_left: Option<i64>,
    /// Credits that are kept for it. It uses these first.
    pub floor_left: i64,
}

#[derive(Debug)]
struct Asker<'a> {
    wish: &'a Wish,
    /// Photos that wait and may have a credit.
    wants: i64,
    gets: i64,
}

/// How many waiting photos of each event get a credit, under this order. `kept`: the credits that
/// are kept for all events of the organisation, also for those that wish nothing.
pub(super) fn forecast(
    available: i64,
    kept: i64,
    order: Order,
    wishes: &[Wish],
) -> BTreeMap<EventId, ByQueue> {
    let (mut left, mut free) = (available, (available - kept).max(0));
    let mut askers: Vec<_> = wishes
        .iter()
        .map(|wish| {
            let wants = wish.runs.sum().min(wish.cap_left.map_or(i64::MAX, |left| left.max(0)));
            Asker { wish, wants, gets: 0 }
        })
        .collect();
    askers.sort_by_key(|asker| rank(order, asker.wish));
    for sharers in
        askers.chunk_by_mut(|one, other| rank(order, one.wish) == rank(order, other.wish))
    {
        share(sharers, &mut left, &mut free);
    }
    askers.iter().map(|asker| (asker.wish.event, asker.wish.runs.share(asker.gets))).collect()
}

/// An event's place in the order: the lowest comes first, and equal ones share.
fn rank(order: Order, wish: &Wish) -> (i64, i64) {
    match order {
        Order::Fair => (0, 0),
        Order::Priority => (wish.class as i64, 0),
        Order::FinishFirst => (wish.turn.map_or(i64::MAX, i64::from), wish.event.0),
    }
}

/// Gives each queue that wants more and may have more the same number of credits. What is less than
/// one for each goes to the first of them. When nothing is free any more, those go on for whom
/// something is kept.
fn share(sharers: &mut [Asker<'_>], left: &mut i64, free: &mut i64) {
    give(sharers, left, free, |asker| asker.wants);
    give(sharers, left, &mut 0, |asker| asker.wants.min(asker.wish.floor_left));
}

/// Raises all queues to the highest equal level that there is enough for, each event up to `most`.
fn give(
    sharers: &mut [Asker<'_>],
    left: &mut i64,
    free: &mut i64,
    most: impl Fn(&Asker<'_>) -> i64,
) {
    // What an asker takes to come to this level.
    let takes = |asker: &Asker<'_>, level: i64| {
        most(asker).min(asker.wish.runs.up_to(level)).max(asker.gets) - asker.gets
    };
    // How much of it is not kept for it.
    let not_kept = |asker: &Asker<'_>, takes: i64| {
        let kept = asker.wish.floor_left;
        (asker.gets + takes - kept).max(0) - (asker.gets - kept).max(0)
    };
    let fits = |level: i64| {
        let (mut of_left, mut of_free) = (0_i64, 0_i64);
        for asker in &*sharers {
            let all = takes(asker, level);
            of_left = of_left.saturating_add(all);
            of_free = of_free.saturating_add(not_kept(asker, all));
        }
        of_left <= *left && of_free <= *free
    };
    let highest = sharers.iter().flat_map(|asker| asker.wish.runs.0).max().unwrap_or(0);
    let (mut level, mut too_high) = (0, highest + 1);
    while too_high - level > 1 {
        let middle = level + (too_high - level) / 2;
        if fits(middle) { level = middle } else { too_high = middle }
    }
    for level in [level, level + 1] {
        for asker in &mut *sharers {
            let may = (asker.wish.floor_left - asker.gets).max(0).saturating_add(*free);
            let all = takes(asker, level).min(*left).min(may);
            (*left, *free) = (*left - all, *free - not_kept(asker, all));
            asker.gets += all;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each event: what waits in its two queues, and what is kept for it.
    fn gets(available: i64, events: &[(i64, i64, i64)]) -> Vec<i64> {
        let wishes: Vec<_> = (1..)
            .zip(events)
            .map(|(event, (one, other, kept))| Wish {
                event: EventId(event),
                class: Class::Normal,
                turn: None,
                runs: ByQueue([*one, *other]),
                cap_left: None,
                floor_left: *kept,
            })
            .collect();
        let kept = events.iter().map(|event| event.2).sum();
        forecast(available, kept, Order::Fair, &wishes).values().map(ByQueue::sum).collect()
    }

    #[test]
    fn shares_are_equal_until_somebody_has_enough_and_what_is_kept_is_used_first() {
        assert_eq!(gets(10, &[(4, 0, 0), (100, 0, 0), (100, 0, 0)]), [4, 3, 3]);
        assert_eq!(gets(11, &[(4, 0, 0), (100, 0, 0), (100, 0, 0)]), [4, 4, 3]);
        assert_eq!(gets(20, &[(20, 0, 10), (20, 0, 0)]), [10, 10]);
        assert_eq!(gets(20, &[(20, 0, 15), (20, 0, 0)]), [15, 5]);
        // Fewer are available than are kept.
        assert_eq!(gets(5, &[(20, 0, 10), (20, 0, 10), (20, 0, 0)]), [3, 2, 0]);
        assert_eq!(gets(0, &[(20, 0, 10)]), [0]);
        assert_eq!(gets(5, &[]), [0; 0]);
        // An event with two queues has two shares. All that there is, is given.
        assert_eq!(gets(30, &[(100, 100, 0), (100, 0, 0)]), [20, 10]);
        assert_eq!(gets(31, &[(100, 100, 0), (100, 0, 0)]), [21, 10]);
        assert_eq!(gets(32, &[(100, 100, 0), (100, 0, 0)]), [22, 10]);
        assert_eq!(gets(31, &[(100, 0, 0), (100, 100, 0)]), [11, 20]);
        // Large numbers take no longer.
        let many = vec![(1_000_000_000, 0, 0); 10_000];
        assert_eq!(gets(1_000_000_000, &many)[9_999], 100_000);
    }

    #[test]
    fn the_queues_of_an_event_share_what_it_gets() {
        let share = |gets| ByQueue([10, 4]).share(gets).0;
        assert_eq!(
            [0, 1, 5, 8, 9, 14].map(share),
            [[0, 0], [1, 0], [3, 2], [4, 4], [5, 4], [10, 4]]
        );
        assert_eq!(ByQueue([3, 10]).share(9).0, [3, 6]);
    }
}
