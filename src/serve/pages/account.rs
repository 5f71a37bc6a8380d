//! The page of the caller's own account: who one is here, where one is logged in, and a new
//! password.

use std::net::SocketAddr;

use axum::{
    extract::{ConnectInfo, State},
    http::HeaderMap,
    response::{Html, Redirect},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Form, invitation::new_password, layout, login::Nothing};
use crate::{
    access::{self, Networks, Session},
    ids::SessionId,
    serve::{Service, authentication::Browser, client_address, input::Path, problem::Problem},
};

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
) -> Result<Html<String>, Problem> {
    let caller = &browser.caller;
    let mut db = service.database.acquire().await?;
    let person = access::find_person(&mut db, &caller.actor).await?;
    let idle = service.config.session_idle();
    let sessions = access::sessions(&mut db, &browser.session, idle).await?;
    let content = html! {
        h1 { "Your account" }
        p { "You are " strong { (caller.actor) } ", with the role " (caller.role) "." }
        @if let Some(person) = &person {
            h2 { "Your second factor" }
            p { @if person.has_second_factor { "It is set up." } @else {
                "You have none. " a href="/account/second-factor" { "Set one up" }
            } }
            h2 { "E-mail" }
            p { a href="/account/mail" { "What is sent to you" } }
            (time_zone(&browser))
            h2 { "A new password" }
            p { "You are logged out everywhere, and log in again with the new password." }
            form method="post" action="/account/password" {
                (layout::key(&browser))
                label { "Your present password"
                    input type="password" name="present" autocomplete="current-password" required; }
                (new_password(&caller.actor))
                button type="submit" { "Change the password" }
            }
        } @else {
            p { "You have logged in with a token. The session ends with the token." }
        }
        (list(&browser, &sessions))
    };
    Ok(layout::page(&browser, "/account", "Your account", None, content))
}

/// The form for the time zone of all pages.
fn time_zone(browser: &Browser) -> Markup {
    html! {
        h2 { "Your time zone" }
        form.filters method="post" action="/account/time-zone" {
            (layout::key(browser))
            label {
                "Pages show times in"
                input name="time_zone" list="zones" autocomplete="off" maxlength="100"
                    placeholder="the organisation's" value=(browser.own_zone().unwrap_or_default());
            }
            datalist id="zones" {
                @for zone in chrono_tz::TZ_VARIANTS { option value=(zone.name()) {} }
            }
            button.quiet type="submit" { "Save" }
        }
        p.faint {
            "Leave it empty for the zone of each organisation. Statements, months and days of credits "
            "are always those of the organisation."
        }
    }
}

/// The browsers in which the caller is logged in.
fn list(browser: &Browser, sessions: &[Session]) -> Markup {
    html! {
        h2 { "Where you are logged in" }
        div.scroll tabindex="0" role="region" aria-label="Where you are logged in" { table.cards-on-phone {
            thead { tr {
                th scope="col" { "Since" } th scope="col" { "Last seen" }
                th scope="col" { "Address" } th scope="col" { "Browser" }
                th scope="col" { span.hidden { "Actions" } }
            } }
            tbody { @for session in sessions { tr {
                td data-label="Since" { (layout::moment(session.created_at, browser.zone())) }
                td data-label="Last seen" { (layout::moment(session.last_seen_at, browser.zone())) }
                td data-label="Address" { (session.address) }
                td data-label="Browser" { "“" (session.browser) "”" }
                td data-label="Actions" {
                    @if session.is_this { "this browser" } @else {
                        form method="post" action={ "/account/sessions/" (session.id) "/end" } {
                            (layout::key(browser))
                            button.quiet type="submit" { "End" }
                        }
                    }
                }
            } } }
        } }
        @if sessions.len() > 1 {
            form method="post" action="/account/sessions/end" {
                (layout::key(browser))
                button.quiet type="submit" { "End all others" }
            }
        }
    }
}

/// Ends one of the caller's sessions.
pub(super) async fn end_session(
    State(service): State<Service>,
    Path(session): Path<SessionId>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    let Browser { caller, session: this, .. } = &form.browser;
    service.commands.end_sessions(caller, this, Some(session)).await?;
    Ok(Redirect::to("/account"))
}

/// Ends the caller's sessions, but not the one that asks.
pub(super) async fn end_other_sessions(
    State(service): State<Service>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    let Browser { caller, session: this, .. } = &form.browser;
    service.commands.end_sessions(caller, this, None).await?;
    Ok(Redirect::to("/account"))
}

#[derive(Debug, Deserialize)]
pub(super) struct Zone {
    time_zone: String,
}

/// Sets the caller's time zone.
pub(super) async fn set_time_zone(
    State(service): State<Service>,
    form: Form<Zone>,
) -> Result<Redirect, Problem> {
    let caller = &form.browser.caller;
    service.commands.set_own_time_zone(caller, &form.fields.time_zone).await?;
    Ok(Redirect::to("/account"))
}

#[derive(Debug, Deserialize)]
pub(super) struct Passwords {
    present: String,
    new: String,
}

/// Counts a try of a password or a code like a try to log in.
pub(super) async fn may_try(
    service: &Service,
    peer: ConnectInfo<SocketAddr>,
    headers: &HeaderMap,
    account: &str,
) -> Result<Networks, Problem> {
    let from = client_address::networks(client_address::address(service, headers, peer));
    if access::may_log_in(&service.database, from, account).await? {
        return Ok(from);
    }
    let detail = "too many passwords or codes were tried: try again in three minutes";
    Err(Problem::too_many(detail, std::time::Duration::from_secs(180)))
}

/// Changes the caller's own password. The present one is counted like a try to log in: somebody
/// else may sit at this browser.
pub(super) async fn change_password(
    State(service): State<Service>,
    peer: ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    form: Form<Passwords>,
) -> Result<Redirect, Problem> {
    let caller = &form.browser.caller;
    let from = may_try(&service, peer, &headers, &caller.actor).await?;
    let Passwords { present, new } = &form.fields;
    service.commands.change_own_password(caller, present, new).await?;
    access::has_logged_in(&service.database, from, &caller.actor).await?;
    Ok(Redirect::to("/login"))
}
