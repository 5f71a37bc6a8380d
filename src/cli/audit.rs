//! `photogate audit …`: lists the audit log, and verifies the hash chains that seal it.

use anyhow::bail;

use super::{End, Output, say};
use crate::{access::audit_log, config::Config, database, ids::OrganisationId};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Audit {
    /// Lists who changed what, newest first
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate audit list --organisation 1 --most 20")]
    List {
        /// Only what concerns this organisation, by number
        #[arg(long)]
        organisation: Option<OrganisationId>,
        /// The most entries that are listed
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        most: i64,
    },
    /// Verifies the hash chains that seal the audit log; exits with 3 if one is broken
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Examples:
  photogate audit verify
  photogate audit verify --organisation 1 --anchor 4f2a…   is the entry I noted still there?

Keep the printed hashes in another place. The owner of the database could rewrite a whole chain,
but the rewritten chain would not contain the hash that you noted: check it with --anchor.")]
    Verify {
        /// Only the chains of this organisation and its pipelines, by number [default: all]
        #[arg(long)]
        organisation: Option<OrganisationId>,
        /// A hash that was noted earlier (64 hexadecimal digits); exits with 3 if no entry has it.
        /// May be repeated
        #[arg(long, value_name = "HASH")]
        anchor: Vec<String>,
    },
}

impl Audit {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        let (organisation, mut anchors) = match self {
            Self::List { organisation, most } => {
                let found = audit_log::list(&mut db, organisation, None, most).await?;
                output.rows(
                    &found,
                    &["Entry", "When", "Who", "Organisation", "Action", "Subject", "Detail"],
                    |entry| {
                        vec![
                            entry.id.to_string(),
                            entry.at.format("%Y-%m-%d %H:%M:%S").to_string(),
                            entry.actor.clone(),
                            entry.organisation.map_or_else(|| "—".into(), |id| id.to_string()),
                            entry.action.clone(),
                            entry.subject.clone(),
                            entry.detail.to_string(),
                        ]
                    },
                )?;
                return Ok(End::Ok);
            }
            Self::Verify { organisation, anchor } => (organisation, anchor),
        };
        if let Some(wrong) = anchors.iter().find(|hash| hash.len() != 64) {
            bail!("{wrong:?} is not the hash of an entry: a hash has 64 hexadecimal digits");
        }
        let seen = |hash: &str| anchors.retain(|anchor| !anchor.eq_ignore_ascii_case(hash));
        let verified = audit_log::verify(&mut db, organisation, seen).await?;
        if let (Some(organisation), true) = (organisation, verified.is_empty()) {
            say!("error: the audit log has no entry of organisation {organisation}");
            return Ok(End::NotFound);
        }
        let whose = |one: &audit_log::Verified| {
            one.organisation.map_or_else(|| "all".into(), |id| id.to_string())
        };
        output.rows(&verified, &["Organisation", "Pipeline", "Entries", "Last entry"], |one| {
            let dash = || "—".to_owned();
            let pipeline = one.pipeline.map_or_else(dash, |id| id.to_string());
            vec![
                whose(one),
                pipeline,
                one.entries.to_string(),
                one.head.clone().unwrap_or_else(dash),
            ]
        })?;
        for one in &verified {
            if let Some(broken) = &one.broken {
                say!("error: the audit log of organisation {} is broken: {broken}", whose(one));
            }
        }
        for anchor in &anchors {
            say!(
                "error: no entry has the hash {anchor}: the log was rewritten, or it is of another"
            );
        }
        if verified.iter().all(|one| one.broken.is_none()) && anchors.is_empty() {
            say!("All entries are intact.");
            Ok(End::Ok)
        } else {
            Ok(End::BooksDoNotBalance)
        }
    }
}
