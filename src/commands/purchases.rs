//! Buys credits. What an organisation buys above its limit of the month waits until staff approve
//! it, and where there is a payment provider, until it was paid.

use serde_json::json;

use super::{Addition, CommandError, Commands, credits::MAY_GRANT};
use crate::{
    access::{Caller, Role, audit_log},
    database,
    ids::PurchaseId,
    ledger::{
        purchases::{self, Purchase, PurchaseRequest, State},
        top_up,
    },
};

pub(super) const MAY_BUY: &[Role] = &[Role::Organiser, Role::Staff];
/// The roles that see the purchases that wait for approval.
pub(super) const MAY_SEE_PURCHASES: &[Role] = &[Role::Organiser, Role::Finance, Role::Staff];

impl Commands {
    /// Buys credits at the organisation's price. Staff buys without a limit. An organisation's own
    /// people buy up to its limit of the month. What is above it waits for approval. Where there is a
    /// payment provider, what they buy waits for the payment; what staff buy was paid otherwise.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn buy(
        &self,
        caller: &Caller,
        addition: &Addition<'_>,
    ) -> Result<Purchase, CommandError> {
        caller.must_be(MAY_BUY)?;
        if MAY_GRANT.contains(&caller.role) {
            return self.add_credits(caller, addition).await.map(Purchase::Credited);
        }
        let asked = addition.of(caller)?;
        let mut tx = self.database.begin().await?;
        addition.is_alone(&mut tx).await?;
        let purchase = purchases::purchase(&mut tx, asked).await?;
        let resumed = match &purchase {
            Purchase::Credited(credited) if credited.credited => {
                let booked = top_up::price(&mut tx, credited.transaction).await?;
                addition.is_at(booked.as_ref())?;
                addition.record(&mut tx, caller, credited).await?;
                credited.resumed
            }
            Purchase::Asked { request, is_new: true } => {
                addition.is_at(Some(&request.price))?;
                let detail = json!({
                    "credits": request.credits, "note": request.note,
                    "waits_for": request.waits_for,
                });
                record(&mut tx, caller, request, "purchase.ask", detail).await?;
                false
            }
            Purchase::Credited(_) | Purchase::Asked { .. } => false,
        };
        tx.commit().await?;
        if resumed {
            self.wake.send().await;
        }
        Ok(purchase)
    }

    /// Approves a purchase: its credits are added, at the price that the buyer saw. Where there is a
    /// payment provider, they are added when it was paid.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn approve_purchase(
        &self,
        caller: &Caller,
        request: PurchaseId,
    ) -> Result<PurchaseRequest, CommandError> {
        caller.must_be(MAY_GRANT)?;
        self.decide_purchase(caller, request, true).await
    }

    /// Refuses a purchase. The organisation's own people withdraw it so.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn refuse_purchase(
        &self,
        caller: &Caller,
        request: PurchaseId,
    ) -> Result<PurchaseRequest, CommandError> {
        caller.must_be(MAY_BUY)?;
        self.decide_purchase(caller, request, false).await
    }

    /// The same decision again changes nothing, and returns the request as it is.
    async fn decide_purchase(
        &self,
        caller: &Caller,
        id: PurchaseId,
        approve: bool,
    ) -> Result<PurchaseRequest, CommandError> {
        let missing = || CommandError::NotFound(format!("purchase request {id}"));
        let (request, resumed) = transaction!(self, tx, {
            let found = purchases::find(&mut tx, id).await?.ok_or_else(missing)?;
            // The caller is not told that the request exists.
            caller.must_see(found.organisation).map_err(|_| missing())?;
            let (decided, resumed) =
                purchases::decide(&mut tx, id, approve, &caller.actor).await.map_err(conflict)?;
            let request = purchases::find(&mut tx, id).await?.ok_or_else(missing)?;
            if decided {
                let detail =
                    json!({ "credits": request.credits, "transaction": request.transaction });
                let action = if approve { "purchase.approve" } else { "purchase.refuse" };
                record(&mut tx, caller, &request, action, detail).await?;
            } else if !is_done(&request, approve) {
                return Err(already(&request));
            }
            (request, resumed)
        })?;
        if resumed {
            self.wake.send().await;
        }
        Ok(request)
    }
}

/// Whether somebody has decided the same before.
fn is_done(request: &PurchaseRequest, approve: bool) -> bool {
    match request.state {
        State::Approved => approve,
        State::Unpaid | State::Paid => approve && request.approved_by.is_some(),
        State::Refused => !approve,
        State::Pending | State::Expired | State::Failed => false,
    }
}

/// The request cannot be approved any more, although nobody has decided.
fn conflict(error: sqlx::Error) -> CommandError {
    let is = |code| database::is_code(&error, code);
    if is(database::BAD_ARGUMENT) || is(database::KEY_REUSED) {
        let said = error.as_database_error().map(|said| said.message().to_owned());
        let detail = said.unwrap_or_default();
        return CommandError::Conflict { code: "purchase_changed", detail };
    }
    error.into()
}

/// Somebody has decided otherwise, or nobody in time.
fn already(request: &PurchaseRequest) -> CommandError {
    let detail = match request.state {
        State::Approved => "this purchase is approved already, and its credits were added",
        State::Paid => "this purchase is paid already, and its credits were added",
        State::Unpaid => "this purchase needs no approval: it waits for its payment",
        State::Failed => "the payment of this purchase has failed: the buyer can buy again",
        State::Refused => "this purchase is refused already: the buyer can ask again",
        State::Pending | State::Expired => "this purchase has expired: the buyer can ask again",
    };
    CommandError::Conflict { code: "purchase_decided", detail: detail.into() }
}

async fn record(
    tx: &mut sqlx::PgConnection,
    caller: &Caller,
    request: &PurchaseRequest,
    action: &str,
    detail: serde_json::Value,
) -> sqlx::Result<()> {
    let subject = format!("purchase request {}", request.id);
    audit_log::record(tx, caller, Some(request.organisation), action, &subject, detail).await
}
