//! Credits come in: bought, granted, adjusted. Each has a key, and comes in once, however often it is sent.

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

/// Credits to add.
#[derive(Debug)]
pub struct Addition<'a> {
    /// To whose account.
    pub organisation: OrganisationId,
    /// Why.
    pub kind: TopUpKind,
    /// How many; negative only for an adjustment.
    pub credits: Credits,
    /// For the history: up to 1,000 characters.
    pub note: &'a str,
    /// Chosen by the caller, the same for every try of the same addition: 1 to 200 characters.
    pub idempotency_key: &'a str,
    /// What the buyer was told a credit costs; if it costs something else, nothing is bought.
    pub price: Option<&'a Price>,
    /// What happens if the same addition is being made at this moment.
    pub twin: Twin,
}

/// What becomes of an addition whose twin, with the same key, is being made at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twin {
    /// Programs are told, and come back.
    Refused,
    /// People who clicked twice wait for how the first ended.
    Waits,
}

impl Commands {
    /// Adds credits to an account. Queues that were paused for want of credit go on by themselves.
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
            TopUpKind::AdminGrant | TopUpKind::FreeCredits | TopUpKind::Refund => MAY_GRANT,
        })?;
        caller.must_see(organisation)?;
        if !(1..=200).contains(&idempotency_key.len()) {
            let detail =
                "send a header Idempotency-Key of 1 to 200 characters, new for each top-up";
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
            // The price it was booked at, not one that was read before: nobody pays what they were not told.
            if addition.price.is_some()
                && top_up::price(&mut tx, credited.transaction).await?.as_ref() != addition.price
            {
                return Err(CommandError::Conflict {
                    code: "price_changed",
                    detail: "the price has changed since you were asked, and nothing was bought: \
                             look at the new price and start again"
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
