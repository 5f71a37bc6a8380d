//! Adds credits to accounts: purchases, grants and adjustments. Each addition has an idempotency
//! key, so it is booked once, even if the request is sent many times.

use serde_json::json;
use sqlx::PgConnection;

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

pub(super) const MAY_GRANT: &[Role] = &[Role::Staff];

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

impl Addition<'_> {
    /// The top-up that this caller asks for, if the addition is well formed.
    pub(super) fn of<'a>(&'a self, caller: &'a Caller) -> Result<TopUp<'a>, CommandError> {
        caller.must_see(self.organisation)?;
        if !(1..=200).contains(&self.idempotency_key.chars().count()) {
            let detail =
                "the idempotency key must have 1 to 200 characters, and be new for each top-up";
            return Err(CommandError::invalid("Idempotency-Key", detail));
        }
        Ok(TopUp {
            organisation: self.organisation,
            kind: self.kind,
            amount: self.credits,
            actor: &caller.actor,
            note: self.note,
            idempotency_key: self.idempotency_key,
        })
    }

    /// Refuses to go on if another request with the same key is in progress, and the caller does
    /// not want to wait for it.
    pub(super) async fn is_alone(&self, tx: &mut PgConnection) -> Result<(), CommandError> {
        if self.twin == Twin::Refused
            && !top_up::is_alone(tx, self.organisation, self.idempotency_key).await?
        {
            return Err(CommandError::InProgress);
        }
        Ok(())
    }

    /// Compares the price that was booked with the one that the buyer saw, not one that was read
    /// before. So nobody pays a price that they did not see.
    pub(super) fn is_at(&self, booked: Option<&Price>) -> Result<(), CommandError> {
        if self.price.is_none() || booked == self.price {
            return Ok(());
        }
        Err(CommandError::Conflict {
            code: "price_changed",
            detail: "the price has changed since it was shown, and nothing was bought: \
                     check the new price and start again"
                .into(),
        })
    }

    /// Writes the audit entry of credits that were added.
    pub(super) async fn record(
        &self,
        tx: &mut PgConnection,
        caller: &Caller,
        credited: &Credited,
    ) -> sqlx::Result<()> {
        let detail = json!({
            "kind": self.kind, "credits": self.credits, "transaction": credited.transaction,
            "note": self.note,
        });
        let (whose, subject) =
            (Some(self.organisation), format!("organisation {}", self.organisation));
        audit_log::record(tx, caller, whose, "credits.top_up", &subject, detail).await
    }
}

impl Commands {
    /// Adds credits to an account, as staff does. Paused queues of the organisation go on by
    /// themselves. An organisation buys with [`Commands::buy`].
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn add_credits(
        &self,
        caller: &Caller,
        addition: &Addition<'_>,
    ) -> Result<Credited, CommandError> {
        caller.must_be(MAY_GRANT)?;
        let asked = addition.of(caller)?;
        let mut tx = self.database.begin().await?;
        addition.is_alone(&mut tx).await?;
        let credited = top_up::top_up(&mut tx, asked).await?;
        if credited.credited {
            if addition.price.is_some() {
                let booked = top_up::price(&mut tx, credited.transaction).await?;
                addition.is_at(booked.as_ref())?;
            }
            addition.record(&mut tx, caller, &credited).await?;
        }
        tx.commit().await?;
        if credited.resumed {
            self.wake.send().await;
        }
        Ok(credited)
    }
}
