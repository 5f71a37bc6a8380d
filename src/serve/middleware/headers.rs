//! The security headers, with which browsers protect people.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::serve::Service;

/// The content security policy: nothing from other sites, no inline scripts, and no framing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// Sets the headers on every answer of `routes`. Behind HTTPS, browsers must stay with HTTPS.
pub(super) fn on(routes: Router<Service>, behind_https: bool) -> Router<Service> {
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    let permissions = HeaderName::from_static("permissions-policy");
    let year = HeaderValue::from_static("max-age=31536000; includeSubDomains");
    routes.layer((
        unless_set(header::CONTENT_SECURITY_POLICY, POLICY),
        unless_set(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        unless_set(header::X_FRAME_OPTIONS, "DENY"),
        unless_set(header::REFERRER_POLICY, "no-referrer"),
        unless_set(opener, "same-origin"),
        unless_set(permissions, "camera=(), geolocation=(), microphone=()"),
        unless_set(header::CACHE_CONTROL, "no-store"),
        SetResponseHeaderLayer::overriding(
            header::STRICT_TRANSPORT_SECURITY,
            behind_https.then_some(year),
        ),
    ))
}

/// Sets a header on answers that do not have it.
fn unless_set(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}
