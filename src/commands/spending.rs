//! Decides how an organisation's credits are spent: budgets of events, and the order of events.

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{CommandError, Commands};
use crate::{
    access::{Caller, Denied, Role, audit_log},
    ids::{EventId, OrganisationId},
    ledger::{
        credits::Credits,
        spending::{self, Budget, Class, Order, Pace, Spending},
    },
};

/// Not the programs that queue photos.
pub(super) const MAY_SEE_SPENDING: &[Role] =
    &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];
pub(super) const MAY_SPEND: &[Role] = &[Role::Organiser, Role::Staff];
pub(super) const MAY_PACE: &[Role] = &[Role::Organiser, Role::Operator, Role::Staff];
/// How fast an organisation is at most is not its own decision, and never its share beside others.
pub(super) const MAY_PACE_ORGANISATIONS: &[Role] = &[Role::Operator, Role::Staff];

/// Largest cap and floor of a budget. No account has more credits in one top-up.
const BUDGET_MAX: i64 = 1_000_000_000;
/// Largest number of events that an order names.
const TURNS_MAX: usize = 500;

/// The order in which an organisation's events get its credits.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"order": "finish_first", "events": [12, 7]}))]
pub struct NewOrder {
    /// The order.
    pub order: Order,
    /// For `finish_first`: the events that come first, in this order; at most 500. All others come
    /// after them, the oldest first.
    #[serde(default)]
    #[schema(max_items = 500)]
    pub events: Vec<EventId>,
}

impl Commands {
    /// Sets the budget of an event; a budget without cap and floor removes it. Queues that have
    /// nothing to spend any more are paused at once, and those that have something again resume.
    /// `class`: how urgent the event is from now on; `None` leaves that as it is. Returns how the
    /// organisation spends its credits then.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_budget(
        &self,
        caller: &Caller,
        event: EventId,
        budget: Budget,
        class: Option<Class>,
    ) -> Result<Spending, CommandError> {
        caller.must_be(MAY_SPEND)?;
        let organisation = self.event_seen_by(caller, event).await?.organisation;
        check(budget)?;
        let (done, spending) = transaction!(self, tx, {
            let done = spending::set_budget(&mut tx, event, budget, &caller.actor).await?;
            let class = match class {
                Some(class) => spending::set_class(&mut tx, event, class, &caller.actor)
                    .await?
                    .then_some(class),
                None => None,
            };
            let spending = spending_of(&mut tx, organisation, Some(event)).await?;
            let (whose, subject) = (Some(organisation), format!("event {event}"));
            if done.changed {
                let detail = json!({ "cap": budget.cap, "floor": budget.floor });
                audit_log::record(&mut tx, caller, whose, "event.budget", &subject, detail).await?;
            }
            if let Some(class) = class {
                let detail = json!({ "class": class });
                audit_log::record(&mut tx, caller, whose, "event.change", &subject, detail).await?;
            }
            (done, spending)
        })?;
        if done.resumed {
            self.wake.send().await;
        }
        Ok(spending)
    }

    /// Sets the order in which an organisation's events get its credits, or tells in a dry run what
    /// would come of it. Returns how the organisation spends its credits then.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_spend_order(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        new: &NewOrder,
        dry_run: bool,
    ) -> Result<Spending, CommandError> {
        caller.must_be(MAY_SPEND)?;
        caller.must_see(organisation)?;
        if new.events.len() > TURNS_MAX {
            let detail = format!("an order names at most {TURNS_MAX} events: leave out the last");
            return Err(CommandError::invalid("/events", detail));
        }
        let mut db = self.database.acquire().await?;
        let unknown = spending::first_unknown(&mut db, organisation, &new.events).await?;
        if let Some((at, event)) = unknown {
            let detail = format!("organisation {organisation} has no event {event}");
            return Err(CommandError::invalid(format!("/events/{at}"), detail));
        }
        if dry_run {
            let mut spending = spending_of(&mut db, organisation, None).await?;
            spending.reorder(new.order, &new.events);
            return Ok(spending);
        }
        drop(db);
        transaction!(self, tx, {
            let (order, turns, actor) = (new.order, &new.events, &caller.actor);
            let changed = spending::set_order(&mut tx, organisation, order, turns, actor).await?;
            let spending = spending_of(&mut tx, organisation, None).await?;
            if changed {
                let detail = json!({ "order": new.order, "events": new.events });
                let (whose, subject) = (Some(organisation), format!("organisation {organisation}"));
                audit_log::record(&mut tx, caller, whose, "organisation.order", &subject, detail)
                    .await?;
            }
            spending
        })
    }
}

/// Largest share of an organisation in a claim.
const WEIGHT_MAX: i32 = 100;

impl Commands {
    /// Sets how fast the photos of an event are claimed at most; a pace without any limit removes
    /// it. Returns how the organisation spends its credits then.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_event_pace(
        &self,
        caller: &Caller,
        event: EventId,
        pace: Pace,
    ) -> Result<Spending, CommandError> {
        caller.must_be(MAY_PACE)?;
        let organisation = self.event_seen_by(caller, event).await?.organisation;
        self.set_pace(caller, organisation, Some(event), Some(pace), None).await
    }

    /// Sets how fast the photos of an organisation are claimed at most, and its share in a claim
    /// beside other organisations. `None` stays as it is; a pace without any limit removes it.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_organisation_pace(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        pace: Option<Pace>,
        weight: Option<i32>,
    ) -> Result<Spending, CommandError> {
        caller.must_be(MAY_PACE_ORGANISATIONS)?;
        caller.must_see(organisation)?;
        if weight.is_some() && caller.organisation.is_some() {
            let detail = "the weight of an organisation beside others is not its own decision";
            return Err(Denied::Forbidden(detail.into()).into());
        }
        if weight.is_some_and(|weight| !(1..=WEIGHT_MAX).contains(&weight)) {
            return Err(CommandError::invalid("/weight", "a weight is 1 to 100"));
        }
        if pace.is_none() && weight.is_none() {
            let detail = "send a pace, a weight, or both; a pace without limits removes it";
            return Err(CommandError::invalid("/pace", detail));
        }
        self.set_pace(caller, organisation, None, pace, weight).await
    }

    async fn set_pace(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        event: Option<EventId>,
        pace: Option<Pace>,
        weight: Option<i32>,
    ) -> Result<Spending, CommandError> {
        if let Some(pace) = pace {
            check_pace(pace)?;
        }
        let spending = transaction!(self, tx, {
            let actor = &caller.actor;
            let mut changed = match pace {
                Some(pace) => spending::set_pace(&mut tx, organisation, event, pace, actor).await?,
                None => false,
            };
            if let Some(weight) = weight {
                changed |= spending::set_weight(&mut tx, organisation, weight, actor).await?;
            }
            let spending = spending_of(&mut tx, organisation, event).await?;
            let (action, subject) = match event {
                Some(event) => ("event.pace", format!("event {event}")),
                None => ("organisation.pace", format!("organisation {organisation}")),
            };
            if changed {
                let detail = json!({ "pace": pace, "weight": weight });
                audit_log::record(&mut tx, caller, Some(organisation), action, &subject, detail)
                    .await?;
            }
            spending
        })?;
        // There may be room now.
        self.wake.send().await;
        Ok(spending)
    }
}

/// Checks the numbers of a pace.
fn check_pace(pace: Pace) -> Result<(), CommandError> {
    for (field, value) in
        [("/in_flight_max", pace.in_flight_max), ("/photos_per_minute", pace.photos_per_minute)]
    {
        if value.is_some_and(|value| !(1..=1_000_000).contains(&value)) {
            let detail = "this is 1 to 1,000,000 photos; leave it out for no limit. To stop an event, \
                          hold it";
            return Err(CommandError::invalid(field, detail));
        }
    }
    match (pace.quiet_from, pace.quiet_to) {
        (Some(from), Some(to)) if from == to => Err(CommandError::invalid(
            "/quiet_to",
            "quiet hours end at another time than they begin",
        )),
        (Some(_), None) => Err(CommandError::invalid("/quiet_to", "say when quiet hours end")),
        (None, Some(_)) => Err(CommandError::invalid("/quiet_from", "say when quiet hours begin")),
        (Some(_), Some(_)) | (None, None) => Ok(()),
    }
}

async fn spending_of(
    db: &mut sqlx::PgConnection,
    organisation: OrganisationId,
    also: Option<EventId>,
) -> Result<Spending, CommandError> {
    let found = spending::read(db, organisation, also).await?;
    found.ok_or_else(|| CommandError::NotFound(format!("organisation {organisation}")))
}

/// Checks the numbers of a budget.
fn check(budget: Budget) -> Result<(), CommandError> {
    let amounts = Credits(0)..=Credits(BUDGET_MAX);
    if budget.cap.is_some_and(|cap| !amounts.contains(&cap)) {
        return Err(CommandError::invalid("/cap", "a cap is 0 to 1,000,000,000 credits"));
    }
    if !amounts.contains(&budget.floor) {
        return Err(CommandError::invalid("/floor", "a floor is 0 to 1,000,000,000 credits"));
    }
    if budget.cap.is_some_and(|cap| budget.floor > cap) {
        let detail = "more credits are kept for the event than it may use: lower the floor, or \
                      raise the cap";
        return Err(CommandError::invalid("/floor", detail));
    }
    Ok(())
}
