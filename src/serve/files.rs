//! Files that pages and the API offer for download.

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

use super::problem::Problem;

pub(super) const CSV: &str = "text/csv; charset=utf-8";
pub(super) const PDF: &str = "application/pdf";

/// Answers with a file of this name and media type.
pub(super) fn download(
    name: &str,
    kind: &'static str,
    bytes: Vec<u8>,
) -> Result<Response, Problem> {
    let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""))
        .map_err(|error| Problem::unavailable("file", error.to_string()))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    Ok((headers, bytes).into_response())
}
