//! Checks the books, and confirms the clock, on request of a person or a program.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{CommandError, Commands};
use crate::{
    access::{Caller, Role, audit_log},
    ledger::reconcile::{self, Check, Scope},
};

pub(super) const MAY_CHECK: &[Role] = &[Role::Operator, Role::Finance, Role::Staff];

/// The result of a check: every invariant, and whether it holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct Checked {
    /// Whether all invariants hold.
    pub balanced: bool,
    /// The result for each invariant.
    pub items: Vec<Check>,
}

impl Commands {
    /// Says that the clock of the database is right. Returns the instant that is confirmed. Needed
    /// when nothing was booked because the clock seemed to have jumped.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn confirm_clock(&self, caller: &Caller) -> Result<DateTime<Utc>, CommandError> {
        caller.must_be(&[Role::Staff])?;
        caller.must_run_photogate()?;
        let at = transaction!(self, tx, {
            let at = sqlx::query_scalar!(r#"SELECT confirm_clock($1) AS "at!""#, caller.actor)
                .fetch_one(&mut *tx)
                .await?;
            let detail = json!({ "at": at });
            audit_log::record(&mut tx, caller, None, "clock.confirm", "the clock", detail).await?;
            at
        })?;
        self.wake.send().await;
        Ok(at)
    }

    /// Checks the books now, with the cheap check that workers do every minute.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn check_books(&self, caller: &Caller) -> Result<Checked, CommandError> {
        caller.must_be(MAY_CHECK)?;
        caller.must_run_photogate()?;
        let mut db = self.database.acquire().await?;
        let items = reconcile::reconcile(&mut db, Scope::Incremental).await?;
        let balanced = items.iter().all(|check| check.violations == 0);
        let detail = json!({ "balanced": balanced });
        audit_log::record(&mut db, caller, None, "books.check", "the books", detail).await?;
        Ok(Checked { balanced, items })
    }
}
