//! Switches the automatic top-up of an organisation on and off.

use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{CommandError, Commands, purchases::MAY_BUY};
use crate::{
    access::{Caller, Role, audit_log},
    catalog::organisations::Price,
    database,
    ids::OrganisationId,
    ledger::{
        auto_top_up::{self, AutoTopUp},
        credits::Credits,
        top_up::TopUpError,
    },
};

/// The roles that see how an automatic top-up stands.
pub(super) const MAY_SEE_AUTO_TOP_UP: &[Role] =
    &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];

/// Largest number of credits in a purchase, and of credits in a month.
const MOST: Credits = Credits(1_000_000_000);

/// When an organisation buys by itself, and how much.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "below": 500, "credits": 2000, "monthly_max": 10000, "price": "0.05 EUR"
}))]
pub struct NewAutoTopUp {
    /// It buys when fewer credits than this are available.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub below: Credits,
    /// So many credits are bought at once. If fewer than `below` are available then, it buys again.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub credits: Credits,
    /// At most so many credits are bought in a month of the organisation's time zone.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub monthly_max: Credits,
    /// The price of one credit that the buyer expects, as `0.05 EUR`. If the present price differs,
    /// nothing changes.
    pub price: Option<String>,
}

impl NewAutoTopUp {
    /// Checks the numbers, and reads the price.
    fn check(&self) -> Result<Option<Price>, CommandError> {
        for (pointer, number) in
            [("/below", self.below), ("/credits", self.credits), ("/monthly_max", self.monthly_max)]
        {
            if !(Credits(1)..=MOST).contains(&number) {
                return Err(CommandError::invalid(pointer, "this is 1 to 1,000,000,000 credits"));
            }
        }
        if self.monthly_max < self.credits {
            let detail = "not even one purchase fits below the limit of the month: raise it, or buy \
                          fewer credits at once";
            return Err(CommandError::invalid("/monthly_max", detail));
        }
        let price = self.price.as_deref().map(str::parse).transpose();
        price.map_err(|error| CommandError::invalid("/price", error))
    }
}

impl Commands {
    /// Switches the automatic top-up on, or changes it. It buys at the present price or a lower one.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_auto_top_up(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        new: &NewAutoTopUp,
    ) -> Result<AutoTopUp, CommandError> {
        caller.must_be(MAY_BUY)?;
        caller.must_see(organisation)?;
        let expected = new.check()?;
        let (below, credits, monthly_max) = (new.below, new.credits, new.monthly_max);
        transaction!(self, tx, {
            let actor = &caller.actor;
            let changed =
                auto_top_up::switch_on(&mut tx, organisation, below, credits, monthly_max, actor)
                    .await
                    .map_err(|error| no_price(organisation, error))?;
            let standing = standing_of(&mut tx, organisation).await?;
            if expected.is_some() && expected != standing.price {
                return Err(CommandError::Conflict {
                    code: "price_changed",
                    detail:
                        "the price has changed since it was shown, and the automatic top-up is \
                             as it was: check the new price and start again"
                            .into(),
                });
            }
            if changed {
                let detail = json!({
                    "on": true, "below": below, "credits": credits, "monthly_max": monthly_max,
                    "price": standing.price.as_ref().map(ToString::to_string),
                });
                record(&mut tx, caller, organisation, detail).await?;
            }
            standing
        })
    }

    /// Switches the automatic top-up off. A purchase that waits for approval goes on waiting.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn switch_auto_top_up_off(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
    ) -> Result<AutoTopUp, CommandError> {
        caller.must_be(MAY_BUY)?;
        caller.must_see(organisation)?;
        transaction!(self, tx, {
            let changed = auto_top_up::switch_off(&mut tx, organisation, &caller.actor).await?;
            let standing = standing_of(&mut tx, organisation).await?;
            if changed {
                record(&mut tx, caller, organisation, json!({ "on": false })).await?;
            }
            standing
        })
    }
}

fn no_price(organisation: OrganisationId, error: sqlx::Error) -> CommandError {
    if database::is_code(&error, database::NO_PRICE) {
        return TopUpError::NoPrice(organisation).into();
    }
    error.into()
}

async fn standing_of(
    tx: &mut sqlx::PgConnection,
    organisation: OrganisationId,
) -> Result<AutoTopUp, CommandError> {
    let found = auto_top_up::read(tx, organisation).await?;
    found.ok_or_else(|| CommandError::NotFound(format!("organisation {organisation}")))
}

async fn record(
    tx: &mut sqlx::PgConnection,
    caller: &Caller,
    organisation: OrganisationId,
    detail: serde_json::Value,
) -> sqlx::Result<()> {
    let subject = format!("organisation {organisation}");
    let whose = Some(organisation);
    audit_log::record(tx, caller, whose, "auto_top_up.change", &subject, detail).await
}
