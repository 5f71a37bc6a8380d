//! Follows a chain from its first link to its head, and finds the first broken link.

use serde::Serialize;

use super::link::{Head, Link};
use crate::ids::OrganisationId;

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

/// Checks the chain of one organisation, link by link.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) verified: Verified,
    available: i64,
    reserved: i64,
    spent: i64,
}

impl Follower {
    pub(super) fn new(organisation: OrganisationId) -> Self {
        let head = Head { organisation, entries: 0, head: None };
        Self {
            verified: Verified { head, links: 0, broken: None },
            available: 0,
            reserved: 0,
            spent: 0,
        }
    }

    /// Checks the next link. Links after the first broken one are ignored.
    pub(super) fn follow(&mut self, link: &Link) {
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

    /// Notes the first broken link.
    pub(super) fn breaks(&mut self, first_entry: i64, last_entry: i64, what: String) {
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

    /// Checks that the chain ends where `head` says.
    pub(super) fn arrive(&mut self, head: &Head) {
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
