//! Checks the books, and confirms the clock or repairs what it did, on request of a person or a program.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{CommandError, Commands};
use crate::{
    access::{Caller, Role, audit_log},
    ids::OrganisationId,
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

/// An account that was booked in the future, and is not any more.
#[derive(Debug, Serialize)]
pub struct Repaired {
    /// Whose account it is.
    pub organisation: OrganisationId,
    /// How many entries were of the future. They stay as they are.
    pub entries: i64,
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

    /// Puts accounts back that were booked in the future, after the clock was set right. Refused if
    /// the clock does not say `today`, give or take a day.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn repair_clock(
        &self,
        caller: &Caller,
        today: NaiveDate,
    ) -> Result<Vec<Repaired>, CommandError> {
        caller.must_be(&[Role::Staff])?;
        caller.must_run_photogate()?;
        let accounts = sqlx::query_scalar!(
            r#"SELECT account AS "account!: OrganisationId" FROM accounts_of_the_future() account"#
        )
        .fetch_all(&mut *self.database.acquire().await?)
        .await?;
        let mut repaired = Vec::new();
        for organisation in accounts {
            let entries = transaction!(self, tx, {
                let entries = sqlx::query_scalar!(
                    r#"SELECT repair_account($1, $2, $3) AS "entries!""#,
                    organisation.0,
                    caller.actor,
                    today
                )
                .fetch_one(&mut *tx)
                .await?;
                let detail = json!({ "entries": entries });
                let (action, what) = ("clock.repair", "the account");
                audit_log::record(&mut tx, caller, Some(organisation), action, what, detail)
                    .await?;
                entries
            })?;
            repaired.push(Repaired { organisation, entries });
        }
        sqlx::query!("SELECT repair_waits()").execute(&mut *self.database.acquire().await?).await?;
        self.wake.send().await;
        Ok(repaired)
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
