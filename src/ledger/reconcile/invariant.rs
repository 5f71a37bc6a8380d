//! The check of one invariant: a query that finds the rows that break it, and its result.

use serde::Serialize;

use crate::ids::OrganisationId;

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

/// Checks one invariant: its name, its meaning, and a query that returns the rows that break it as
/// (organisation, what). `OrganisationId` must be in scope.
macro_rules! check {
    ($tx:expr, $checks:ident, $name:literal, $meaning:literal, $sql:literal) => {
        let rows = sqlx::query!(
            "WITH broken (organisation_id, what) AS ("
                + $sql
                + ") SELECT (SELECT count(*) FROM broken) AS \"violations!\",
                          b.organisation_id AS \"organisation: OrganisationId\", b.what
                   FROM (SELECT) one LEFT JOIN (SELECT * FROM broken LIMIT 20) b ON true"
        )
        .fetch_all(&mut *$tx)
        .await?;
        $checks.push($crate::ledger::reconcile::invariant::Check {
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
        });
    };
}
pub(super) use check;
