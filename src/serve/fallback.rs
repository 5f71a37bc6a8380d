//! What is answered where there is no handler.

use axum::{
    http::Uri,
    response::{IntoResponse, Response},
};

use super::{authentication::Browser, pages, problem::Problem};

/// There is no such path. Programs get a problem, people get a page.
pub(super) async fn nothing_there(uri: Uri, browser: Result<Browser, Problem>) -> Response {
    let problem = Problem::not_found(format!("page {}", uri.path()));
    if uri.path().starts_with("/v1") {
        return problem.into_response();
    }
    pages::trouble(&problem, browser.ok().as_ref())
}

/// The path has no such method.
pub(super) async fn not_so() -> Problem {
    Problem::method_not_allowed()
}
