//! Which programs go on with which schema (decision 0083).
//!
//! The schema of a version answers what programs of the version before call. So workers and services
//! go on while the database is migrated, and go back by one version without it.

use std::cmp::Ordering;

use sqlx::PgConnection;

/// The version of this program, and of the schema that it makes.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The oldest version whose calls this schema answers: the one that was released before, whose
/// calls `previous.json` has. Nothing was released before the first.
pub const SERVES: &str = "0.1.0";

/// Who migrated the database last, and whom it serves.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Applied {
    /// The version of the program that migrated.
    pub version: String,
    /// The oldest version that may use the database.
    pub serves: String,
    /// The SHA-256 of its migrations and functions.
    pub hash: String,
}

/// Whether a program may use a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It was migrated by this version.
    Same,
    /// It was migrated by a newer version, which serves this one.
    Served,
    /// It was migrated by a newer version, which does not serve this one any more.
    TooOld,
    /// It was migrated by an older version: this one's functions are not there yet.
    TooNew,
}

impl Applied {
    /// Reads the row. `None`: nothing was migrated yet.
    ///
    /// # Errors
    /// When there is no such table, or this login may not read it.
    pub async fn read(db: &mut PgConnection) -> sqlx::Result<Option<Self>> {
        sqlx::query_as("SELECT version, serves, hash FROM photogate.functions_applied")
            .fetch_optional(db)
            .await
    }

    /// Whether a program of this version may use the database.
    pub fn fit(&self, program: &str) -> Fit {
        match compare(&self.version, program) {
            Ordering::Equal => Fit::Same,
            Ordering::Less => Fit::TooNew,
            Ordering::Greater if compare(&self.serves, program).is_gt() => Fit::TooOld,
            Ordering::Greater => Fit::Served,
        }
    }
}

/// Compares two versions, number by number. What is no number counts as 0.
pub(super) fn compare(one: &str, other: &str) -> Ordering {
    let numbers = |version: &str| -> [u64; 3] {
        let mut parts = version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
        std::array::from_fn(|_| parts.next().unwrap_or(0))
    };
    numbers(one).cmp(&numbers(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_fits_if_its_version_is_served() {
        let applied =
            Applied { version: "0.10.0".into(), serves: "0.9.1".into(), hash: String::new() };
        for (program, fit) in [
            ("0.9.0", Fit::TooOld),
            ("0.9.1", Fit::Served),
            ("0.9.2", Fit::Served),
            ("0.10.0", Fit::Same),
            ("0.11.0", Fit::TooNew),
            ("1.0.0", Fit::TooNew),
        ] {
            assert_eq!(applied.fit(program), fit, "{program}");
        }
    }

    #[test]
    fn the_version_that_is_served_is_the_one_whose_calls_were_recorded() {
        let recorded = include_str!("../previous.json");
        assert!(recorded.contains(&format!("\"version\": \"{SERVES}\"")));
    }
}
