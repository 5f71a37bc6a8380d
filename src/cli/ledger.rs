//! `photogate ledger …`: verifies and exports the ledger with its hash chain.

use std::{fs::File, io, path::PathBuf};

use anyhow::{Context, bail};

use super::{End, Output, archive, say};
use crate::{
    config::Config,
    database,
    ids::OrganisationId,
    ledger::hash_chain::{self, Link, Verified},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Ledger {
    /// Verifies the hash chain that seals the ledger, and archives; exits with 3 if one is broken
    #[command(
        after_help = "Needs: PostgreSQL (--database-url), and the photo store (--store-url) if events are
archived; or a file with --export.

Of each archived event, it reads the archive: its files must be those that were written, and its
outcomes those that the ledger has. `photogate archive verify` does only that, for one event.

Examples:
  photogate ledger verify
  photogate ledger verify --organisation 1 --anchor 4f2a…   is the link I noted still there?
  photogate ledger verify --export ledger.ndjson            needs no database

Keep the printed hashes in another place. The owner of the database could rewrite the whole chain,
but the rewritten chain would not contain the hash that you noted: check it with --anchor."
    )]
    Verify {
        /// Only the chain of this organisation, by number [default: all organisations]
        #[arg(long)]
        organisation: Option<OrganisationId>,
        /// Verify a file that `photogate ledger export` wrote, without a database; `-` reads stdin
        #[arg(long, value_name = "FILE", conflicts_with = "organisation")]
        export: Option<PathBuf>,
        /// A hash that was noted earlier (64 hexadecimal digits); exits with 3 if no link has it.
        /// May be repeated
        #[arg(long, value_name = "HASH")]
        anchor: Vec<String>,
    },
    /// Writes the ledger with its hash chain to stdout, one JSON object a line
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate ledger export --organisation 1 > ledger.ndjson")]
    Export {
        /// Only the ledger of this organisation, by number [default: all organisations]
        #[arg(long)]
        organisation: Option<OrganisationId>,
    },
}

impl Ledger {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        match self {
            Self::Verify { organisation, export, anchor } => {
                verify(organisation, export, anchor, config, output).await
            }
            Self::Export { organisation } => {
                let pool = database::connect(&config.database_url, 1).await?;
                let mut out = io::BufWriter::new(io::stdout());
                match hash_chain::export(&mut *pool.acquire().await?, organisation, &mut out).await
                {
                    Err(hash_chain::ExportError::Io(error)) => return Err(error.into()),
                    other => other?,
                }
                io::Write::flush(&mut out)?;
                Ok(End::Ok)
            }
        }
    }
}

async fn verify(
    organisation: Option<OrganisationId>,
    export: Option<PathBuf>,
    mut anchors: Vec<String>,
    config: &Config,
    output: Output,
) -> anyhow::Result<End> {
    if let Some(wrong) = anchors.iter().find(|hash| hash.len() != 64) {
        bail!("{wrong:?} is not the hash of a link: a hash has 64 hexadecimal digits");
    }
    let seen = |link: &Link| anchors.retain(|anchor| !anchor.eq_ignore_ascii_case(&link.hash));
    let is_export = export.is_some();
    let verified = match export {
        Some(file) if file.as_os_str() == "-" => {
            hash_chain::verify_export(io::stdin().lock(), seen)?
        }
        Some(file) => {
            let open = File::open(&file).with_context(|| format!("reading {}", file.display()))?;
            hash_chain::verify_export(io::BufReader::new(open), seen)?
        }
        None => {
            let pool = database::connect(&config.database_url, 1).await?;
            hash_chain::verify(&mut *pool.acquire().await?, organisation, seen).await?
        }
    };
    if let (Some(organisation), true) = (organisation, verified.is_empty()) {
        say!("error: there is no organisation {organisation}");
        return Ok(End::NotFound);
    }
    output.rows(&verified, &["Organisation", "Entries", "Links", "Last link"], row)?;
    let archives = if is_export {
        Vec::new()
    } else {
        archive::verify_standing(config, organisation, None).await?
    };
    for archive in &archives {
        say!("{}", archive::sentence(archive));
    }
    if !is_export {
        archive::say_given_up(config, organisation).await?;
    }
    let damaged = archives.iter().any(|archive| !archive.broken.is_empty());
    for broken in verified.iter().filter_map(|one| one.broken.as_ref()) {
        say!("error: the chain is broken: {broken}");
    }
    for anchor in &anchors {
        say!(
            "error: no link has the hash {anchor}: the chain was rewritten, or the hash belongs to \
             another chain"
        );
    }
    if verified.iter().all(|one| one.broken.is_none()) && anchors.is_empty() && !damaged {
        say!("All links are intact.");
        Ok(End::Ok)
    } else {
        Ok(End::BooksDoNotBalance)
    }
}

fn row(one: &Verified) -> Vec<String> {
    vec![
        one.head.organisation.to_string(),
        one.head.entries.to_string(),
        one.links.to_string(),
        one.head.head.clone().unwrap_or_else(|| "—".into()),
    ]
}
