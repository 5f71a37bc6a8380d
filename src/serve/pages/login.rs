//! Logging in and out.

use std::net::SocketAddr;

use axum::{
    extract::{ConnectInfo, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
};
use maud::html;
use serde::Deserialize;

use super::{Form, layout};
use crate::{
    access,
    serve::{Service, caller, input::Query, problem::Problem, shield},
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
                label { "Password, or a token (without e-mail)" input type="password" name="password" autocomplete="current-password" required; }
                p { button type="submit" { "Log in" } }
            }
        },
    )
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    to: String,
}

pub(super) async fn page(Query(wanted): Query<Wanted>) -> Html<String> {
    ask(None, &wanted.to)
}

/// Nowhere but to this site.
fn ours(to: &str) -> &str {
    // Browsers drop control characters, and take a backslash for a slash.
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
    // A page of another site that logs people in as somebody else is refused by what browsers tell.
    let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(Problem::forbidden("log in on this site's own page"));
    }
    let address = shield::address(&service, &headers, peer);
    let account: String = who.email.trim().to_lowercase().chars().take(200).collect();
    if !service.logins.may_try(address, &account) {
        let said = "That was tried too often. Wait a quarter of an hour.";
        return Ok((StatusCode::TOO_MANY_REQUESTS, ask(Some(said), &who.to)).into_response());
    }
    let session = access::log_in(&service.database, &who.email, &who.password).await?;
    let Some(session) = session else {
        let said = if who.email.trim().is_empty() {
            "There is no such token, or it was revoked. With a password, the e-mail is needed too."
        } else {
            "This e-mail and password do not belong together, or the account is disabled."
        };
        return Ok((StatusCode::UNAUTHORIZED, ask(Some(said), &who.to)).into_response());
    };
    service.logins.succeeded(address, &account);
    Ok((cookie(&service, &session.0, "43200")?, Redirect::to(ours(&who.to))).into_response())
}

/// The session's cookie, as tight as there is.
fn cookie(
    service: &Service,
    value: &str,
    seconds: &str,
) -> Result<[(header::HeaderName, HeaderValue); 1], Problem> {
    let name = caller::cookie_name(service);
    // Browsers take a secure cookie from this very machine without HTTPS too, but not all of them.
    let local = !service.config.behind_https && service.config.listen.ip().is_loopback();
    let secure = if local { "" } else { "; Secure" };
    let cookie =
        format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    let cookie = HeaderValue::from_str(&cookie).map_err(|error| Problem::invalid("", error))?;
    Ok([(header::SET_COOKIE, cookie)])
}

#[derive(Deserialize)]
pub(super) struct Nothing {}

pub(super) async fn log_out(
    State(service): State<Service>,
    form: Form<Nothing>,
) -> Result<Response, Problem> {
    let mut db = service.database.acquire().await?;
    access::log_out(&mut db, &form.browser.session).await?;
    Ok((cookie(&service, "", "0")?, Redirect::to("/login")).into_response())
}
