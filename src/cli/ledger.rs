//! `photogate ledger …`

use std::{fs::File, io, path::PathBuf};

use anyhow::{Context, bail};

use super::{End, Output, say};
use crate::{
    config::Config,
    database,
    ids::OrganisationId,
    ledger::hash_chain::{self, Link, Verified},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Ledger {
    /// Follows the hash chain that seals the ledger; exits with 3 at the first broken link
    #[command(after_help = "Examples:
  photogate ledger verify
  photogate ledger verify --organisation 1 --anchor 4f2a…        is the link I noted last month still in it?
  photogate ledger verify --export ledger.ndjson                 without a database

Keep what it prints somewhere else: whoever owns the database could write the whole chain anew, but not so that the link
you noted is still in it.")]
    Verify {
        /// Of one organisation
        #[arg(long)]
        organisation: Option<OrganisationId>,
        /// Verifies what `photogate ledger export` wrote, without a database; `-` reads it from stdin
        #[arg(long, value_name = "FILE", conflicts_with = "organisation")]
        export: Option<PathBuf>,
        /// A hash noted earlier, that must be among the links
        #[arg(long, value_name = "HASH")]
        anchor: Vec<String>,
    },
    /// Writes the ledger with its chain to stdout, a JSON object a line
    #[command(after_help = "Example:\n  photogate ledger export --organisation 1 > ledger.ndjson")]
    Export {
        /// Of one organisation
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
        bail!("{wrong:?} is no hash of a link: it has 64 hexadecimal digits");
    }
    let seen = |link: &Link| anchors.retain(|anchor| !anchor.eq_ignore_ascii_case(&link.hash));
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
    for broken in verified.iter().filter_map(|one| one.broken.as_ref()) {
        say!("error: the chain is broken: {broken}");
    }
    for anchor in &anchors {
        say!(
            "error: no link has the hash {anchor}: the chain was written anew, or this is another one's"
        );
    }
    if verified.iter().all(|one| one.broken.is_none()) && anchors.is_empty() {
        say!("Every link holds.");
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
