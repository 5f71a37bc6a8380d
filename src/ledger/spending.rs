//! How an organisation spends its credits: in which order its events get them, and what each may
//! use. And what comes of that, if nothing changes.

mod forecast;
mod outlook;
mod pace;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::credits::Credits;
use crate::ids::{EventId, Operation, OrganisationId};
use forecast::{ByQueue, Wish};

pub use outlook::{Added, Outlook, outlook};

pub use pace::{Pace, time_of_day};

/// The order in which an organisation's events get its credits, and the places in a worker.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    sqlx::Type,
    clap::ValueEnum,
    ToSchema,
)]
#[sqlx(type_name = "spend_order", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
#[schema(as = SpendOrder)]
pub enum Order {
    /// Every event in turn, in equal shares.
    #[default]
    Fair,
    /// Urgent events before normal ones, and these before background ones. An event that has waited
    /// for an hour is taken for one class better, so that nothing waits for ever.
    Priority,
    /// One event after the other, in the order that was chosen, and then the oldest first.
    FinishFirst,
}

impl Order {
    /// All orders.
    pub const ALL: [Self; 3] = [Self::Fair, Self::Priority, Self::FinishFirst];

    /// The stable code of the order, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Fair => "fair",
            Self::Priority => "priority",
            Self::FinishFirst => "finish_first",
        }
    }

    /// What the order means, for pages.
    pub fn says(self) -> &'static str {
        match self {
            Self::Fair => "Every event in turn",
            Self::Priority => "Urgent events first, background events last",
            Self::FinishFirst => "One event after the other",
        }
    }
}

/// How urgent an event is. It counts where the organisation's order is `priority`.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    sqlx::Type,
    clap::ValueEnum,
    ToSchema,
)]
#[sqlx(type_name = "event_class", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[schema(as = EventClass)]
pub enum Class {
    /// Before all others.
    Urgent,
    /// As events are, unless somebody says otherwise.
    #[default]
    Normal,
    /// When nothing else waits.
    Background,
}

impl Class {
    /// All classes, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Normal, Self::Background];

    /// The stable code of the class, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Normal => "normal",
            Self::Background => "background",
        }
    }
}

/// What an event may spend, and what it wants to spend. It counts both operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct EventSpending {
    /// The event's number.
    pub event: EventId,
    /// The event's name.
    pub name: String,
    /// How urgent it is, where the order is `priority`.
    pub class: Class,
    /// Its place, where the order is `finish_first`: the lowest comes first. Null: after all that
    /// have one.
    pub turn: Option<i32>,
    /// The event never uses more credits than this. Null: there is no such limit.
    pub cap: Option<Credits>,
    /// So many credits are kept for the event: other events cannot take them.
    pub floor: Credits,
    /// Credits that the event uses now: reserved for its photos, or spent.
    pub used: Credits,
    /// Credits that it may still use under its cap; less than 0 if the cap was set below what it
    /// had used. Null: there is no cap.
    pub cap_left: Option<Credits>,
    /// Credits of its floor that it has not used yet.
    pub floor_left: Credits,
    /// How fast its photos are claimed at most. Null: as fast as workers can.
    pub pace: Option<Pace>,
    /// Photos that wait.
    pub waiting: i64,
    /// Photos that wait in queues that nobody holds.
    #[serde(skip)]
    runs: ByQueue,
    /// Of the photos that wait, those that get a credit if nothing changes: no top-up, no refund,
    /// no other decision. Photos in queues that are held get none. Exact under `finish_first`, and
    /// for all events of a class together under `priority`; events that share get about as many.
    /// It takes all events for equally fast: it knows no pace, and no photo that first waits for its
    /// AI Rotation.
    pub will_finish: i64,
}

/// How an organisation spends its credits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Spending {
    /// The organisation's number.
    pub organisation: OrganisationId,
    /// The order in which its events get credits.
    pub order: Order,
    /// Its share in a claim, beside the other organisations whose turn it is: each of them gets a
    /// photo, and the rest by weight. 1, unless staff has set it.
    pub weight: i32,
    /// How fast the photos of all its events together are claimed at most. Null: as fast as workers
    /// can.
    pub pace: Option<Pace>,
    /// Credits that are available.
    pub available: Credits,
    /// Of the floors of all events, what was not used yet.
    pub kept: Credits,
    /// Credits that are missing for these floors. Above 0, not every event will get its floor.
    pub underfunded: Credits,
    /// The events in which photos wait, and those of which something was decided.
    pub events: Vec<EventSpending>,
}

impl EventSpending {
    fn wish(&self) -> Wish {
        Wish {
            event: self.event,
            class: self.class,
            turn: self.turn,
            runs: self.runs,
            cap_left: self.cap_left.map(|left| left.0),
            floor_left: self.floor_left.0,
        }
    }
}

impl Spending {
    /// Says again for each event what comes of it, after something was changed here.
    pub fn forecast(&mut self) {
        let wishes: Vec<_> = self.events.iter().map(EventSpending::wish).collect();
        let (available, kept) = (self.available.0, self.kept.0);
        let gets = forecast::forecast(available, kept, self.order, &wishes);
        for event in &mut self.events {
            event.will_finish = gets.get(&event.event).map_or(0, ByQueue::sum);
        }
    }

    /// Changes the order. `turns`: the events of which one after the other is finished.
    pub fn reorder(&mut self, order: Order, turns: &[EventId]) {
        self.order = order;
        for event in &mut self.events {
            let turn = turns.iter().position(|turn| *turn == event.event);
            event.turn = turn.and_then(|turn| i32::try_from(turn + 1).ok());
        }
        self.forecast();
    }
}

/// Reads how an organisation spends its credits. `None` if there is no such organisation.
///
/// `also` names an event that is in the answer, even if nothing waits in it.
///
/// # Errors
/// When the database has trouble.
pub async fn read(
    db: &mut PgConnection,
    organisation: OrganisationId,
    also: Option<EventId>,
) -> sqlx::Result<Option<Spending>> {
    let account = sqlx::query!(
        r#"SELECT a.available AS "available: Credits",
                  coalesce(s.spend_order, 'fair') AS "order!: Order", coalesce(s.weight, 1) AS "weight!"
           FROM account a LEFT JOIN steering s USING (organisation_id)
           WHERE a.organisation_id = $1"#,
        organisation.0
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(account) = account else { return Ok(None) };
    let mut paces = paces(&mut *db, organisation).await?;
    let waiting = waiting(&mut *db, organisation).await?;
    let waits: Vec<_> = waiting.keys().map(|event| event.0).collect();
    let events = sqlx::query!(
        r#"SELECT e.event_id AS "event: EventId", e.name, e.class AS "class: Class", e.turn,
                  b.cap AS "cap: Credits", coalesce(b.floor, 0) AS "floor!: Credits",
                  u.used AS "used!: Credits", b.cap - u.used AS "cap_left: Credits",
                  greatest(0, coalesce(b.floor, 0) - u.used) AS "floor_left!: Credits"
           FROM event e LEFT JOIN budget b USING (event_id)
           CROSS JOIN LATERAL event_used(e.event_id) u (used)
           WHERE e.organisation_id = $1 AND e.deleted_at IS NULL
             AND (e.event_id = ANY ($3) OR b.event_id IS NOT NULL OR e.turn IS NOT NULL
                  OR e.class <> 'normal' OR e.event_id = $2
                  OR EXISTS (SELECT FROM pace p WHERE p.event_id = e.event_id))
           ORDER BY e.event_id"#,
        organisation.0,
        also.map(|event| event.0),
        &waits
    )
    .fetch_all(db)
    .await?;
    let events: Vec<_> = events
        .into_iter()
        .map(|row| EventSpending {
            pace: paces.remove(&Some(row.event)),
            event: row.event,
            name: row.name,
            class: row.class,
            turn: row.turn,
            cap: row.cap,
            floor: row.floor,
            used: row.used,
            cap_left: row.cap_left,
            floor_left: row.floor_left,
            waiting: waiting.get(&row.event).map_or(0, |waiting| waiting.0.sum()),
            runs: waiting.get(&row.event).map(|waiting| waiting.1).unwrap_or_default(),
            will_finish: 0,
        })
        .collect();
    let kept: i64 = events.iter().map(|event| event.floor_left.0).sum();
    let mut spending = Spending {
        organisation,
        order: account.order,
        weight: account.weight,
        pace: paces.remove(&None),
        available: account.available,
        kept: Credits(kept),
        underfunded: Credits((kept - account.available.0).max(0)),
        events,
    };
    spending.forecast();
    Ok(Some(spending))
}

/// What waits in an organisation's events, and of that what nobody holds.
async fn waiting(
    db: &mut PgConnection,
    organisation: OrganisationId,
) -> sqlx::Result<BTreeMap<EventId, (ByQueue, ByQueue)>> {
    let rows = sqlx::query!(
        r#"SELECT r_event AS "event!: EventId", r_operation AS "operation!: Operation",
                  r_waiting AS "waiting!", r_runs AS "runs!"
           FROM waiting_by_queue($1)"#,
        organisation.0
    )
    .fetch_all(db)
    .await?;
    let mut found: BTreeMap<_, (ByQueue, ByQueue)> = BTreeMap::new();
    for row in rows {
        let (waiting, runs) = found.entry(row.event).or_default();
        waiting.add(row.operation, row.waiting);
        runs.add(row.operation, row.runs);
    }
    Ok(found)
}

/// The paces of an organisation, by event; `None` stands for all events together.
async fn paces(
    db: &mut PgConnection,
    organisation: OrganisationId,
) -> sqlx::Result<BTreeMap<Option<EventId>, Pace>> {
    let rows = sqlx::query!(
        r#"SELECT event_id AS "event: EventId", in_flight_max, per_minute, quiet_from, quiet_to
           FROM pace WHERE organisation_id = $1"#,
        organisation.0
    )
    .fetch_all(db)
    .await?;
    let paces = rows.into_iter().map(|row| {
        let pace = Pace {
            in_flight_max: row.in_flight_max,
            photos_per_minute: row.per_minute,
            quiet_from: row.quiet_from,
            quiet_to: row.quiet_to,
        };
        (row.event, pace)
    });
    Ok(paces.collect())
}

/// The credits that an event may use, and that are kept for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"cap": 5000, "floor": 1000}))]
pub struct Budget {
    /// The event never uses more credits than this: 0 to 1,000,000,000. Null: there is no such
    /// limit.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub cap: Option<Credits>,
    /// So many credits are kept for the event, and other events cannot take them: 0 to
    /// 1,000,000,000, and at most the cap. Credits that it has used already count.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub floor: Credits,
}

/// What came of a budget that was set.
#[derive(Debug, Clone, Copy)]
pub struct BudgetSet {
    /// False if the event had this budget already.
    pub changed: bool,
    /// True if paused queues were resumed; then the caller should send a wake-up to the workers.
    pub resumed: bool,
}

/// Sets the budget of an event, in one transaction with the pauses that follow from it.
///
/// # Errors
/// When the database has trouble, or refuses.
pub async fn set_budget(
    db: &mut PgConnection,
    event: EventId,
    budget: Budget,
    actor: &str,
) -> sqlx::Result<BudgetSet> {
    sqlx::query_as!(
        BudgetSet,
        r#"SELECT r_changed AS "changed!", r_resumed AS "resumed!" FROM set_budget($1, $2, $3, $4)"#,
        event.0,
        budget.cap.map(|cap| cap.0),
        budget.floor.0,
        actor
    )
    .fetch_one(db)
    .await
}

/// Finds the first event of an order that the organisation does not have, with its place from 0 on.
///
/// # Errors
/// When the database has trouble.
pub async fn first_unknown(
    db: &mut PgConnection,
    organisation: OrganisationId,
    turns: &[EventId],
) -> sqlx::Result<Option<(i64, EventId)>> {
    let turns: Vec<_> = turns.iter().map(|event| event.0).collect();
    let found = sqlx::query!(
        r#"SELECT n - 1 AS "at!", t.event_id AS "event!: EventId"
           FROM unnest($2::bigint[]) WITH ORDINALITY t (event_id, n)
           WHERE NOT EXISTS (SELECT FROM event e WHERE e.event_id = t.event_id
                               AND e.organisation_id = $1 AND e.deleted_at IS NULL)
           ORDER BY n LIMIT 1"#,
        organisation.0,
        &turns
    )
    .fetch_optional(db)
    .await?;
    Ok(found.map(|row| (row.at, row.event)))
}

/// Sets the order in which an organisation's events get credits. Returns false if this was the
/// order already.
///
/// # Errors
/// When the database has trouble, or refuses.
pub async fn set_order(
    db: &mut PgConnection,
    organisation: OrganisationId,
    order: Order,
    turns: &[EventId],
    actor: &str,
) -> sqlx::Result<bool> {
    let turns: Vec<_> = turns.iter().map(|event| event.0).collect();
    sqlx::query_scalar!(
        r#"SELECT set_spend_order($1, $2, $3, $4) AS "changed!""#,
        organisation.0,
        order as Order,
        &turns,
        actor
    )
    .fetch_one(db)
    .await
}

/// Sets how urgent an event is. Returns false if it had this class already.
///
/// # Errors
/// When the database has trouble, or there is no such event.
pub async fn set_class(
    db: &mut PgConnection,
    event: EventId,
    class: Class,
    actor: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT set_event_class($1, $2, $3) AS "changed!""#,
        event.0,
        class as Class,
        actor
    )
    .fetch_one(db)
    .await
}

/// Sets how fast the photos of an event, or of all events of the organisation, are claimed at most.
/// Returns false if this was the pace already.
///
/// # Errors
/// When the database has trouble, or refuses.
pub async fn set_pace(
    db: &mut PgConnection,
    organisation: OrganisationId,
    event: Option<EventId>,
    pace: Pace,
    actor: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT set_pace($1, $2, $3, $4, $5, $6, $7) AS "changed!""#,
        organisation.0,
        event.map(|event| event.0),
        pace.in_flight_max,
        pace.photos_per_minute,
        pace.quiet_from,
        pace.quiet_to,
        actor
    )
    .fetch_one(db)
    .await
}

/// Sets the share of an organisation in a claim. Returns false if it had this share already.
///
/// # Errors
/// When the database has trouble, or refuses.
pub async fn set_weight(
    db: &mut PgConnection,
    organisation: OrganisationId,
    weight: i32,
    actor: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT set_weight($1, $2, $3) AS "changed!""#,
        organisation.0,
        weight,
        actor
    )
    .fetch_one(db)
    .await
}
