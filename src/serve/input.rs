//! What is asked, read into types; what cannot be read is a problem, and says which part.

use axum::extract::{FromRequest, FromRequestParts};

use super::problem::Problem;
use crate::ids::Operation;

/// A body in JSON.
#[derive(Debug, FromRequest)]
#[from_request(via(axum::Json), rejection(Problem))]
pub(super) struct Json<T>(pub(super) T);

/// What stands behind the question mark.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub(super) struct Query<T>(pub(super) T);

/// What stands in the path.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub(super) struct Path<T>(pub(super) T);

/// Rows of a page if nobody says how many.
const LIMIT: i64 = 50;
/// Rows of a page, at most.
pub(super) const LIMIT_MAX: i64 = 200;

/// How many rows were asked for.
pub(super) fn limit(asked: Option<i64>) -> Result<i64, Problem> {
    let limit = asked.unwrap_or(LIMIT);
    if (1..=LIMIT_MAX).contains(&limit) {
        Ok(limit)
    } else {
        Err(Problem::invalid("limit", format!("limit is between 1 and {LIMIT_MAX}")))
    }
}

/// An operation that has to be named: there is no default for what costs credits.
pub(super) fn needed(operation: Option<Operation>) -> Result<Operation, Problem> {
    let says = "say photo_processing or ai_rotation";
    operation.ok_or_else(|| Problem::invalid("/operation", says))
}
