//! Reads chains from the database, in one snapshot.

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};

use super::link::{Entry, Head, Link, SealedTopUp};
use crate::{
    ids::OrganisationId,
    ledger::{credits::Credits, top_up::TopUpKind},
};

/// Number of links that are read at once. A link has at most 1,024 entries.
const PAGE: i64 = 100;

/// Begins a transaction that sees one snapshot.
pub(super) async fn begin(
    db: &mut PgConnection,
) -> sqlx::Result<sqlx::Transaction<'_, sqlx::Postgres>> {
    let mut tx = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    // This reads the whole ledger. The timeouts are meant for the gate's short statements.
    sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *tx).await?;
    sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0").execute(&mut *tx).await?;
    Ok(tx)
}

/// Reads the head of each chain: the account's count of entries, and the hash of the last link. If
/// the ledger or the chain has more entries than the account says, that larger number counts.
pub(super) async fn heads(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
) -> sqlx::Result<Vec<Head>> {
    sqlx::query_as!(
        Head,
        r#"SELECT a.organisation_id AS "organisation: _",
                  greatest(a.entries, l.last_entry,
                           (SELECT max(entry) FROM ledger
                            WHERE ledger.organisation_id = a.organisation_id)) AS "entries!",
                  encode(l.hash, 'hex') AS head
           FROM account a
           LEFT JOIN LATERAL (
               SELECT * FROM link WHERE link.organisation_id = a.organisation_id
               ORDER BY last_entry DESC LIMIT 1) l ON true
           WHERE a.organisation_id = $1 OR $1 IS NULL ORDER BY a.organisation_id"#,
        organisation.map(|organisation| organisation.0)
    )
    .fetch_all(db)
    .await
}

/// A link from the database. `foreign` is the number of its first entry whose time, worker or leg
/// does not match the link.
pub(super) struct Read {
    pub(super) link: Link,
    pub(super) foreign: Option<i64>,
}

/// Reads the next links after the entry `after`, at most [`PAGE`], with their entries.
pub(super) async fn read(
    db: &mut PgConnection,
    organisation: OrganisationId,
    after: i64,
) -> sqlx::Result<Vec<Read>> {
    let links = sqlx::query!(
        "SELECT first_entry, last_entry, at, worker_id, available, reserved, spent,
                encode(hash, 'hex') AS \"hash!\"
         FROM link WHERE organisation_id = $1 AND last_entry > $2 ORDER BY last_entry LIMIT $3",
        organisation.0,
        after,
        PAGE
    )
    .fetch_all(&mut *db)
    .await?;
    let last = links.last().map_or(after, |link| link.last_entry);
    let mut entries = sealed(db, organisation, after, last).await?.into_iter().peekable();
    let mut page = Vec::new();
    for link in links {
        let (mut sealed, mut foreign) = (Vec::new(), None);
        // Skips entries that no link seals. The check of the links reports the gap.
        while entries.next_if(|row| row.number < link.first_entry).is_some() {}
        while let Some(row) = entries.next_if(|row| row.number <= link.last_entry) {
            if row.at != link.at || row.worker != link.worker_id || !row.leg_fits {
                foreign.get_or_insert(row.number);
            }
            sealed.push(row.entry);
        }
        let link = Link {
            organisation,
            first_entry: link.first_entry,
            last_entry: link.last_entry,
            at: link.at,
            worker: link.worker_id,
            available: Credits(link.available),
            reserved: Credits(link.reserved),
            spent: Credits(link.spent),
            hash: link.hash,
            entries: sealed,
        };
        page.push(Read { link, foreign });
    }
    Ok(page)
}

/// An entry from the database, with what must match its link.
struct Row {
    number: i64,
    at: DateTime<Utc>,
    worker: Option<i64>,
    /// Whether it is the leg that its movement says.
    leg_fits: bool,
    entry: Entry,
}

/// Reads the entries after `after`, up to `last`.
async fn sealed(
    db: &mut PgConnection,
    organisation: OrganisationId,
    after: i64,
    last: i64,
) -> sqlx::Result<Vec<Row>> {
    let rows = sqlx::query!(
        r#"SELECT l.entry, l.transaction_id, l.leg, l.movement::text AS "movement!", l.amount,
                  l.worker_id, l.at, t.kind AS "kind?: TopUpKind",
                  t.price_per_credit::text AS "price_per_credit?", t.currency AS "currency?",
                  t.actor AS "actor?", t.note AS "note?", t.idempotency_key AS "idempotency_key?"
           FROM ledger l
           LEFT JOIN top_up t ON l.movement = 'top_up' AND t.transaction_id = l.transaction_id
           WHERE l.organisation_id = $1 AND l.entry > $2 AND l.entry <= $3 ORDER BY l.entry"#,
        organisation.0,
        after,
        last
    )
    .fetch_all(db)
    .await?;
    let rows = rows.into_iter().map(|row| {
        let opens = matches!(row.movement.as_str(), "top_up" | "reserve");
        let words = row.kind.zip(row.actor).zip(row.note).zip(row.idempotency_key);
        Row {
            number: row.entry,
            at: row.at,
            worker: row.worker_id,
            leg_fits: (row.leg == 0) == opens,
            entry: Entry {
                transaction: row.transaction_id,
                movement: row.movement,
                amount: row.amount,
                top_up: words.map(|(((kind, actor), note), idempotency_key)| SealedTopUp {
                    kind,
                    price_per_credit: row.price_per_credit,
                    currency: row.currency,
                    actor,
                    note,
                    idempotency_key,
                }),
            },
        }
    });
    Ok(rows.collect())
}
