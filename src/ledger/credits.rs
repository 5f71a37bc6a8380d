//! Credits and account balances. Credits are whole, never expire, and never move to another
//! organisation.

use std::fmt;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::ids::OrganisationId;

/// A number of credits. One credit pays one operation on one photo.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    sqlx::Type,
    utoipa::ToSchema,
)]
#[sqlx(transparent)]
#[serde(transparent)]
pub struct Credits(pub i64);

impl fmt::Display for Credits {
    /// Writes the number with thousands separators: `12,480`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.unsigned_abs().to_string();
        let mut grouped = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        f.pad_integral(self.0 >= 0, "", &grouped)
    }
}

/// The balance of an account. At all times, `funded = available + reserved + spent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Balance {
    /// All credits that ever came into the account.
    pub funded: Credits,
    /// Credits that can still be used.
    pub available: Credits,
    /// Credits in open reservations: one for each photo in progress.
    pub reserved: Credits,
    /// Credits that were committed: one for each processed photo.
    pub spent: Credits,
}

/// Returns the balance of an organisation, or `None` if there is no such organisation.
///
/// # Errors
/// When the database has trouble.
pub async fn balance(
    db: &mut PgConnection,
    organisation: OrganisationId,
) -> sqlx::Result<Option<Balance>> {
    sqlx::query_as!(
        Balance,
        r#"SELECT funded AS "funded: _", available AS "available: _", reserved AS "reserved: _",
                  spent AS "spent: _"
           FROM account WHERE organisation_id = $1"#,
        organisation.0
    )
    .fetch_optional(db)
    .await
}

/// Returns the sums over the accounts of all organisations.
///
/// # Errors
/// When the database has trouble.
pub async fn of_all(db: &mut PgConnection) -> sqlx::Result<Balance> {
    sqlx::query_as!(
        Balance,
        r#"SELECT coalesce(sum(funded), 0)::bigint AS "funded!: _",
                  coalesce(sum(available), 0)::bigint AS "available!: _",
                  coalesce(sum(reserved), 0)::bigint AS "reserved!: _",
                  coalesce(sum(spent), 0)::bigint AS "spent!: _"
           FROM account"#
    )
    .fetch_one(db)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credits_are_written_with_thousands_separators() {
        assert_eq!(Credits(0).to_string(), "0");
        assert_eq!(Credits(999).to_string(), "999");
        assert_eq!(Credits(12_480).to_string(), "12,480");
        assert_eq!(Credits(-1_000_000).to_string(), "-1,000,000");
        assert_eq!(format!("{:>+8}", Credits(1000)), "  +1,000");
    }
}
