//! The history that an organisation sees. Its rows add up to the balance at any time. So credits
//! count as used when they leave the balance, which is when they are reserved. A commit does not
//! change the balance and is not shown.

mod photos;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    cursor,
    ids::{EventId, JobId, Operation, OrganisationId, RunId},
    ledger::credits::Credits,
};

pub use photos::{PhotoOfRun, photos_of_run};

/// Why the balance changed.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    serde::Deserialize,
    sqlx::Type,
    clap::ValueEnum,
    utoipa::ToSchema,
)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Kind {
    /// Credits were reserved because photos were claimed.
    Usage,
    /// Credits were bought by the organisation.
    Purchase,
    /// Staff granted credits to the organisation.
    AdminGrant,
    /// The organisation got credits as a gift.
    FreeCredits,
    /// Photos could not be processed, so their credits were refunded.
    Refund,
    /// Staff corrected the account, up or down.
    Adjustment,
}

impl Kind {
    /// The name to show to people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "Usage",
            Self::Purchase => "Purchase",
            Self::AdminGrant => "Admin Grant",
            Self::FreeCredits => "Free Credits",
            Self::Refund => "Refund",
            Self::Adjustment => "Adjustment",
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Purchase => "purchase",
            Self::AdminGrant => "admin_grant",
            Self::FreeCredits => "free_credits",
            Self::Refund => "refund",
            Self::Adjustment => "adjustment",
        }
    }
}

/// A row of the history: a top-up, or the usage of a run within a month, or its refunds within a
/// month.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Movement {
    /// Why the balance changed.
    pub kind: Kind,
    /// The change of the balance in credits; negative for usage.
    pub credits: Credits,
    /// The event's number, for usage and refunds of photos.
    pub event: Option<EventId>,
    /// The name of the event.
    pub event_name: Option<String>,
    /// The operation, for usage and refunds of photos.
    pub operation: Option<Operation>,
    /// The run, for usage and refunds of photos.
    pub run: Option<RunId>,
    /// The transaction in the ledger, for top-ups.
    pub transaction: Option<JobId>,
    /// Who did it: an e-mail address, a token's name, `cli`, or `System`.
    pub actor: String,
    /// A note for people, for top-ups.
    pub note: Option<String>,
    /// The price per credit at the time of the purchase, for purchases.
    pub price_per_credit: Option<Decimal>,
    /// The currency of the price, as an ISO 4217 code.
    pub currency: Option<String>,
    /// The time of the first movement in this row. The history is ordered by it.
    pub at: DateTime<Utc>,
    /// The time of the last movement in this row, for usage and refunds of photos.
    pub until: Option<DateTime<Utc>>,
    /// The position of this row. To get the next page, pass it as [`Page::after`].
    #[schema(value_type = String)]
    pub cursor: Cursor,
}

/// A position in the history: the instant in microseconds, the rank of the kind, and the number of
/// the row.
pub type Cursor = cursor::Cursor<3>;

/// Selects a part of a history.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// Only rows of these kinds; empty: all kinds.
    pub kinds: &'a [Kind],
    /// Only rows of this event.
    pub event: Option<EventId>,
    /// Only rows at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only rows before this time.
    pub before: Option<DateTime<Utc>>,
    /// Only rows after this one in the list: the older ones.
    pub after: Option<Cursor>,
    /// Maximum number of rows.
    pub most: i64,
}

impl Default for Page<'_> {
    fn default() -> Self {
        Self { kinds: &[], event: None, since: None, before: None, after: None, most: 50 }
    }
}

impl Page<'_> {
    /// The position after which the page begins. The first page begins before `before`, or in the
    /// far future if it is not set.
    fn begins_after(&self) -> (DateTime<Utc>, i32, i64) {
        let newest = self.before.unwrap_or(DateTime::<Utc>::MAX_UTC).min(far_future());
        self.after.map_or((newest, 0, 0), |cursor::Cursor([at, rank, id])| {
            let at = DateTime::from_timestamp_micros(at).unwrap_or(newest);
            (at, i32::try_from(rank).unwrap_or(i32::MAX), id)
        })
    }
}

/// Returns a page of the history of an organisation, newest first. A run has one row of usage a
/// month, and one row of refunds if there were any. The cost does not grow with the ledger.
///
/// # Errors
/// When the database has trouble.
pub async fn history(
    db: &mut PgConnection,
    organisation: OrganisationId,
    page: Page<'_>,
) -> sqlx::Result<Vec<Movement>> {
    let kinds: Vec<_> = page.kinds.iter().map(|kind| kind.code().to_owned()).collect();
    let (at, rank, id) = page.begins_after();
    sqlx::query!(
        r#"SELECT m.kind AS "kind!: Kind", m.credits AS "credits!: Credits",
                  m.event_id AS "event: EventId", e.name AS "event_name?",
                  q.operation AS "operation?: Operation", m.run_id AS "run: RunId",
                  m.transaction_id AS "transaction: JobId", m.actor AS "actor!",
                  m.note, m.price_per_credit, m.currency, m.at AS "at!", m.until,
                  m.rank AS "rank!", m.id AS "id!"
           FROM (
               (SELECT 3 AS rank, transaction_id AS id, kind::text, amount AS credits,
                       NULL::bigint AS event_id, NULL::bigint AS queue_id, NULL::bigint AS run_id,
                       transaction_id, actor, nullif(note, '') AS note, price_per_credit, currency,
                       shown_at AS at, NULL::timestamptz AS until
                FROM top_up
                WHERE organisation_id = $1 AND shown_at >= $5 AND shown_at <= $6
                  AND (shown_at, 3, transaction_id) < ($6, $7, $8)
                  AND (kind::text = ANY ($2) OR $2 = '{}') AND $3::bigint IS NULL
                ORDER BY shown_at DESC, transaction_id DESC LIMIT $4)
               UNION ALL
               (SELECT 2, u.run_id, 'usage', -u.claimed, r.event_id, u.queue_id, u.run_id, NULL,
                       r.actor, NULL, NULL, NULL, u.first_claimed_at, u.last_claimed_at
                FROM usage u JOIN run r USING (run_id)
                WHERE u.organisation_id = $1 AND u.first_claimed_at >= $5
                  AND u.first_claimed_at <= $6
                  AND (u.first_claimed_at, 2, u.run_id) < ($6, $7, $8)
                  AND ('usage' = ANY ($2) OR $2 = '{}') AND ($3 IS NULL OR r.event_id = $3)
                ORDER BY u.first_claimed_at DESC, u.run_id DESC LIMIT $4)
               UNION ALL
               (SELECT 1, u.run_id, 'refund', u.refunded, r.event_id, u.queue_id, u.run_id, NULL,
                       'System', NULL, NULL, NULL, u.first_refunded_at, u.last_refunded_at
                FROM usage u JOIN run r USING (run_id)
                WHERE u.organisation_id = $1 AND u.first_refunded_at >= $5
                  AND u.first_refunded_at <= $6
                  AND (u.first_refunded_at, 1, u.run_id) < ($6, $7, $8)
                  AND ('refund' = ANY ($2) OR $2 = '{}') AND ($3 IS NULL OR r.event_id = $3)
                ORDER BY u.first_refunded_at DESC, u.run_id DESC LIMIT $4)
           ) m LEFT JOIN event e USING (event_id) LEFT JOIN queue q USING (queue_id)
           ORDER BY m.at DESC, m.rank DESC, m.id DESC LIMIT $4"#,
        organisation.0,
        &kinds,
        page.event.map(|event| event.0),
        page.most,
        page.since.unwrap_or(DateTime::UNIX_EPOCH),
        at,
        rank,
        id
    )
    .map(|row| Movement {
        kind: row.kind,
        credits: row.credits,
        event: row.event,
        event_name: row.event_name,
        operation: row.operation,
        run: row.run,
        transaction: row.transaction,
        actor: row.actor,
        note: row.note,
        price_per_credit: row.price_per_credit,
        currency: row.currency,
        at: row.at,
        until: row.until,
        cursor: cursor::Cursor([row.at.timestamp_micros(), row.rank.into(), row.id]),
    })
    .fetch_all(db)
    .await
}

/// Returns the last second of the year 9999. PostgreSQL cannot store chrono's `MAX_UTC`.
fn far_future() -> DateTime<Utc> {
    DateTime::from_timestamp(253_402_300_799, 0).unwrap_or_default()
}
