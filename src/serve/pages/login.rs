//! The login page, and the handlers that log in and out.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use maud::html;
use serde::Deserialize;

use super::{Form, layout};
use crate::{
    access,
    serve::{Service, authentication, client_address, input::Query, problem::Problem},
};

fn ask(said: Option<&str>, to: &str) -> Html<String> {
    layout::bare(
        "Log in",
        html! {
            h1 { "photogate" }
            @if let Some(said) = said { p.notice.bad role="alert" { (said) } }
            form method="post" action="/login" {
                input type="hidden" name="to" value=(to);
                label { "E-mail" input type="email" name="email" autocomplete="username" autofocus; }
                label {
                    "Password, or a token (then leave the e-mail empty)"
                    input type="password" name="password" autocomplete="current-password" required;
                }
                p { button type="submit" { "Log in" } }
            }
        },
    )
}

/// Whether the browser would throw the session's cookie away, and come back here after each login:
/// it keeps the cookie over HTTPS only, and this request came without.
///
/// A browser sends `Sec-Fetch-Site` where it trusts the connection. Older ones do not, so that what
/// a proxy says counts too.
fn comes_plain(service: &Service, headers: &HeaderMap) -> bool {
    let scheme = headers.get_all("x-forwarded-proto").iter().next_back();
    let scheme = scheme.and_then(|schemes| schemes.to_str().ok()?.rsplit(',').next());
    let is_proxied = match scheme {
        Some(scheme) => scheme.trim().eq_ignore_ascii_case("https"),
        None => headers.contains_key("x-forwarded-for"),
    };
    cookie_is_secure(service) && !headers.contains_key("sec-fetch-site") && !is_proxied
}

/// Says why nobody can log in over plain HTTP. No form: a password would go over the line in clear.
fn not_so(service: &Service) -> Response {
    let page = layout::bare(
        "Log in",
        html! {
            h1 { "photogate" }
            p.notice.bad role="alert" {
                "You cannot log in at this address, because it begins with http://. Browsers keep the \
                 login of this site over HTTPS only."
            }
            @if let Some(address) = &service.config.public_url {
                p { "Log in at " a href={ (address) "/login" } { (address) } "." }
            } @else {
                p { "Open the address of this site that begins with https://." }
            }
            p {
                "If there is none: whoever runs this site must put a proxy in front of it that speaks \
                 HTTPS, and says so in X-Forwarded-Proto and X-Forwarded-For."
            }
        },
    );
    (StatusCode::FORBIDDEN, page).into_response()
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    pub(super) to: String,
}

pub(super) async fn page(
    State(service): State<Service>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Response {
    if comes_plain(&service, &headers) {
        return not_so(&service);
    }
    ask(None, &wanted.to).into_response()
}

/// The path to go to after login. Anything but a path of this site becomes `/`.
pub(super) fn ours(to: &str) -> &str {
    // Browsers drop control characters, and read a backslash as a slash.
    let is_odd = |one: char| one == '\\' || one.is_control();
    let is_path = to.starts_with('/') && !to.starts_with("//") && !to.contains(is_odd);
    if is_path && !to.starts_with("/login") { to } else { "/" }
}

#[derive(Deserialize)]
pub(super) struct Who {
    #[serde(default)]
    email: String,
    password: String,
    #[serde(default)]
    to: String,
}

pub(super) async fn log_in(
    State(service): State<Service>,
    peer: ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    axum::Form(who): axum::Form<Who>,
) -> Result<Response, Problem> {
    // Another site must not log people in to a stranger's account (login CSRF).
    let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(Problem::forbidden("use the login page of this site"));
    }
    if comes_plain(&service, &headers) {
        return Ok(not_so(&service));
    }
    let address = client_address::address(&service, &headers, peer);
    service.shares.may_come(address)?;
    let from = client_address::networks(address);
    let account: String = who.email.trim().to_lowercase().chars().take(200).collect();
    if !access::may_log_in(&service.database, from, &account).await? {
        tell(Outcome::Throttled, &account, from.narrow);
        let said = "Too many attempts to log in. Try again in three minutes.";
        return Ok((StatusCode::TOO_MANY_REQUESTS, ask(Some(said), &who.to)).into_response());
    }
    let browser = headers.get(header::USER_AGENT).and_then(|browser| browser.to_str().ok());
    let device = access::Device::new(address, browser.unwrap_or_default());
    let session = access::log_in(&service.database, &who.email, &who.password, &device).await?;
    let Some(session) = session else {
        tell(Outcome::Refused, &account, from.narrow);
        let said = if who.email.trim().is_empty() {
            "The token is wrong, revoked or expired. To log in with a password, enter the e-mail too."
        } else {
            "The e-mail or password is wrong, or the account is disabled."
        };
        return Ok((StatusCode::UNAUTHORIZED, ask(Some(said), &who.to)).into_response());
    };
    let cookie = cookie(&service, session.secret.0, access::SESSION);
    if session.awaits_code {
        // The try counts until the code has come: who only knows the password is slowed down.
        tell(Outcome::AwaitsCode, &account, from.narrow);
        let to: String = url::form_urlencoded::byte_serialize(ours(&who.to).as_bytes()).collect();
        return Ok((cookie, Redirect::to(&format!("/login/code?to={to}"))).into_response());
    }
    access::has_logged_in(&service.database, from, &account).await?;
    tell(Outcome::LoggedIn, &account, from.narrow);
    Ok((cookie, Redirect::to(ours(&who.to))).into_response())
}

/// How a try to log in ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    LoggedIn,
    /// The password was right, and the code of the second factor has not come yet.
    AwaitsCode,
    Refused,
    Throttled,
}

/// Logs a try to log in, and counts it. The account is quoted, because a stranger has written it.
pub(super) fn tell(outcome: Outcome, account: &str, network: IpAddr) {
    let name = match outcome {
        Outcome::LoggedIn => "logged_in",
        Outcome::AwaitsCode => "awaits_code",
        Outcome::Refused => "refused",
        Outcome::Throttled => "throttled",
    };
    metrics::counter!("photogate_logins_total", "outcome" => name).increment(1);
    match outcome {
        Outcome::LoggedIn => tracing::info!(?account, %network, "somebody logged in"),
        Outcome::AwaitsCode => tracing::info!(?account, %network, "a login waits for its code"),
        Outcome::Refused => tracing::warn!(?account, %network, "a login was refused"),
        Outcome::Throttled => tracing::warn!(?account, %network, "a login was throttled"),
    }
}

/// Sets the session's cookie: `HttpOnly`, `SameSite`, and `Secure` where possible.
pub(super) fn cookie(service: &Service, session: String, lasts: Duration) -> CookieJar {
    let cookie = Cookie::build((authentication::cookie_name(service), session))
        .path("/")
        .max_age(lasts.try_into().unwrap_or_default())
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(cookie_is_secure(service));
    CookieJar::new().add(cookie)
}

fn cookie_is_secure(service: &Service) -> bool {
    // Not all browsers accept a secure cookie without HTTPS, even from this very machine.
    service.config.behind_https || !service.config.listen.ip().is_loopback()
}

#[derive(Deserialize)]
pub(super) struct Nothing {}

pub(super) async fn log_out(
    State(service): State<Service>,
    form: Form<Nothing>,
) -> Result<Response, Problem> {
    let mut db = service.database.acquire().await?;
    access::log_out(&mut db, &form.browser.session).await?;
    tracing::info!(actor = ?form.browser.caller.actor, "somebody logged out");
    let cookie = cookie(&service, String::new(), Duration::ZERO);
    Ok((cookie, Redirect::to("/login")).into_response())
}
