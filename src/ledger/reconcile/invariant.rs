//! The check of one invariant: a query that finds the rows that break it, and its result.

use serde::Serialize;

use crate::ids::OrganisationId;

/// The most rows that a check names.
const NAMED_MAX: usize = 20;

/// The result of checking one invariant.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Check {
    /// The stable name of the invariant.
    pub invariant: &'static str,
    /// What the invariant says, in words.
    pub meaning: &'static str,
    /// Number of rows that break the invariant. Anything but 0 is an alarm.
    pub violations: i64,
    /// The first 20 rows that break the invariant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<Broken>,
}

/// A row that breaks an invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Broken {
    /// The organisation that the row belongs to, if it belongs to one.
    pub organisation: Option<OrganisationId>,
    /// Which row it is, and what is wrong with it.
    pub what: String,
}

impl Check {
    /// Adds this check to the others. An invariant may be checked by several queries, and each of
    /// them on many slices. It is told once.
    pub(super) fn add_to(mut self, checks: &mut Vec<Self>) {
        let Some(known) = checks.iter_mut().find(|known| known.invariant == self.invariant) else {
            return checks.push(self);
        };
        known.violations += self.violations;
        self.broken.truncate(NAMED_MAX - known.broken.len());
        known.broken.append(&mut self.broken);
    }
}

/// Checks one invariant: its name, its meaning, and a query that returns the rows that break it as
/// (organisation, what). In front of the query there may be common table expressions, and after it
/// the values of its parameters. `OrganisationId` must be in scope.
macro_rules! check {
    ($tx:expr, $checks:ident, $name:literal, $meaning:literal, $sql:literal) => {
        check!($tx, $checks, $name, $meaning, "", $sql)
    };
    ($tx:expr, $checks:ident, $name:literal, $meaning:literal, $with:literal, $sql:literal
     $(, $value:expr)*) => {
        let rows = sqlx::query!(
            "WITH " + $with + "broken (organisation_id, what) AS (" + $sql
                + ") SELECT (SELECT count(*) FROM broken) AS \"violations!\",
                          b.organisation_id AS \"organisation: OrganisationId\", b.what
                   FROM (SELECT) one LEFT JOIN (SELECT * FROM broken LIMIT 20) b ON true"
            $(, $value)*
        )
        .fetch_all(&mut *$tx)
        .await?;
        $crate::ledger::reconcile::invariant::Check {
            invariant: $name,
            meaning: $meaning,
            violations: rows.first().map_or(0, |row| row.violations),
            broken: rows
                .into_iter()
                .filter_map(|row| {
                    let (organisation, what) = (row.organisation, row.what?);
                    Some($crate::ledger::reconcile::invariant::Broken { organisation, what })
                })
                .collect(),
        }
        .add_to($checks);
    };
}
pub(super) use check;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invariant_that_is_checked_twice_is_told_once_with_its_first_twenty_rows() {
        let mut checks = Vec::new();
        for part in ["a", "b"] {
            let named = |n| Broken { organisation: None, what: format!("{part}{n}") };
            Check {
                invariant: "it_holds",
                meaning: "it holds",
                violations: 100,
                broken: (0..15).map(named).collect(),
            }
            .add_to(&mut checks);
        }

        let [check] = checks.as_slice() else { panic!("{checks:?}") };
        assert_eq!((check.violations, check.broken.len()), (200, 20));
        assert_eq!((&*check.broken[0].what, &*check.broken[19].what), ("a0", "b4"));
    }
}
