//! What applies to every request: an ID for the logs; limits on time, size and number at once; and
//! the security headers for browsers. Also the limit on attempts to log in.

use std::time::{Duration, Instant};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::telemetry::traces;

use super::{
    Service,
    problem::{Problem, REQUEST_ID},
};

/// Maximum size of a body: enough for 10,000 keys of the usual length, and for a phone's selfie.
pub(super) const BODY_MAX: usize = 16 << 20;
/// Maximum time for an answer, longer than any healthy request takes.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Maximum number of requests that are answered at once. Others wait for a second, and then get
/// status 429.
static AT_ONCE: Semaphore = Semaphore::const_new(512);
/// Logins have a concurrency limit of their own and a short time limit, so that strangers cannot
/// starve users.
static LOGINS_AT_ONCE: Semaphore = Semaphore::const_new(64);
const LOGIN_MAX: Duration = Duration::from_secs(5);
/// Files and statements read many rows. Only so many run at once, so that small requests do not
/// wait for them.
static REPORTS_AT_ONCE: Semaphore = Semaphore::const_new(4);

/// The content security policy: nothing from other sites, no inline scripts, and no framing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// The header with the request's ID. If the client sends one, it is kept.
const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

pub(super) async fn every_request(
    State(service): State<Service>,
    request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let is_stream = path.ends_with("/live");
    let began = Instant::now();
    let span = tracing::info_span!(
        "request",
        id,
        "otel.kind" = "server",
        "http.request.method" = %method,
        "url.path" = path
    );
    let said = request.headers().get("traceparent").and_then(|trace| trace.to_str().ok());
    if let Some(trace) = said.and_then(traces::parent) {
        traces::continues(&span, trace);
    }
    let answer = REQUEST_ID.scope(id.clone(), async {
        let busy =
            || Problem::too_many("the service is busy: try again in a minute").into_response();
        let is_login = request.uri().path() == "/login";
        let (places, most) =
            if is_login { (&LOGINS_AT_ONCE, LOGIN_MAX) } else { (&AT_ONCE, ANSWER_MAX) };
        let moment = Duration::from_secs(1);
        // Taken first: a request that waits for a report's place must not occupy another place.
        let _report = if !is_login && is_report(request.uri()) {
            match tokio::time::timeout(10 * moment, REPORTS_AT_ONCE.acquire()).await {
                Ok(place) => place.ok(),
                Err(_elapsed) => return busy(),
            }
        } else {
            None
        };
        let Ok(Ok(_place)) = tokio::time::timeout(moment, places.acquire()).await else {
            return busy();
        };
        match tokio::time::timeout(most, next.run(request)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Problem::unavailable(
                "too_slow",
                format!("the request took over {} s: ask for less at once", most.as_secs()),
            )
            .into_response(),
        }
    });
    let mut answer = tracing::Instrument::instrument(answer, span).await;
    let status = answer.status().as_u16();
    let elapsed = began.elapsed();
    if !is_stream {
        metrics::histogram!("photogate_http_request_duration_seconds", "status" => status.to_string())
            .record(elapsed.as_secs_f64());
    }
    let milliseconds = elapsed.as_secs_f64() * 1000.0;
    tracing::debug!(id, %method, path, status, milliseconds, "answered");
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if service.config.behind_https {
        let year = HeaderValue::from_static("max-age=31536000; includeSubDomains");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID_HEADER, id);
    }
    answer
}

fn is_report(uri: &Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    uri.path().contains("/statements")
        || url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "format")
}

fn request_id(headers: &HeaderMap) -> String {
    headers
        .get(REQUEST_ID_HEADER)
        .and_then(|id| id.to_str().ok())
        .filter(|id| {
            (1..=64).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
        .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

pub(super) async fn nothing_there(uri: Uri) -> Response {
    let problem = Problem::not_found(format!("page {}", uri.path()));
    if uri.path().starts_with("/v1") {
        problem.into_response()
    } else {
        super::pages::trouble(&problem)
    }
}

pub(super) async fn not_so() -> Problem {
    Problem::method_not_allowed()
}
