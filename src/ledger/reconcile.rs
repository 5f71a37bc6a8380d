//! Checks the invariants of ARCHITECTURE.md. Each is a query that finds the rows that break it.
//!
//! Some are checked on all accounts and queues at once (standing, rights). The others go along the
//! ledgers and the queues, a slice at a time, each in a short transaction of its own: one snapshot
//! of everything would be held for minutes, and slow down everybody who works meanwhile.

mod invariant;
mod ledgers;
mod queues;
mod rights;
mod slices;
mod standing;

use serde::Serialize;
use sqlx::{Connection, PgConnection, Postgres, Transaction};

pub use invariant::{Broken, Check};

use crate::queue::claim::Incarnation;

/// After this time PostgreSQL itself ends a query of a check: five minutes.
const LONGEST_MILLISECONDS: &str = "300000";

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

/// Where a full check begins.
#[derive(Debug, Clone, Copy)]
pub enum Since {
    /// At the first entry of each ledger, and at the first job of each queue.
    Start,
    /// Where the last full check of a worker ended. This worker moves the marks on. The cost grows
    /// with what has moved since.
    LastCheck(Incarnation),
}

impl Since {
    /// Who moves the marks, if there are marks.
    fn marks(self) -> Option<Incarnation> {
        match self {
            Self::Start => None,
            Self::LastCheck(me) => Some(me),
        }
    }
}

/// The most entries or jobs in a slice. 50,000 take about a second.
pub const SLICE: i64 = 50_000;

/// Checks the invariants. A full check begins at the start.
///
/// # Errors
/// When the database has trouble.
pub async fn reconcile(db: &mut PgConnection, scope: Scope) -> sqlx::Result<Vec<Check>> {
    match scope {
        Scope::Incremental => {
            let mut checks = Vec::new();
            let mut tx = snapshot(db).await?;
            standing::often(&mut tx, &mut checks).await?;
            tx.rollback().await?;
            Ok(checks)
        }
        Scope::Full => full(db, Since::Start, SLICE).await,
    }
}

/// Checks all invariants, in slices of so many entries or jobs.
///
/// A check from the last check also moves the marks where the next one begins. It moves no mark in
/// a slice where it found something, so the next check finds it again, until it is right.
///
/// # Errors
/// When the database has trouble.
pub async fn full(db: &mut PgConnection, since: Since, slice: i64) -> sqlx::Result<Vec<Check>> {
    let mut checks = Vec::new();
    let mut tx = snapshot(db).await?;
    standing::often(&mut tx, &mut checks).await?;
    standing::rarely(&mut tx, &mut checks).await?;
    rights::rights(&mut tx, &mut checks).await?;
    tx.rollback().await?;
    slices::check_all::<ledgers::Slice>(db, since, slice, &mut checks).await?;
    slices::check_all::<queues::Slice>(db, since, slice, &mut checks).await?;
    Ok(checks)
}

/// A transaction that reads one snapshot.
async fn snapshot(db: &mut PgConnection) -> sqlx::Result<Transaction<'_, Postgres>> {
    let mut tx = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    // The timeout of connections is meant for the gate's short statements. The planner does not know
    // that a slice is small, and would read whole tables of history. A stored plan may be of a time
    // when the tables were small. For the same reason, the queries look up each row that belongs to
    // an entry or a job by itself: LATERAL, with LIMIT 1 or OFFSET 0, is not turned into a join.
    sqlx::query!(
        "SELECT set_config(name, setting, true)
         FROM (VALUES ('statement_timeout', $1), ('jit', 'off'), ('enable_seqscan', 'off'),
                      ('plan_cache_mode', 'force_custom_plan')) s (name, setting)",
        LONGEST_MILLISECONDS
    )
    .fetch_all(&mut *tx)
    .await?;
    Ok(tx)
}
