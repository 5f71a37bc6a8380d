//! The ledger's chains as a file, and its verification without a database.

use std::{collections::BTreeMap, io};

use serde::Deserialize;
use sqlx::PgConnection;

use super::{
    follower::{Follower, Verified},
    link::{Head, Link},
    read::{Read, begin, heads, read},
};
use crate::ids::OrganisationId;

/// Writes the chains of one organisation, or of all, as one JSON object a line: for each chain its
/// head, then its links. [`verify_export`] can verify the export anywhere, without a database.
///
/// # Errors
/// When the database has trouble, or when `out` cannot be written.
pub async fn export(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    out: &mut (dyn io::Write + Send),
) -> Result<(), ExportError> {
    let mut tx = begin(db).await?;
    for head in heads(&mut tx, organisation).await? {
        writeln!(out, "{}", serde_json::to_string(&head).map_err(io::Error::from)?)?;
        let mut after = 0;
        loop {
            let page = read(&mut tx, head.organisation, after).await?;
            let Some(last) = page.last() else { break };
            after = last.link.last_entry;
            for Read { link, .. } in &page {
                writeln!(out, "{}", serde_json::to_string(link).map_err(io::Error::from)?)?;
            }
        }
    }
    tx.rollback().await?;
    Ok(())
}

/// Why the ledger could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The database has trouble.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The export cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why an export cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A line is not one that [`export`] writes.
    #[error("line {line} is not part of a photogate ledger export: {error}")]
    Line {
        /// The number of the line, counted from 1.
        line: usize,
        /// What is wrong with the line.
        error: serde_json::Error,
    },
    /// The file has no head of a chain: it is not an export, or it is empty.
    #[error("the file has no chain: it is not a photogate ledger export")]
    Empty,
    /// The file has two chains of one organisation.
    #[error("line {0} begins a second chain of the same organisation")]
    Repeated(usize),
    /// A link comes before the head of its chain.
    #[error("line {0} is a link, but the head of its chain is missing before it")]
    Headless(usize),
    /// The export cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Link(Link),
    Head(Head),
}

/// Verifies an export that [`export`] wrote. `seen` is called with every link that was read.
///
/// # Errors
/// See [`ImportError`]. A broken chain is a result, not an error.
pub fn verify_export(
    export: impl io::BufRead,
    mut seen: impl FnMut(&Link),
) -> Result<Vec<Verified>, ImportError> {
    let mut chains: BTreeMap<OrganisationId, (Head, Follower)> = BTreeMap::new();
    for (number, line) in export.lines().enumerate() {
        let line = serde_json::from_str(&line?)
            .map_err(|error| ImportError::Line { line: number + 1, error })?;
        match line {
            Line::Head(head) => {
                let follower = Follower::new(head.organisation);
                if chains.insert(head.organisation, (head, follower)).is_some() {
                    return Err(ImportError::Repeated(number + 1));
                }
            }
            Line::Link(link) => {
                let (_, follower) =
                    chains.get_mut(&link.organisation).ok_or(ImportError::Headless(number + 1))?;
                follower.follow(&link);
                seen(&link);
            }
        }
    }
    if chains.is_empty() {
        return Err(ImportError::Empty);
    }
    Ok(chains
        .into_values()
        .map(|(head, mut follower)| {
            follower.arrive(&head);
            follower.verified
        })
        .collect())
}
