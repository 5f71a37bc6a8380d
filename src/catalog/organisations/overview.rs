//! Organisations as staff look at them: each with its balance and its photos that wait, and what
//! somebody has to decide.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::Price;
use crate::{ids::OrganisationId, ledger::credits::Credits};

/// An organisation with its balance, and the photos that wait.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The organisation's number.
    pub id: OrganisationId,
    /// The organisation's name.
    pub name: String,
    /// Its time zone, as an IANA name.
    pub time_zone: String,
    /// The price of one credit.
    pub price: Option<Price>,
    /// Whether staff let its people buy credits.
    pub purchasing: bool,
    /// Whether it pays by a contract.
    pub custom_billing: bool,
    /// Its part of the store.
    pub photos_under: String,
    /// Credits that can still be used.
    pub available: Credits,
    /// Photos that wait in its queues, of events that were not deleted.
    pub waiting: i64,
    /// Those of them that no hold keeps back.
    pub waiting_free: i64,
}

impl Overview {
    /// Whether photos wait for credits.
    pub fn needs_credits(&self) -> bool {
        self.waiting_free > 0 && self.available.0 == 0
    }
}

/// The order of the organisations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// By name.
    #[default]
    Name,
    /// By number.
    Id,
    /// The lowest balance first.
    Balance,
}

impl Sort {
    /// The stable code of the order, for addresses.
    pub fn code(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Id => "id",
            Self::Balance => "balance",
        }
    }
}

/// Limits the organisations.
#[derive(Debug, Clone, Copy, Default)]
pub struct Which<'a> {
    /// Only this organisation.
    pub own: Option<OrganisationId>,
    /// A part of the name, or the number.
    pub text: &'a str,
    /// Only those whose photos wait for credits.
    pub needs_credits: bool,
    /// The order.
    pub sort: Sort,
}

/// Returns organisations with their balances and waiting photos, at most `most`.
///
/// # Errors
/// When the database has trouble.
pub async fn list(
    db: &mut PgConnection,
    which: Which<'_>,
    most: i64,
) -> sqlx::Result<Vec<Overview>> {
    // The page is cut before the photos are counted: the queues of the others are not looked at.
    let rows = sqlx::query!(
        r#"WITH page AS MATERIALIZED (
               SELECT o.*, a.available,
                      row_number() OVER (ORDER BY CASE WHEN $4 = 'name' THEN lower(o.name) END,
                                                  CASE WHEN $4 = 'balance' THEN a.available END,
                                                  o.organisation_id) AS place
               FROM organisation o JOIN account a USING (organisation_id)
               WHERE ($1::bigint IS NULL OR o.organisation_id = $1)
                 AND (o.name ILIKE '%' || $2 || '%' OR o.organisation_id::text = $2)
                 AND (NOT $3 OR a.available = 0 AND EXISTS (
                     SELECT FROM queue q JOIN queue_head h USING (queue_id)
                     JOIN queue_tail t USING (queue_id) JOIN event e USING (event_id)
                     WHERE q.organisation_id = o.organisation_id AND NOT q.drained AND NOT q.held
                       AND e.deleted_at IS NULL AND t.tail > h.head + h.not_waiting))
               ORDER BY place LIMIT $5)
           SELECT p.organisation_id AS "id: OrganisationId", p.name, p.time_zone,
                  p.price_per_credit, p.currency, p.purchasing, p.custom_billing, p.photos_under,
                  p.available AS "available: Credits", w.waiting AS "waiting!",
                  w.waiting_free AS "waiting_free!"
           FROM page p
           CROSS JOIN LATERAL (
               SELECT coalesce(sum(t.tail - h.head - h.not_waiting), 0)::bigint AS waiting,
                      coalesce(sum(t.tail - h.head - h.not_waiting) FILTER (WHERE NOT q.held), 0)::bigint
                      AS waiting_free
               FROM queue q JOIN queue_head h USING (queue_id) JOIN queue_tail t USING (queue_id)
               JOIN event e USING (event_id)
               WHERE q.organisation_id = p.organisation_id AND NOT q.drained
                 AND e.deleted_at IS NULL) w
           ORDER BY p.place"#,
        which.own.map(|own| own.0),
        which.text,
        which.needs_credits,
        which.sort.code(),
        most
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Overview {
            id: row.id,
            name: row.name,
            time_zone: row.time_zone,
            price: row
                .price_per_credit
                .zip(row.currency)
                .map(|(per_credit, currency)| Price { per_credit, currency }),
            purchasing: row.purchasing,
            custom_billing: row.custom_billing,
            photos_under: row.photos_under,
            available: row.available,
            waiting: row.waiting,
            waiting_free: row.waiting_free,
        })
        .collect())
}

/// What staff look at first: how many of all things wait for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Number of organisations.
    pub organisations: i64,
    /// Organisations whose photos wait for credits.
    pub without_credits: i64,
    /// The photos of these.
    pub photos: i64,
    /// Purchases that wait until staff approve them.
    pub approvals: i64,
    /// Payments that did not become credits, and that nobody has dealt with.
    pub payments: i64,
}

/// Counts what waits for somebody, over all organisations.
///
/// # Errors
/// When the database has trouble.
pub async fn standing(db: &mut PgConnection) -> sqlx::Result<Standing> {
    sqlx::query_as!(
        Standing,
        r#"SELECT (SELECT count(*) FROM organisation) AS "organisations!",
                  w.organisations AS "without_credits!", w.photos AS "photos!",
                  (SELECT count(*) FROM purchase_request
                   WHERE state = 'pending' AND expires_at > clock()) AS "approvals!",
                  (SELECT count(*) FROM payment
                   WHERE kept IS NOT NULL AND settled_at IS NULL) AS "payments!"
           FROM (SELECT count(DISTINCT q.organisation_id) AS organisations,
                        coalesce(sum(t.tail - h.head - h.not_waiting), 0)::bigint AS photos
                 FROM account a JOIN queue q USING (organisation_id)
                 JOIN queue_head h USING (queue_id) JOIN queue_tail t USING (queue_id)
                 JOIN event e USING (event_id)
                 WHERE a.available = 0 AND NOT q.drained AND NOT q.held
                   AND e.deleted_at IS NULL AND t.tail > h.head + h.not_waiting) w"#
    )
    .fetch_one(db)
    .await
}

/// Returns the names of these organisations.
///
/// # Errors
/// When the database has trouble.
pub async fn names(
    db: &mut PgConnection,
    organisations: &[OrganisationId],
) -> sqlx::Result<HashMap<OrganisationId, String>> {
    let numbers: Vec<i64> = organisations.iter().map(|organisation| organisation.0).collect();
    let rows = sqlx::query!(
        r#"SELECT organisation_id AS "id: OrganisationId", name FROM organisation
           WHERE organisation_id = ANY($1)"#,
        &numbers
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.id, row.name)).collect())
}
