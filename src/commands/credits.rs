//! Adds credits to accounts: purchases, grants and adjustments. Each addition has an idempotency
//! key, so it is booked once, even if the request is sent many times.

use serde_json::json;

use super::{CommandError, Commands};
use crate::{
    access::{Caller, Role, audit_log},
    catalog::organisations::Price,
    ids::OrganisationId,
    ledger::{
        credits::Credits,
        top_up::{self, Credited, TopUp, TopUpKind},
    },
};

pub(super) const MAY_BUY: &[Role] = &[Role::Organiser, Role::Staff];
const MAY_GRANT: &[Role] = &[Role::Staff];

/// A top-up to make.
#[derive(Debug)]
pub struct Addition<'a> {
    /// The organisation whose account gets the credits.
    pub organisation: OrganisationId,
    /// The kind of top-up.
    pub kind: TopUpKind,
    /// Number of credits. Only an adjustment can be negative.
    pub credits: Credits,
    /// A note for the history: up to 1,000 characters.
    pub note: &'a str,
    /// The idempotency key: 1 to 200 characters, chosen by the caller. It must be the same for
    /// every try of the same addition.
    pub idempotency_key: &'a str,
    /// The price per credit that the buyer saw. If the price is another one now, nothing is bought.
    pub price: Option<&'a Price>,
    /// What to do if a request with the same key is in progress.
    pub twin: Twin,
}

/// What to do with an addition if another request with the same key is in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twin {
    /// Refuse it. For programs: they can try again.
    Refused,
    /// Wait for the result of the first request. For people: they may have clicked twice.
    Waits,
}

impl Commands {
    /// Adds credits to an account. Paused queues of the organisation go on by themselves.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn add_credits(
        &self,
        caller: &Caller,
        addition: &Addition<'_>,
    ) -> Result<Credited, CommandError> {
        let Addition { organisation, kind, credits, note, idempotency_key, .. } = *addition;
        caller.must_be(match kind {
            TopUpKind::Purchase => MAY_BUY,
            TopUpKind::AdminGrant | TopUpKind::FreeCredits | TopUpKind::Adjustment => MAY_GRANT,
        })?;
        caller.must_see(organisation)?;
        if !(1..=200).contains(&idempotency_key.chars().count()) {
            let detail =
                "the idempotency key must have 1 to 200 characters, and be new for each top-up";
            return Err(CommandError::invalid("Idempotency-Key", detail));
        }
        let mut tx = self.database.begin().await?;
        if addition.twin == Twin::Refused
            && !top_up::is_alone(&mut tx, organisation, idempotency_key).await?
        {
            return Err(CommandError::InProgress);
        }
        let actor = &caller.actor;
        let asked = TopUp { organisation, kind, amount: credits, actor, note, idempotency_key };
        let credited = top_up::top_up(&mut tx, asked).await?;
        if credited.credited {
            // Compare with the price that was booked, not with one that was read before. So nobody
            // pays a price that they did not see.
            if addition.price.is_some()
                && top_up::price(&mut tx, credited.transaction).await?.as_ref() != addition.price
            {
                return Err(CommandError::Conflict {
                    code: "price_changed",
                    detail: "the price has changed since it was shown, and nothing was bought: \
                             check the new price and start again"
                        .into(),
                });
            }
            let detail = json!({
                "kind": kind, "credits": credits, "transaction": credited.transaction, "note": note,
            });
            let (whose, subject) = (Some(organisation), format!("organisation {organisation}"));
            audit_log::record(&mut tx, caller, whose, "credits.top_up", &subject, detail).await?;
        }
        tx.commit().await?;
        if credited.resumed {
            self.wake.send().await;
        }
        Ok(credited)
    }
}
