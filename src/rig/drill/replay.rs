//! Replays every ledger beside what the organisation had decided at each entry: its budgets, and
//! its limits of photos in flight. It counts the reservations that were not allowed.

use std::collections::HashMap;

use sqlx::PgConnection;

use crate::ids::{EventId, OrganisationId};

/// What the reservations of all ledgers did to what had been decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Replay {
    /// Number of reservations with which an event used up its cap.
    pub(super) caps_reached: i64,
    /// Number of reservations after which only credits were left that were kept for an event.
    pub(super) floors_reached: i64,
    /// Number of reservations with which a limit of photos in flight was reached.
    pub(super) in_flight_reached: i64,
    /// Number of reservations with which an event used more than its cap.
    pub(super) caps_exceeded: i64,
    /// Number of reservations that took a credit which was kept for another event.
    pub(super) floors_violated: i64,
    /// Number of reservations with which more photos were in flight than the limit.
    pub(super) in_flight_exceeded: i64,
}

/// An entry of a ledger, or (without a movement) a budget that was set after it.
#[derive(Debug, Clone)]
struct Row {
    organisation: OrganisationId,
    /// Of a top-up there is none.
    event: Option<EventId>,
    movement: Option<Movement>,
    amount: i64,
    cap: Option<i64>,
    floor: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "movement", rename_all = "snake_case")]
enum Movement {
    TopUp,
    Reserve,
    Commit,
    Refund,
}

/// The limits of photos in flight: of an event, or (`None`) of all events of the organisation.
type Limits = HashMap<(OrganisationId, Option<EventId>), i64>;

/// Replays the ledgers of all organisations. It takes the limits of photos in flight for those that
/// stood from the first entry on, as they do in a drill: when they change is not recorded.
pub(super) async fn replay(db: &mut PgConnection) -> sqlx::Result<Replay> {
    let limits = sqlx::query!(
        r#"SELECT organisation_id AS "organisation: OrganisationId", event_id AS "event: EventId",
                  in_flight_max::bigint AS "most!"
           FROM pace WHERE in_flight_max IS NOT NULL"#
    )
    .fetch_all(&mut *db)
    .await?;
    let limits = limits.into_iter().map(|row| ((row.organisation, row.event), row.most)).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT organisation_id AS "organisation!: OrganisationId",
                  event_id AS "event: EventId", movement AS "movement: Movement",
                  amount AS "amount!", cap, floor AS "floor!"
           FROM (
               SELECT l.organisation_id, l.entry, 0::bigint AS change_id, q.event_id, l.movement,
                      l.amount, NULL::bigint AS cap, 0::bigint AS floor
               FROM ledger l
               LEFT JOIN job j ON j.job_id = l.transaction_id LEFT JOIN queue q USING (queue_id)
               UNION ALL
               SELECT organisation_id, entry, change_id, event_id, NULL, 0, cap, floor
               FROM budget_change) r
           ORDER BY organisation_id, entry, change_id"#
    )
    .fetch_all(&mut *db)
    .await?;
    Ok(count(rows, &limits))
}

fn count(rows: impl IntoIterator<Item = Row>, limits: &Limits) -> Replay {
    let mut counts = Replay::default();
    let mut books: HashMap<OrganisationId, Books> = HashMap::new();
    for row in rows {
        books.entry(row.organisation).or_default().replay(&row, limits, &mut counts);
    }
    counts
}

/// The credits of an organisation, after each row.
#[derive(Debug, Default)]
struct Books {
    available: i64,
    in_flight: i64,
    /// What is left of all floors.
    kept: i64,
    events: HashMap<Option<EventId>, Event>,
}

#[derive(Debug, Default)]
struct Event {
    used: i64,
    in_flight: i64,
    cap: Option<i64>,
    floor: i64,
}

impl Event {
    fn kept(&self) -> i64 {
        (self.floor - self.used).max(0)
    }
}

impl Books {
    fn replay(&mut self, row: &Row, limits: &Limits, counts: &mut Replay) {
        let missing_before = self.missing();
        let event = self.events.entry(row.event).or_default();
        self.kept -= event.kept();
        match row.movement {
            None => (event.cap, event.floor) = (row.cap, row.floor),
            Some(Movement::TopUp) => self.available += row.amount,
            Some(Movement::Reserve) => {
                self.available -= 1;
                self.in_flight += 1;
                event.in_flight += 1;
                event.used += 1;
            }
            Some(Movement::Commit) => {
                self.in_flight -= 1;
                event.in_flight -= 1;
            }
            Some(Movement::Refund) => {
                self.available += 1;
                self.in_flight -= 1;
                event.in_flight -= 1;
                event.used -= 1;
            }
        }
        self.kept += event.kept();
        if row.movement != Some(Movement::Reserve) {
            return;
        }
        // Also of an event that used more when its cap was set: until refunds have made it less, it
        // may reserve nothing.
        let to_cap = event.cap.map(|cap| event.used - cap);
        counts.caps_reached += i64::from(to_cap == Some(0));
        counts.caps_exceeded += i64::from(to_cap > Some(0));
        for (whose, in_flight) in [(None, self.in_flight), (row.event, event.in_flight)] {
            let to_limit = limits.get(&(row.organisation, whose)).map(|most| in_flight - most);
            counts.in_flight_reached += i64::from(to_limit == Some(0));
            counts.in_flight_exceeded += i64::from(to_limit > Some(0));
        }
        // Floors may be more than what there is. Then an event may reserve what is kept for itself:
        // that takes as much from the floors as from the credits.
        counts.floors_reached += i64::from(self.kept > 0 && self.available <= self.kept);
        counts.floors_violated += i64::from(self.missing() > missing_before);
    }

    /// By how much the floors are more than what there is.
    fn missing(&self) -> i64 {
        (self.kept - self.available).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Movement::{Commit, Refund, Reserve, TopUp},
        *,
    };

    const CLUB: OrganisationId = OrganisationId(1);

    fn moved(event: i64, movement: Movement, times: usize) -> Vec<Row> {
        let event = (movement != TopUp).then_some(EventId(event));
        let row = Row {
            organisation: CLUB,
            event,
            movement: Some(movement),
            amount: 1,
            cap: None,
            floor: 0,
        };
        vec![row; times]
    }

    fn budget(event: i64, cap: Option<i64>, floor: i64) -> Vec<Row> {
        let event = Some(EventId(event));
        vec![Row { organisation: CLUB, event, movement: None, amount: 0, cap, floor }]
    }

    fn counted(rows: &[Vec<Row>]) -> Replay {
        count(rows.concat(), &Limits::new())
    }

    #[test]
    fn a_cap_holds_from_the_entry_after_which_it_was_set_until_it_is_taken_away() {
        let mut history = vec![
            moved(0, TopUp, 20),
            moved(1, Reserve, 4),
            // It used four when it was set: one refund is not enough for another photo.
            budget(1, Some(3), 0),
            moved(1, Refund, 2),
            moved(1, Reserve, 1),
            moved(1, Commit, 3),
        ];
        let kept = counted(&history);
        assert_eq!((kept.caps_reached, kept.caps_exceeded), (1, 0));

        history.push(moved(2, Reserve, 1));
        history.push(moved(1, Reserve, 2));
        assert_eq!(counted(&history).caps_exceeded, 2, "each reservation above it");

        history.push(budget(1, None, 0));
        history.push(moved(1, Reserve, 2));
        assert_eq!(counted(&history).caps_exceeded, 2, "there is none any more");
    }

    #[test]
    fn a_cap_that_was_set_below_what_is_used_allows_nothing_until_refunds_allow_it() {
        let history = [
            moved(0, TopUp, 9),
            moved(1, Reserve, 4),
            budget(1, Some(2), 0),
            moved(1, Refund, 1),
            moved(1, Reserve, 1),
        ];
        assert_eq!(counted(&history).caps_exceeded, 1, "although it uses no more than then");
    }

    #[test]
    fn what_is_kept_for_an_event_no_other_reserves() {
        let mut history = vec![
            moved(0, TopUp, 6),
            budget(1, None, 3),
            moved(1, Reserve, 1),
            moved(2, Reserve, 3),
        ];
        let kept = counted(&history);
        assert_eq!(
            (kept.floors_reached, kept.floors_violated),
            (1, 0),
            "two are kept, two are left"
        );

        history.push(moved(2, Reserve, 1));
        assert_eq!(counted(&history).floors_violated, 1);

        // One is left and two are kept: its own event may have it.
        history.push(moved(1, Reserve, 1));
        assert_eq!(counted(&history).floors_violated, 1);
    }

    #[test]
    fn floors_above_what_there_is_keep_all_of_it_for_their_events() {
        let short = [moved(0, TopUp, 3), budget(1, None, 5), budget(2, Some(5), 5)].concat();
        let own = counted(&[short.clone(), moved(1, Reserve, 2), moved(2, Reserve, 1)]);
        assert_eq!((own.floors_reached, own.floors_violated), (3, 0));

        let taken = counted(&[short.clone(), moved(3, Reserve, 1)]);
        assert_eq!(taken.floors_violated, 1, "it has none of its own");

        let taken_away =
            counted(&[short, budget(1, None, 0), budget(2, None, 0), moved(3, Reserve, 3)]);
        assert_eq!(taken_away.floors_violated, 0);
    }

    #[test]
    fn photos_in_flight_are_counted_by_organisation_and_by_event() {
        let of = |event: Option<i64>| (CLUB, event.map(EventId));
        let limits = Limits::from([(of(None), 4), (of(Some(1)), 2)]);
        let allowed = [
            moved(0, TopUp, 20),
            moved(1, Reserve, 2),
            moved(2, Reserve, 2),
            moved(1, Commit, 1),
            moved(2, Refund, 1),
            moved(1, Reserve, 1),
        ]
        .concat();
        let kept = count(allowed.clone(), &limits);
        assert_eq!((kept.in_flight_reached, kept.in_flight_exceeded), (3, 0));

        let of_event = count([allowed.clone(), moved(1, Reserve, 1)].concat(), &limits);
        assert_eq!(of_event.in_flight_exceeded, 1);
        let of_all = count([allowed, moved(2, Reserve, 2)].concat(), &limits);
        assert_eq!(of_all.in_flight_exceeded, 1);
    }
}
