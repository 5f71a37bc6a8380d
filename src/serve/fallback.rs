//! What is answered where there is no handler.

use axum::{
    http::Uri,
    response::{IntoResponse, Response},
};

use super::{pages, problem::Problem};

/// There is no such path. Programs get a problem, people get a page.
pub(super) async fn nothing_there(uri: Uri) -> Response {
    let problem = Problem::not_found(format!("page {}", uri.path()));
    if uri.path().starts_with("/v1") { problem.into_response() } else { pages::trouble(&problem) }
}

/// The path has no such method.
pub(super) async fn not_so() -> Problem {
    Problem::method_not_allowed()
}
