//! Which photos get the credits that there are, if nothing changes: no top-up, no refund, no other
//! budget or order. A plain calculation over the events of one organisation.

use super::{EventSpending, Order};
use crate::ids::EventId;

/// What an event wants, and what it may have.
#[derive(Debug, Clone)]
struct Asker {
    event: EventId,
    /// Its place in the order: the lowest comes first, and equal ones share.
    rank: (i64, i64),
    /// Photos that wait and may have a credit.
    wants: i64,
    /// Credits that are kept for it. It uses these first.
    own: i64,
    gets: i64,
}

/// How many waiting photos of each event get a credit, under this order. Events that are held get
/// none.
pub(super) fn forecast(
    available: i64,
    order: Order,
    events: &[EventSpending],
) -> Vec<(EventId, i64)> {
    let kept: i64 = events.iter().map(|event| event.floor_left.0).sum();
    let (mut left, mut free) = (available, (available - kept).max(0));
    let mut askers: Vec<_> = events
        .iter()
        .map(|event| Asker {
            event: event.event,
            rank: rank(order, event),
            wants: event.runs.min(event.cap_left.map_or(i64::MAX, |left| left.0.max(0))),
            own: event.floor_left.0,
            gets: 0,
        })
        .collect();
    askers.sort_by_key(|asker| asker.rank);
    for sharers in askers.chunk_by_mut(|one, other| one.rank == other.rank) {
        share(sharers, &mut left, &mut free);
    }
    askers.into_iter().map(|asker| (asker.event, asker.gets)).collect()
}

fn rank(order: Order, event: &EventSpending) -> (i64, i64) {
    match order {
        Order::Fair => (0, 0),
        Order::Priority => (event.class as i64, 0),
        Order::FinishFirst => (event.turn.map_or(i64::MAX, i64::from), event.event.0),
    }
}

/// Gives each who wants more and may have more the same number of credits. What is less than one
/// for each goes to the first of them. When nothing is free any more, those go on for whom
/// something is kept.
fn share(sharers: &mut [Asker], left: &mut i64, free: &mut i64) {
    give(sharers, left, free, |asker| asker.wants);
    give(sharers, left, &mut 0, |asker| asker.wants.min(asker.own));
}

/// Raises all to the highest equal level that there is enough for, each up to `most`.
fn give(sharers: &mut [Asker], left: &mut i64, free: &mut i64, most: impl Fn(&Asker) -> i64) {
    // What an asker takes to come to this level, and how much of it is not kept for it.
    let takes = |asker: &Asker, level: i64| {
        let gets = most(asker).min(level).max(asker.gets);
        (gets - asker.gets, (gets - asker.own).max(0) - (asker.gets - asker.own).max(0))
    };
    let fits = |level: i64| {
        let (mut of_left, mut of_free) = (0_i64, 0_i64);
        for asker in &*sharers {
            let (all, not_kept) = takes(asker, level);
            of_left = of_left.saturating_add(all);
            of_free = of_free.saturating_add(not_kept);
        }
        of_left <= *left && of_free <= *free
    };
    let (mut level, mut too_high) = (0, sharers.iter().map(&most).max().unwrap_or(0) + 1);
    while too_high - level > 1 {
        let middle = level + (too_high - level) / 2;
        if fits(middle) { level = middle } else { too_high = middle }
    }
    for level in [level, level + 1] {
        for asker in &mut *sharers {
            let (all, not_kept) = takes(asker, level);
            if all <= *left && not_kept <= *free {
                (*left, *free) = (*left - all, *free - not_kept);
                asker.gets += all;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gets(left: i64, free: i64, askers: &[(i64, i64)]) -> Vec<i64> {
        let mut askers: Vec<_> = askers
            .iter()
            .map(|(wants, own)| Asker {
                event: EventId(1),
                rank: (0, 0),
                wants: *wants,
                own: *own,
                gets: 0,
            })
            .collect();
        share(&mut askers, &mut { left }, &mut { free });
        askers.iter().map(|asker| asker.gets).collect()
    }

    #[test]
    fn shares_are_equal_until_somebody_has_enough_and_what_is_kept_is_used_first() {
        assert_eq!(gets(10, 10, &[(4, 0), (100, 0), (100, 0)]), [4, 3, 3]);
        assert_eq!(gets(11, 11, &[(4, 0), (100, 0), (100, 0)]), [4, 4, 3]);
        assert_eq!(gets(20, 10, &[(20, 10), (20, 0)]), [10, 10]);
        assert_eq!(gets(20, 5, &[(20, 15), (20, 0)]), [15, 5]);
        // Fewer are available than are kept.
        assert_eq!(gets(5, 0, &[(20, 10), (20, 10), (20, 0)]), [3, 2, 0]);
        assert_eq!(gets(0, 0, &[(20, 10)]), [0]);
        assert_eq!(gets(5, 5, &[]), [0; 0]);
        // Large numbers take no longer.
        let many = vec![(1_000_000_000, 0); 10_000];
        assert_eq!(gets(1_000_000_000, 1_000_000_000, &many)[9_999], 100_000);
    }
}
