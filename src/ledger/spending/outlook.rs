//! How many of the photos that a call queues get a credit. It reads less than the page does: an
//! enqueue asks it in its transaction.

use sqlx::PgConnection;

use super::{
    Class, Credits, Order,
    forecast::{ByQueue, Wish, forecast},
};
use crate::ids::{EventId, Operation, OrganisationId};

/// Photos that one call queues in an event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Added {
    /// Photos for AI Rotation.
    pub rotation: u64,
    /// Photos for Photo Processing.
    pub processing: u64,
    /// How many of these follow their AI Rotation.
    pub following: u64,
    /// True: they are the first in their queues. Otherwise they are the last.
    pub first: bool,
}

impl Added {
    /// Adds the photos of one operation. `following`: how many of them follow their AI Rotation.
    pub fn add(&mut self, operation: Operation, photos: u32, following: u32) {
        match operation {
            Operation::AiRotation => self.rotation += u64::from(photos),
            Operation::PhotoProcessing => {
                self.processing += u64::from(photos);
                self.following += u64::from(following);
            }
        }
    }

    fn by_queue(self) -> ByQueue {
        let count = |photos| i64::try_from(photos).unwrap_or(i64::MAX);
        let mut all = ByQueue::default();
        all.add(Operation::AiRotation, count(self.rotation));
        all.add(Operation::PhotoProcessing, count(self.processing));
        all
    }
}

/// How many of the photos that a call queues get a credit, if nothing changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outlook {
    /// As many as will finish. Photos in queues that are held do not.
    pub will_finish: u64,
    /// As many as would, if nobody held the event's queues.
    pub funded: u64,
    /// How many of the photos that wait in the event then its cap leaves no credit for.
    pub over_cap: u64,
}

/// Says what comes of photos that wait already, or (`planned`) would wait, in an event. `missing`:
/// the credits that all waiting photos of the organisation lack, with these.
///
/// # Errors
/// When the database has trouble.
pub async fn outlook(
    db: &mut PgConnection,
    organisation: OrganisationId,
    event: EventId,
    added: Added,
    planned: bool,
    missing: Credits,
) -> sqlx::Result<Outlook> {
    let account = sqlx::query!(
        r#"SELECT a.available, a.steered, coalesce(s.spend_order, 'fair') AS "order!: Order",
                  ARRAY(SELECT q.operation FROM queue q WHERE q.event_id = $2 AND q.held)
                      AS "held!: Vec<Operation>"
           FROM account a LEFT JOIN steering s USING (organisation_id)
           WHERE a.organisation_id = $1"#,
        organisation.0,
        event.0
    )
    .fetch_one(&mut *db)
    .await?;
    let rotates = !account.held.contains(&Operation::AiRotation);
    let processes = !account.held.contains(&Operation::PhotoProcessing);
    // Those of `added` that no hold keeps.
    let running = Added {
        rotation: if rotates { added.rotation } else { 0 },
        processing: match (processes, rotates) {
            (true, true) => added.processing,
            (true, false) => added.processing - added.following,
            (false, true | false) => 0,
        },
        ..Added::default()
    };
    if !account.steered && missing <= Credits(0) {
        return Ok(Outlook {
            will_finish: running.rotation + running.processing,
            funded: added.rotation + added.processing,
            over_cap: 0,
        });
    }
    let (kept, mut wishes, mut waiting) = read(db, organisation, event, account.steered).await?;
    let Some(own) = wishes.iter().position(|wish| wish.event == event) else {
        return Ok(Outlook::default());
    };
    let (added, first) = (added.by_queue(), added.first);
    if planned {
        wishes[own].runs += running.by_queue();
        waiting += added;
    }
    let finish = |wishes: &[Wish]| {
        let gets = forecast(account.available, kept, account.order, wishes);
        let gets = gets.get(&event).copied().unwrap_or_default();
        let of_queue = |operation| {
            let before = if first { 0 } else { waiting.of(operation) - added.of(operation) };
            (gets.of(operation) - before).clamp(0, added.of(operation)).unsigned_abs()
        };
        Operation::ALL.map(of_queue).iter().sum()
    };
    let will_finish = finish(&wishes);
    wishes[own].runs = waiting;
    let all: i64 = Operation::ALL.map(|operation| waiting.of(operation)).iter().sum();
    let left = wishes[own].cap_left.map_or(i64::MAX, |left| left.max(0));
    let over_cap = u64::try_from(all.saturating_sub(left)).unwrap_or(0);
    Ok(Outlook { will_finish, funded: finish(&wishes), over_cap })
}

/// The credits that are kept for events; what each event wishes in which photos wait; and all photos
/// that wait in `also`, an event that is there even if none do.
async fn read(
    db: &mut PgConnection,
    organisation: OrganisationId,
    also: EventId,
    steered: bool,
) -> sqlx::Result<(i64, Vec<Wish>, ByQueue)> {
    // (What is not steered has no budgets. It needs to know nothing of the events.)
    let rows = sqlx::query!(
        r#"SELECT w.event AS "event!: EventId", w.operation AS "operation: Operation",
                  coalesce(w.waiting, 0) AS "waiting!", coalesce(w.runs, 0) AS "runs!",
                  e.class AS "class?: Class", e.turn AS "turn?",
                  b.cap_left AS "cap_left?", b.floor_left AS "floor_left?"
           FROM (SELECT r_event AS event, r_operation AS operation, r_waiting AS waiting,
                        r_runs AS runs
                 FROM waiting_by_queue($1)
                 UNION ALL
                 SELECT $2, NULL, NULL, NULL
                 UNION ALL
                 -- What is kept for them is not free.
                 SELECT event_id, NULL, NULL, NULL FROM budget
                 WHERE organisation_id = $1 AND floor > 0) w
           LEFT JOIN LATERAL (
               SELECT x.class, x.turn FROM event x WHERE $3 AND x.event_id = w.event LIMIT 1) e
               ON true
           LEFT JOIN LATERAL (
               SELECT x.cap - u.used AS cap_left, greatest(0, x.floor - u.used) AS floor_left
               FROM budget x CROSS JOIN LATERAL event_used(x.event_id) u (used)
               WHERE $3 AND x.event_id = w.event LIMIT 1) b
               ON true
           ORDER BY w.event"#,
        organisation.0,
        also.0,
        steered
    )
    .fetch_all(db)
    .await?;
    let (mut wishes, mut waiting) = (Vec::<Wish>::new(), ByQueue::default());
    for row in rows {
        if wishes.last().is_none_or(|wish| wish.event != row.event) {
            wishes.push(Wish {
                event: row.event,
                class: row.class.unwrap_or_default(),
                turn: row.turn,
                runs: ByQueue::default(),
                cap_left: row.cap_left,
                floor_left: row.floor_left.unwrap_or(0),
            });
        }
        if let (Some(wish), Some(operation)) = (wishes.last_mut(), row.operation) {
            wish.runs.add(operation, row.runs);
            if row.event == also {
                waiting.add(operation, row.waiting);
            }
        }
    }
    let kept = wishes.iter().map(|wish| wish.floor_left).sum();
    Ok((kept, wishes, waiting))
}
