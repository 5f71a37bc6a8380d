//! The links of a hash chain, and the text of a link, which is hashed.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    ids::OrganisationId,
    ledger::{credits::Credits, top_up::TopUpKind},
};

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
    /// Who did it: an e-mail address, a token's name, `cli`, or `System`.
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

impl Link {
    /// Computes the hash of the link's text. The text includes the hash of the previous link.
    pub(super) fn seal(&self, previous: Option<&str>) -> String {
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
