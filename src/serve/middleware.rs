//! What applies to every request: security headers for browsers, an ID for the logs, limits on
//! number, time and size, and an answer if a handler panics.

mod headers;
mod limits;
mod panics;
mod request;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::{from_fn, from_fn_with_state},
};

use super::Service;

pub(super) use panics::caught;

/// Puts the middleware around `routes`. The last layer is the outermost, so also an answer that
/// refuses a request has an ID and the headers.
pub(super) fn around(routes: Router<Service>, behind_https: bool) -> Router<Service> {
    let routes = routes
        .layer(caught())
        .layer(DefaultBodyLimit::max(limits::BODY_MAX))
        .layer(from_fn(limits::within))
        .layer(from_fn_with_state(behind_https, request::recorded));
    headers::on(routes, behind_https)
}
