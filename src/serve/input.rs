//! Reads requests into types. What cannot be read becomes a [`Problem`] that names the wrong part.

use axum::{
    extract::{FromRequest, FromRequestParts},
    http::StatusCode,
};

use super::problem::Problem;
use crate::cursor::Cursor;

/// A JSON body of a request.
#[derive(Debug, FromRequest)]
#[from_request(via(axum::Json), rejection(Problem))]
pub(super) struct Json<T>(pub(super) T);

/// The parameters of the query string.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub(super) struct Query<T>(pub(super) T);

/// The parameters in the path.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub(super) struct Path<T>(pub(super) T);

/// Rows of a page if the request has no `limit`.
const LIMIT: i64 = 50;
/// The largest `limit` of a request.
pub(super) const LIMIT_MAX: i64 = 200;

/// The number of rows of a page, from the parameter `limit`.
pub(super) fn limit(asked: Option<i64>) -> Result<i64, Problem> {
    let limit = asked.unwrap_or(LIMIT);
    if (1..=LIMIT_MAX).contains(&limit) {
        Ok(limit)
    } else {
        Err(Problem::invalid("limit", format!("limit must be between 1 and {LIMIT_MAX}")))
    }
}

/// The place that the page begins after, from the parameter `after`. An empty value counts as
/// missing, because forms send it.
pub(super) fn after<const N: usize>(asked: Option<&str>) -> Result<Option<Cursor<N>>, Problem> {
    let text = asked.filter(|text| !text.is_empty());
    text.map(str::parse::<Cursor<N>>).transpose().map_err(|error| Problem::invalid("after", error))
}

/// The status of an answer to a call that creates something, or finds what is there already.
pub(super) fn created(is_new: bool) -> StatusCode {
    if is_new { StatusCode::CREATED } else { StatusCode::OK }
}

/// Requires that an operation is named. There is no default, because operations cost credits.
pub(super) fn needed<T>(operation: Option<T>) -> Result<T, Problem> {
    let says = "name the operation: photo_processing or ai_rotation (or both, to queue photos)";
    operation.ok_or_else(|| Problem::invalid("/operation", says))
}
