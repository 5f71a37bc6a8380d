//! What is recorded of every request: its ID, a trace, a line in the log, and its duration.

use std::{net::SocketAddr, time::Instant};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::{
    serve::{client_address, problem::REQUEST_ID},
    telemetry::traces,
};

/// The header with the request's ID. If the client sends one, it is kept.
const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Answers a request under its ID and in its span, and records how it was answered.
pub(super) async fn recorded(
    State(behind_https): State<bool>,
    request: Request,
    next: Next,
) -> Response {
    let id = id_of(request.headers());
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let address = peer.map(|peer| client_address::seen(behind_https, request.headers(), peer));
    let address = address.map(|address| address.to_string()).unwrap_or_default();
    let (method, path) = (request.method().clone(), told(request.uri().path()).to_owned());
    let began = Instant::now();
    let span = span(&id, &address, &request);
    let answering = REQUEST_ID.scope(id.clone(), next.run(request)).instrument(span);
    let mut answer = answering.await;
    let (status, elapsed) = (answer.status().as_u16(), began.elapsed());
    // A stream is answered before its first event, so its duration says nothing.
    if !path.ends_with("/live") {
        metrics::histogram!(
            "photogate_http_request_duration_seconds",
            "status" => status.to_string()
        )
        .record(elapsed.as_secs_f64());
    }
    let milliseconds = elapsed.as_secs_f64() * 1000.0;
    if matches!(status, 401 | 403 | 429) {
        tracing::info!(id, address, %method, path, status, "a request was refused");
    } else {
        tracing::debug!(id, %method, path, status, milliseconds, "answered");
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert(REQUEST_ID_HEADER, id);
    }
    answer
}

/// A path as logs and traces may have it: whoever reads them must not be able to use the link of an
/// invitation, of a mail or of a finder.
fn told(path: &str) -> &str {
    match path {
        _ if path.contains("/invitation/") => "/invitation/…",
        _ if path.starts_with("/mail/") => "/mail/…",
        _ if path.starts_with("/find/") => "/find/…",
        _ => path,
    }
}

/// Makes the span of a request. It continues the caller's trace, if the caller names one.
fn span(id: &str, address: &str, request: &Request) -> Span {
    let span = tracing::info_span!(
        "request",
        id,
        address,
        "otel.kind" = "server",
        "http.request.method" = %request.method(),
        "url.path" = told(request.uri().path())
    );
    let said = request.headers().get("traceparent").and_then(|trace| trace.to_str().ok());
    if let Some(trace) = said.and_then(traces::parent) {
        traces::continues(&span, trace);
    }
    span
}

/// The ID that the client sent, if it is one that logs can hold; otherwise a new one.
fn id_of(headers: &HeaderMap) -> String {
    headers
        .get(REQUEST_ID_HEADER)
        .and_then(|id| id.to_str().ok())
        .filter(|id| {
            (1..=64).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
        .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_do_not_have_the_secret_of_a_link() {
        assert_eq!(told("/invitation/0123abcd"), "/invitation/…");
        assert_eq!(told("/invitations"), "/invitations");
        assert_eq!(told("/mail/7-0123abcd/unsubscribe"), "/mail/…");
        assert_eq!(told("/account/mail"), "/account/mail");
        assert_eq!(told("/find/8d0c3bb1/photos/1"), "/find/…");
    }
}
