//! What the organisations of a drill decide about their credits, again and again, while claims
//! spend them: budgets, orders, classes, weights and paces.

use std::fmt;

use rand::{
    Rng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use sqlx::{PgConnection, PgPool};

use super::traffic::{twice, until_answered};
use crate::{
    ids::{EventId, OrganisationId},
    ledger::{
        credits::Credits,
        spending::{self, Budget, Class, Order, Pace},
    },
};

/// The most photos in flight of the organisation that has a limit: less than what the workers can
/// hold together.
const IN_FLIGHT_OF_ORGANISATION: i32 = 64;
/// The same of one event of another organisation.
const IN_FLIGHT_OF_EVENT: i32 = 40;

/// The number of decisions of each kind so far.
#[derive(Debug, Default)]
pub(super) struct Steering {
    budgets: usize,
    orders: usize,
    classes: usize,
    weights: usize,
    rates: usize,
}

impl fmt::Display for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "budgets set {} times, orders {} times, classes {} times, weights {} times, and rates {} \
             times",
            self.budgets, self.orders, self.classes, self.weights, self.rates
        )
    }
}

/// Limits the photos in flight of an organisation, and of an event of another one. It is done
/// before the first photo is queued, and stays so: then the ledger alone tells whether it was kept.
pub(super) async fn limit_in_flight(
    db: &mut PgConnection,
    organisation: OrganisationId,
    (other, event): (OrganisationId, EventId),
) -> sqlx::Result<()> {
    let at_most = |most| Pace { in_flight_max: Some(most), ..Pace::default() };
    spending::set_pace(db, organisation, None, at_most(IN_FLIGHT_OF_ORGANISATION), "drill").await?;
    spending::set_pace(db, other, Some(event), at_most(IN_FLIGHT_OF_EVENT), "drill").await?;
    Ok(())
}

impl Steering {
    /// Sets the budget of an event: sets a cap, raises it, lowers it below what is used, keeps
    /// credits for the event, or takes all of it away. `near`: at most so many photos more use it
    /// up.
    pub(super) async fn budget(
        &mut self,
        rng: &mut StdRng,
        pool: &PgPool,
        event: EventId,
        near: usize,
    ) {
        let more = rng.random_range(0..=i64::try_from(near).unwrap_or(i64::MAX));
        let shape = rng.random_range(0..6);
        // The first ones are a cap and a floor, so that the shortest drill has both.
        let shape = [0, 3].get(self.budgets).copied().unwrap_or(shape);
        self.budgets += 1;
        let used = async || {
            sqlx::query_scalar!(r#"SELECT event_used($1) AS "used!""#, event.0)
                .fetch_one(pool)
                .await
        };
        let used = until_answered(&used).await;
        let (cap, floor) = match shape {
            0 | 1 => (Some(used + more), 0),
            2 => (Some(used / 2), 0),
            3 => (None, used + more),
            4 => (Some(used + 2 * more), used + more),
            _ => (None, 0),
        };
        set_budget(pool, event, cap, floor).await;
    }

    /// Decides something else about an organisation.
    pub(super) async fn decide(
        &mut self,
        rng: &mut StdRng,
        pool: &PgPool,
        organisation: OrganisationId,
        events: &[EventId],
    ) {
        let Some(event) = events.choose(rng).copied() else { return };
        // The first ones are one of each kind.
        let kind = rng.random_range(0..4);
        let decided = self.orders + self.classes + self.weights + self.rates;
        match if decided < 4 { decided } else { kind } {
            0 => self.order(rng, pool, organisation, events).await,
            1 => self.class(rng, pool, event).await,
            2 => self.weight(rng, pool, organisation).await,
            _ => self.rate(rng, pool, organisation, event).await,
        }
    }

    async fn order(
        &mut self,
        rng: &mut StdRng,
        pool: &PgPool,
        organisation: OrganisationId,
        events: &[EventId],
    ) {
        self.orders += 1;
        let order = *Order::ALL.choose(rng).unwrap_or(&Order::Fair);
        let mut turns = events.to_vec();
        turns.shuffle(rng);
        twice(async || {
            spending::set_order(&mut *pool.acquire().await?, organisation, order, &turns, "drill")
                .await
        })
        .await;
    }

    async fn class(&mut self, rng: &mut StdRng, pool: &PgPool, event: EventId) {
        self.classes += 1;
        let class = *Class::ALL.choose(rng).unwrap_or(&Class::Normal);
        twice(async || {
            spending::set_class(&mut *pool.acquire().await?, event, class, "drill").await
        })
        .await;
    }

    async fn weight(&mut self, rng: &mut StdRng, pool: &PgPool, organisation: OrganisationId) {
        self.weights += 1;
        let weight = rng.random_range(1..=5);
        twice(async || {
            spending::set_weight(&mut *pool.acquire().await?, organisation, weight, "drill").await
        })
        .await;
    }

    /// Limits the photos a minute of an event, unless its photos in flight are limited.
    async fn rate(
        &mut self,
        rng: &mut StdRng,
        pool: &PgPool,
        organisation: OrganisationId,
        event: EventId,
    ) {
        let per_minute = rng.random_range(100..10_000);
        let limited = async || {
            sqlx::query_scalar!(
                r#"SELECT EXISTS (SELECT FROM pace WHERE event_id = $1
                                                     AND in_flight_max IS NOT NULL) AS "is!""#,
                event.0
            )
            .fetch_one(pool)
            .await
        };
        if until_answered(&limited).await {
            return;
        }
        self.rates += 1;
        let pace = Pace { photos_per_minute: Some(per_minute), ..Pace::default() };
        set_pace(pool, organisation, event, pace).await;
    }
}

/// Keeps credits for an event that is about to be deleted.
pub(super) async fn keep_credits_for(pool: &PgPool, event: EventId, credits: i64) {
    set_budget(pool, event, None, credits).await;
}

/// Takes all rates away: they would only take time.
pub(super) async fn take_rates_away(pool: &PgPool) {
    // Read from the database, because the answers to some calls were lost.
    let standing = async || {
        sqlx::query!(
            r#"SELECT organisation_id AS "organisation: OrganisationId",
                      event_id AS "event!: EventId"
               FROM pace WHERE per_minute IS NOT NULL AND event_id IS NOT NULL"#
        )
        .fetch_all(pool)
        .await
    };
    for rate in until_answered(&standing).await {
        set_pace(pool, rate.organisation, rate.event, Pace::default()).await;
    }
}

/// Takes all budgets away: a photo that waits behind a cap is not stranded.
pub(super) async fn take_budgets_away(pool: &PgPool) {
    let standing = async || {
        sqlx::query_scalar!(r#"SELECT event_id AS "event: EventId" FROM budget"#)
            .fetch_all(pool)
            .await
    };
    for event in until_answered(&standing).await {
        set_budget(pool, event, None, 0).await;
    }
}

async fn set_budget(pool: &PgPool, event: EventId, cap: Option<i64>, floor: i64) {
    let budget = Budget { cap: cap.map(Credits), floor: Credits(floor) };
    twice(async || spending::set_budget(&mut *pool.acquire().await?, event, budget, "drill").await)
        .await;
}

async fn set_pace(pool: &PgPool, organisation: OrganisationId, event: EventId, pace: Pace) {
    twice(async || {
        spending::set_pace(&mut *pool.acquire().await?, organisation, Some(event), pace, "drill")
            .await
    })
    .await;
}
