//! The page of the caller's own account: who one is here, and a new password.

use std::net::SocketAddr;

use axum::{
    extract::{ConnectInfo, State},
    http::HeaderMap,
    response::{Html, Redirect},
};
use maud::html;
use serde::Deserialize;

use super::{Form, layout};
use crate::{
    access,
    serve::{Service, authentication::Browser, client_address, problem::Problem},
};

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
) -> Result<Html<String>, Problem> {
    let caller = &browser.caller;
    let person =
        access::find_person(&mut *service.database.acquire().await?, &caller.actor).await?;
    let content = html! {
        h1 { "Your account" }
        p { "You are " strong { (caller.actor) } ", with the role " (caller.role) "." }
        @if person.is_some() {
            h2 { "A new password" }
            p { "You are logged out everywhere, and log in again with the new password." }
            form method="post" action="/account/password" {
                (layout::key(&browser))
                input type="hidden" name="username" value=(caller.actor) autocomplete="username";
                label { "Your present password"
                    input type="password" name="present" autocomplete="current-password" required; }
                label { "The new password: 12 to 200 characters"
                    input type="password" name="new" autocomplete="new-password" minlength="12"
                        maxlength="200" required; }
                button type="submit" { "Change the password" }
            }
        } @else {
            p { "You have logged in with a token. It ends when somebody revokes it." }
        }
    };
    Ok(layout::page(&browser, "/account", "Your account", None, content))
}

#[derive(Debug, Deserialize)]
pub(super) struct Passwords {
    present: String,
    new: String,
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
    let address = client_address::address(&service, &headers, peer);
    let from = client_address::networks(address);
    if !access::may_log_in(&service.database, from, &caller.actor).await? {
        let detail = "too many passwords were tried: try again in three minutes";
        return Err(Problem::too_many(detail, std::time::Duration::from_secs(180)));
    }
    let Passwords { present, new } = &form.fields;
    service.commands.change_own_password(caller, present, new).await?;
    access::has_logged_in(&service.database, from, &caller.actor).await?;
    Ok(Redirect::to("/login"))
}
