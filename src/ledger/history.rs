//! The history that an organisation sees. Its rows add up to the balance at any time. So credits
//! count as used when they leave the balance, which is when they are reserved. A commit does not
//! change the balance and is not shown.

mod photos;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
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
#[schema(as = MovementKind)]
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

/// A row of the history: a top-up, or the usage of a run on one day, or its refunds on one day. Days
/// are those of the organisation's time zone.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Movement {
    /// Why the balance changed.
    pub kind: Kind,
    /// The change of the balance in credits; negative for usage.
    pub credits: Credits,
    /// The available credits after the last movement in this row, as the ledger has them. Runs
    /// overlap in time, so within a day this is not always the balance of the row before, plus
    /// `credits`.
    pub balance: Credits,
    /// True while the row's day is not over, so that its usage or refunds may grow, and the row may
    /// move to an earlier page. Only days that are over stay as they are between two pages.
    pub growing: bool,
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
    /// The time of the last movement in this row. The history is ordered by it.
    pub at: DateTime<Utc>,
    /// The time of the first movement in this row, for usage and refunds of photos.
    pub from: Option<DateTime<Utc>>,
    /// The position of this row. To get the next page, pass it as [`Page::after`].
    #[schema(value_type = String)]
    pub cursor: Cursor,
}

/// A position in the history: the day as a number of days since the year 1, the account's last
/// entry after the row, and the run, which tells rows of one claim apart.
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
    /// The position after which the page begins. The first page begins on the day after `before`,
    /// in whatever time zone, or in the far future.
    fn begins_after(&self) -> (NaiveDate, i64, i64) {
        let newest = self.before.unwrap_or(DateTime::<Utc>::MAX_UTC).min(far_future());
        let future = (newest + TimeDelta::days(1)).date_naive();
        self.after.map_or((future, i64::MAX, i64::MAX), |cursor::Cursor([day, entry, run])| {
            let day = i32::try_from(day).ok().and_then(NaiveDate::from_num_days_from_ce_opt);
            (day.map_or(future, |day| day.min(future)), entry, run)
        })
    }
}

/// Returns a page of the history of an organisation, newest first. A run has one row of usage a day,
/// and one row of refunds if there were any. The cost grows with the number of runs of a day, not
/// with the ledger: the index has the day of a row, because what moves with each claim is in none.
///
/// # Errors
/// When the database has trouble.
pub async fn history(
    db: &mut PgConnection,
    organisation: OrganisationId,
    page: Page<'_>,
) -> sqlx::Result<Vec<Movement>> {
    let kinds: Vec<_> = page.kinds.iter().map(|kind| kind.code().to_owned()).collect();
    let (day, entry, id) = page.begins_after();
    let newest = page.before.unwrap_or(DateTime::<Utc>::MAX_UTC).min(far_future());
    sqlx::query!(
        r#"WITH o AS MATERIALIZED (
               SELECT organisation_id, time_zone,
                      day_of(greatest(clock(), moved_at), time_zone) AS today,
                      day_of($5, time_zone) AS first, least($7, day_of($6, time_zone)) AS last,
                      CASE WHEN $3::bigint IS NOT NULL THEN
                          ARRAY(SELECT queue_id FROM queue WHERE event_id = $3) END AS queues
               FROM organisation JOIN account USING (organisation_id) WHERE organisation_id = $1),
           m AS MATERIALIZED (
               (SELECT kind::text AS kind, amount AS credits, NULL::bigint AS queue_id,
                       0::bigint AS run_id, transaction_id, actor, nullif(note, '') AS note,
                       price_per_credit, currency, shown_at AS at, NULL::timestamptz AS begins_at,
                       day_of(shown_at, time_zone) AS day, entry, false AS is_usage
                FROM o JOIN top_up t USING (organisation_id) CROSS JOIN LATERAL (
                    SELECT entry FROM ledger l
                    WHERE l.transaction_id = t.transaction_id AND l.leg = 0 LIMIT 1) l
                WHERE t.organisation_id = $1 AND shown_at >= $5 AND shown_at < $6
                  AND shown_at < day_begins($7 + 1, time_zone)
                  AND (day_of(shown_at, time_zone), entry, 0::bigint) < ($7, $8, $9::bigint)
                  AND (kind::text = ANY ($2) OR $2 = '{}') AND $3 IS NULL
                ORDER BY shown_at DESC, entry DESC LIMIT $4)
               UNION ALL
               (SELECT 'usage', -u.claimed, u.queue_id, u.run_id, NULL, NULL, NULL, NULL, NULL,
                       u.last_claimed_at, u.first_claimed_at, u.day, u.claimed_entry, true
                FROM o JOIN usage u USING (organisation_id)
                WHERE u.organisation_id = $1 AND u.first_claimed_at IS NOT NULL
                  AND u.day >= o.first AND u.day <= o.last
                  AND (u.day, u.claimed_entry, u.run_id) < ($7, $8, $9::bigint)
                  AND u.last_claimed_at >= $5 AND u.last_claimed_at < $6
                  AND ('usage' = ANY ($2) OR $2 = '{}')
                  AND (o.queues IS NULL OR u.queue_id = ANY (o.queues))
                ORDER BY u.day DESC, u.claimed_entry DESC, u.run_id DESC LIMIT $4)
               UNION ALL
               (SELECT 'refund', u.refunded, u.queue_id, u.run_id, NULL, 'System', NULL, NULL, NULL,
                       u.last_refunded_at, u.first_refunded_at, u.day, u.refunded_entry, true
                FROM o JOIN usage u USING (organisation_id)
                WHERE u.organisation_id = $1 AND u.first_refunded_at IS NOT NULL
                  AND u.day >= o.first AND u.day <= o.last
                  AND (u.day, u.refunded_entry, u.run_id) < ($7, $8, $9::bigint)
                  AND u.last_refunded_at >= $5 AND u.last_refunded_at < $6
                  AND ('refund' = ANY ($2) OR $2 = '{}')
                  AND (o.queues IS NULL OR u.queue_id = ANY (o.queues))
                ORDER BY u.day DESC, u.refunded_entry DESC, u.run_id DESC LIMIT $4)
               ORDER BY day DESC, entry DESC, run_id DESC LIMIT $4)
           SELECT m.kind AS "kind!: Kind", m.credits AS "credits!: Credits",
                  (SELECT l.available FROM link l
                   WHERE l.organisation_id = $1 AND l.last_entry >= m.entry
                   ORDER BY l.last_entry LIMIT 1) AS "balance!: Credits",
                  m.is_usage AND m.day >= o.today AS "growing!",
                  q.event_id AS "event?: EventId", e.name AS "event_name?",
                  q.operation AS "operation?: Operation", r.run_id AS "run?: RunId",
                  m.transaction_id AS "transaction: JobId", coalesce(m.actor, r.actor) AS "actor!",
                  m.note, m.price_per_credit, m.currency, m.at AS "at!", m.begins_at,
                  m.day AS "day!", m.entry AS "entry!", m.run_id AS "id!"
           FROM m CROSS JOIN o LEFT JOIN run r ON r.run_id = m.run_id
           LEFT JOIN queue q ON q.queue_id = m.queue_id LEFT JOIN event e ON e.event_id = q.event_id
           ORDER BY m.day DESC, m.entry DESC, m.run_id DESC"#,
        organisation.0,
        &kinds,
        page.event.map(|event| event.0),
        page.most,
        page.since.unwrap_or(DateTime::UNIX_EPOCH),
        newest,
        day,
        entry,
        id
    )
    .map(|row| Movement {
        kind: row.kind,
        credits: row.credits,
        balance: row.balance,
        growing: row.growing,
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
        from: row.begins_at,
        cursor: cursor::Cursor([row.day.num_days_from_ce().into(), row.entry, row.id]),
    })
    .fetch_all(db)
    .await
}

/// Returns the last second of the year 9998. PostgreSQL cannot store chrono's `MAX_UTC`, and the days
/// after it must exist, too.
fn far_future() -> DateTime<Utc> {
    DateTime::from_timestamp(253_370_764_799, 0).unwrap_or_default()
}
