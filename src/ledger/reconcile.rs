//! Checks the invariants of ARCHITECTURE.md. Each is a query that finds the rows that break it.

mod incremental;
mod invariant;
mod money;
mod rights;
mod work;

use serde::Serialize;
use sqlx::{Connection, PgConnection};

use self::{incremental::incremental, money::money, rights::rights, work::work};

pub use invariant::{Broken, Check};

/// How much a check looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type, utoipa::ToSchema)]
#[sqlx(type_name = "reconciliation_kind", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The cheap check, whose cost does not grow with the ledger. It compares accounts with the
    /// last links of their chains, reservations with photos in flight, and pauses with balances.
    Incremental,
    /// The check of all invariants.
    Full,
}

impl Scope {
    /// The name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Incremental => "incremental",
            Self::Full => "full",
        }
    }
}

/// Checks the invariants. It reads one snapshot, so other work can go on.
///
/// # Errors
/// When the database has trouble.
pub async fn reconcile(db: &mut PgConnection, scope: Scope) -> sqlx::Result<Vec<Check>> {
    let mut tx = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    // This may read everything. The timeout is meant for the gate's short statements.
    sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *tx).await?;
    let mut checks = Vec::new();
    incremental(&mut tx, &mut checks).await?;
    if scope == Scope::Full {
        money(&mut tx, &mut checks).await?;
        work(&mut tx, &mut checks).await?;
        rights(&mut tx, &mut checks).await?;
    }
    tx.rollback().await?;
    Ok(checks)
}
