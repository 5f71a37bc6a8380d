//! Follows the hash chains of the audit log. The text of an entry, which is hashed, is defined in
//! `migrations/functions/audit.sql`.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection};

use crate::ids::{OrganisationId, PipelineId};

/// The result of following one chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The organisation whose entries these are; `None`: those of no single organisation.
    pub organisation: Option<OrganisationId>,
    /// The pipeline that made them; `None`: they were made over the service or the command line.
    pub pipeline: Option<PipelineId>,
    /// Number of entries that are intact.
    pub entries: i64,
    /// The hash of the last intact entry. Keep a copy outside of the database: nobody can rewrite
    /// the log without changing it.
    pub head: Option<String>,
    /// What is wrong with the next entry; `None` if the whole chain is intact.
    pub broken: Option<String>,
}

/// An entry, as it is sealed.
struct Sealed {
    link: i64,
    at: DateTime<Utc>,
    actor: String,
    action: String,
    subject: String,
    detail: String,
    hash: String,
}

impl Sealed {
    fn seal(&self, chain: i64, previous: Option<&str>) -> String {
        let [actor, action, subject] =
            [&self.actor, &self.action, &self.subject].map(|text| serde_json::json!(text));
        let (link, micros, detail) = (self.link, self.at.timestamp_micros(), &self.detail);
        let previous = previous.unwrap_or("-");
        let text =
            format!("{chain} {link} {micros} {actor} {action} {subject} {detail} {previous}");
        hex::encode(Sha256::digest(text))
    }
}

/// Entries that are read at once.
const PAGE: i64 = 1000;

/// Follows the chains of one organisation and its pipelines, or all chains, from the first entry to the last. It reads
/// one snapshot, so that other work can go on. `seen` is called with the hash of every intact entry.
///
/// # Errors
/// When the database has trouble. A broken chain is a result, not an error.
pub async fn verify(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    mut seen: impl FnMut(&str),
) -> sqlx::Result<Vec<Verified>> {
    let mut tx = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    // This reads the whole log. The timeouts are meant for short statements.
    sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *tx).await?;
    // Entries without an end of their chain are found, too.
    let ends = sqlx::query!(
        r#"SELECT chain AS "chain!", c.links AS "links?", encode(c.hash, 'hex') AS "hash?",
                  coalesce(p.organisation_id, nullif(greatest(chain, 0), 0))
                      AS "organisation?: OrganisationId",
                  CASE WHEN chain < 0 THEN -chain END AS "pipeline?: PipelineId"
           FROM audit_chain c FULL JOIN (SELECT DISTINCT chain FROM audit_log) l USING (chain)
           LEFT JOIN pipeline p ON p.pipeline_id = -chain
           WHERE $1::bigint IS NULL OR chain = $1 OR p.organisation_id = $1
           ORDER BY chain < 0, abs(chain)"#,
        organisation.map(|organisation| organisation.0)
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut all = Vec::new();
    for end in ends {
        let (organisation, pipeline) = (end.organisation, end.pipeline);
        let mut verified =
            Verified { organisation, pipeline, entries: 0, head: None, broken: None };
        follow(&mut tx, end.chain, &mut verified, &mut seen).await?;
        let reached = (Some(verified.entries), &verified.head);
        if verified.broken.is_none() && reached != (end.links, &end.hash) {
            let links = end.links.unwrap_or(0);
            verified.broken = Some(format!(
                "the chain should end at entry {links}, and it ends at {}",
                verified.entries
            ));
        }
        all.push(verified);
    }
    tx.rollback().await?;
    Ok(all)
}

async fn follow(
    db: &mut PgConnection,
    chain: i64,
    verified: &mut Verified,
    seen: &mut impl FnMut(&str),
) -> sqlx::Result<()> {
    loop {
        let page = sqlx::query_as!(
            Sealed,
            r#"SELECT link, at, actor, action, subject, detail::text AS "detail!",
                      encode(hash, 'hex') AS "hash!"
               FROM audit_log WHERE chain = $1 AND link > $2 ORDER BY link LIMIT $3"#,
            chain,
            verified.entries,
            PAGE
        )
        .fetch_all(&mut *db)
        .await?;
        if page.is_empty() {
            return Ok(());
        }
        for entry in page {
            let next = verified.entries + 1;
            if entry.link != next {
                verified.broken = Some(format!("entry {next} is missing"));
                return Ok(());
            }
            if entry.seal(chain, verified.head.as_deref()) != entry.hash {
                verified.broken = Some(format!(
                    "the hash of entry {next} does not match its text and the entry before"
                ));
                return Ok(());
            }
            seen(&entry.hash);
            (verified.entries, verified.head) = (next, Some(entry.hash));
        }
    }
}
