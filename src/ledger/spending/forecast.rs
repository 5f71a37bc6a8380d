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
    /// Photos that still wait for a credit.
    wants: i64,
    /// Credits that are kept for it and not used yet. It uses these first.
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
        while share(sharers, &mut left, &mut free) {}
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

/// Gives each who wants more and may have more the same number of credits: as many as they can take
/// until one of them has enough, or uses the last that is kept for it, or nothing is left. Returns
/// false when nothing was given.
fn share(sharers: &mut [Asker], left: &mut i64, free: &mut i64) -> bool {
    let mut active: Vec<_> = sharers
        .iter_mut()
        .filter(|asker| asker.wants > 0 && (asker.own > 0 || *free > 0))
        .collect();
    let most = active
        .iter()
        .map(|asker| if asker.own > 0 { asker.own.min(asker.wants) } else { asker.wants });
    let Some(most) = most.min() else { return false };
    let count = |active: usize| i64::try_from(active).unwrap_or(i64::MAX).max(1);
    let from_free = count(active.iter().filter(|asker| asker.own == 0).count());
    // What is less than one for each goes to the first of them.
    let each = most.min(*left / count(active.len())).min(*free / from_free).max(1);
    let before = *left;
    for asker in &mut active {
        let source = if asker.own > 0 { &mut asker.own } else { &mut *free };
        let takes = each.min(*left).min(*source);
        *source -= takes;
        *left -= takes;
        asker.wants -= takes;
        asker.gets += takes;
    }
    *left < before
}
