//! Verifies the hash chains that seal the ledger, link by link, from the database or from an
//! export. The text of a link, which is hashed, is defined in `migrations/functions/chain.sql`.

mod export;

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection};

use crate::{
    ids::OrganisationId,
    ledger::{credits::Credits, top_up::TopUpKind},
};

pub use export::{ExportError, ImportError, export, verify_export};

/// Number of links that are read at once. A link has at most 1,024 entries.
const PAGE: i64 = 100;

/// A link of a hash chain. It seals the entries that one SQL statement wrote for one organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The organisation that the chain belongs to.
    pub organisation: OrganisationId,
    /// The number of the first ledger entry that the link seals.
    pub first_entry: i64,
    /// The number of the last ledger entry that the link seals.
    pub last_entry: i64,
    /// The time when the entries were booked; the same for all of them.
    pub at: DateTime<Utc>,
    /// The worker that booked the entries; `None` for a top-up.
    pub worker: Option<i64>,
    /// Available credits after the last entry.
    pub available: Credits,
    /// Reserved credits after the last entry.
    pub reserved: Credits,
    /// Spent credits after the last entry.
    pub spent: Credits,
    /// The SHA-256 hash of the link's text, in hexadecimal.
    pub hash: String,
    /// The sealed entries, in the order of their numbers.
    pub entries: Vec<Entry>,
}

/// The part of a ledger entry that is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The transaction: the number of the job or the top-up.
    pub transaction: i64,
    /// `top_up`, `reserve`, `commit` or `refund`.
    pub movement: String,
    /// Number of credits; negative for an adjustment downwards.
    pub amount: i64,
    /// The details of the top-up, if the entry is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_up: Option<SealedTopUp>,
}

/// The part of a top-up that is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedTopUp {
    /// The kind of top-up.
    pub kind: TopUpKind,
    /// The price per credit of a purchase, with four decimals, as in the link's text.
    pub price_per_credit: Option<String>,
    /// The currency of a purchase, as an ISO 4217 code.
    pub currency: Option<String>,
    /// Who did it: an e-mail address, the name of a token, or `System`.
    pub actor: String,
    /// A note for people.
    pub note: String,
    /// The idempotency key of the request.
    pub idempotency_key: String,
}

/// The head of a chain: its last link, and how many entries it seals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The organisation that the chain belongs to.
    pub organisation: OrganisationId,
    /// Number of ledger entries that the chain seals.
    pub entries: i64,
    /// The hash of the last link; `None` if the chain has no link.
    pub head: Option<String>,
}

/// The first broken link of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("organisation {organisation}, entries {first_entry} to {last_entry}: {what}")]
pub struct Broken {
    /// The organisation that the chain belongs to.
    pub organisation: OrganisationId,
    /// The number of the first ledger entry of the broken link.
    pub first_entry: i64,
    /// The number of the last ledger entry of the broken link.
    pub last_entry: i64,
    /// What is wrong, in words for a person.
    pub what: String,
}

/// The result of verifying one chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The last link that is valid. Keep a copy outside of the database: nobody can rewrite the
    /// chain without changing this hash.
    #[serde(flatten)]
    pub head: Head,
    /// Number of valid links.
    pub links: u64,
    /// The first broken link; `None` if the whole chain is valid.
    pub broken: Option<Broken>,
}

impl Link {
    /// Computes the hash of the link's text. The text includes the hash of the previous link.
    fn seal(&self, previous: Option<&str>) -> String {
        let mut text = format!(
            "{} {}-{} {} {} {} {} {} {}",
            self.organisation,
            self.first_entry,
            self.last_entry,
            self.at.timestamp_micros(),
            self.worker.unwrap_or(0),
            self.available.0,
            self.reserved.0,
            self.spent.0,
            previous.unwrap_or("-")
        );
        for entry in &self.entries {
            let _ = write!(text, "\n{} {} {}", entry.transaction, entry.movement, entry.amount);
            if let Some(top_up) = &entry.top_up {
                let price = top_up.price_per_credit.as_deref().unwrap_or("-");
                let currency = top_up.currency.as_deref().unwrap_or("-");
                let kind = serde_json::json!(top_up.kind);
                let _ = write!(text, " {} {price} {currency}", kind.as_str().unwrap_or_default());
                for words in [&top_up.actor, &top_up.note, &top_up.idempotency_key] {
                    let _ = write!(text, " {}", serde_json::json!(words));
                }
            }
        }
        hex::encode(Sha256::digest(text))
    }
}

/// Checks the chain of one organisation, link by link.
#[derive(Debug)]
struct Follower {
    verified: Verified,
    available: i64,
    reserved: i64,
    spent: i64,
}

impl Follower {
    fn new(organisation: OrganisationId) -> Self {
        let head = Head { organisation, entries: 0, head: None };
        Self {
            verified: Verified { head, links: 0, broken: None },
            available: 0,
            reserved: 0,
            spent: 0,
        }
    }

    /// Checks the next link. Links after the first broken one are ignored.
    fn follow(&mut self, link: &Link) {
        if self.verified.broken.is_some() {
            return;
        }
        match self.check(link) {
            Ok(()) => {
                self.verified.links += 1;
                self.verified.head.entries = link.last_entry;
                self.verified.head.head = Some(link.hash.clone());
            }
            Err(what) => self.breaks(link.first_entry, link.last_entry, what),
        }
    }

    fn breaks(&mut self, first_entry: i64, last_entry: i64, what: String) {
        let organisation = self.verified.head.organisation;
        self.verified.broken.get_or_insert(Broken { organisation, first_entry, last_entry, what });
    }

    fn check(&mut self, link: &Link) -> Result<(), String> {
        let next = self.verified.head.entries + 1;
        if link.first_entry != next {
            return Err(format!("the chain continues at entry {next}, but no link seals it"));
        }
        let sealed = link.last_entry - link.first_entry + 1;
        if i64::try_from(link.entries.len()) != Ok(sealed) {
            return Err(format!(
                "the link seals {sealed} entries, but {} are there",
                link.entries.len()
            ));
        }
        for entry in &link.entries {
            match entry.movement.as_str() {
                "top_up" => self.available = self.available.saturating_add(entry.amount),
                "reserve" => {
                    (self.available, self.reserved) = (self.available - 1, self.reserved + 1);
                }
                "refund" => {
                    (self.available, self.reserved) = (self.available + 1, self.reserved - 1);
                }
                "commit" => (self.reserved, self.spent) = (self.reserved - 1, self.spent + 1),
                other => return Err(format!("unknown movement {other:?}")),
            }
        }
        let sums = (self.available, self.reserved, self.spent);
        let said = (link.available.0, link.reserved.0, link.spent.0);
        if sums != said {
            return Err(format!(
                "the link's totals (available, reserved, spent) are {said:?}, \
                 but the entries add up to {sums:?}"
            ));
        }
        if link.seal(self.verified.head.head.as_deref()) != link.hash {
            return Err("the link's hash does not match its text and the previous link".into());
        }
        Ok(())
    }
}

/// Verifies the chains of one organisation, or of all, in the database. It reads one snapshot, so
/// other work can go on. `seen` is called with every link that was read.
///
/// # Errors
/// When the database has trouble. A broken chain is a result, not an error.
pub async fn verify(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    mut seen: impl FnMut(&Link),
) -> sqlx::Result<Vec<Verified>> {
    let mut tx = begin(db).await?;
    let mut all = Vec::new();
    for head in heads(&mut tx, organisation).await? {
        let mut follower = Follower::new(head.organisation);
        let mut after = 0;
        loop {
            let page = read(&mut tx, head.organisation, after).await?;
            let Some(last) = page.last() else { break };
            after = last.link.last_entry;
            for Read { link, foreign } in &page {
                if let Some(entry) = foreign {
                    let what =
                        format!("entry {entry} has another time, worker or leg than its link");
                    follower.breaks(link.first_entry, link.last_entry, what);
                }
                follower.follow(link);
                seen(link);
            }
            if follower.verified.broken.is_some() {
                break;
            }
        }
        follower.arrive(&head);
        all.push(follower.verified);
    }
    tx.rollback().await?;
    Ok(all)
}

impl Follower {
    /// Checks that the chain ends where `head` says.
    fn arrive(&mut self, head: &Head) {
        let reached = self.verified.head.clone();
        if reached.entries != head.entries {
            let what = format!(
                "the ledger has {} entries, and the chain seals {}",
                head.entries, reached.entries
            );
            self.breaks(reached.entries + 1, head.entries.max(reached.entries + 1), what);
        } else if reached.head != head.head {
            self.breaks(
                head.entries,
                head.entries,
                "the last link is not the one that the head names".into(),
            );
        }
    }
}

async fn begin(db: &mut PgConnection) -> sqlx::Result<sqlx::Transaction<'_, sqlx::Postgres>> {
    let mut tx = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    // This reads the whole ledger. The timeouts are meant for the gate's short statements.
    sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *tx).await?;
    sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0").execute(&mut *tx).await?;
    Ok(tx)
}

/// Reads the head of each chain: the account's count of entries, and the hash of the last link. If
/// the ledger or the chain has more entries than the account says, that larger number counts.
async fn heads(
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
struct Read {
    link: Link,
    foreign: Option<i64>,
}

/// Reads the next links after the entry `after`, at most [`PAGE`], with their entries.
async fn read(
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
    let entries = sqlx::query!(
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
    let mut entries = entries.into_iter().peekable();
    let mut page = Vec::new();
    for link in links {
        let (mut sealed, mut foreign) = (Vec::new(), None);
        // Skips entries that no link seals. The check of the links reports the gap.
        while entries.next_if(|row| row.entry < link.first_entry).is_some() {}
        while let Some(row) = entries.next_if(|row| row.entry <= link.last_entry) {
            let opens = matches!(row.movement.as_str(), "top_up" | "reserve");
            if row.at != link.at || row.worker_id != link.worker_id || (row.leg == 0) != opens {
                foreign.get_or_insert(row.entry);
            }
            let words = row.kind.zip(row.actor).zip(row.note).zip(row.idempotency_key);
            sealed.push(Entry {
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
            });
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
