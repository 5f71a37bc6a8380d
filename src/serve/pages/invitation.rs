//! The page of an invitation, or of a link for a forgotten password: whoever has the link chooses a
//! password.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode},
    response::{Html, IntoResponse, Response},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{layout, people::does};
use crate::{
    access,
    catalog::organisations::overview,
    serve::{Service, client_address, input::Path, problem::Problem},
};

/// The fields of a new password, for the account with this address.
pub(super) fn new_password(email: &str) -> Markup {
    html! {
        input type="hidden" name="username" value=(email) autocomplete="username";
        label { "The new password: 12 to 200 characters, for example five words"
            input type="password" name="new" autocomplete="new-password" minlength="12"
                maxlength="200" required; }
    }
}

async fn ask(service: &Service, secret: &str, said: Option<&str>) -> Result<Html<String>, Problem> {
    let mut db = service.database.acquire().await?;
    let Some(found) = access::find_invitation(&mut db, secret).await? else {
        return Err(Problem::not_found(
            "invitation with this link that can still be used: a link works once, for 7 days. Ask \
             for a new one",
        ));
    };
    let names = overview::names(&mut db, found.organisation.as_slice()).await?;
    Ok(layout::bare(
        "Choose a password",
        html! {
            h1 { "Choose a password" }
            @if let Some(said) = said { p.notice.bad role="alert" { (said) } }
            @if found.person.is_none() {
                p {
                    (found.created_by) " has invited you"
                    @if let Some(name) = names.values().next() { " to " strong { (name) } }
                    " as " strong { (found.role) } ": " (does(found.role)) "."
                }
            }
            p { "You will log in with the address " strong { (found.email) } " and this password." }
            form method="post" {
                (new_password(&found.email))
                p { button type="submit" { "Save the password" } }
            }
        },
    ))
}

pub(super) async fn page(
    State(service): State<Service>,
    peer: ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Path(secret): Path<String>,
) -> Result<Html<String>, Problem> {
    service.shares.may_come(address(&service, peer, &headers))?;
    ask(&service, &secret, None).await
}

#[derive(Deserialize)]
pub(super) struct Chosen {
    new: String,
}

/// Sets the password. It needs no session: whoever has the link may. The try is counted like a
/// login with a token, because a password is hashed.
pub(super) async fn choose(
    State(service): State<Service>,
    peer: ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Path(secret): Path<String>,
    axum::Form(chosen): axum::Form<Chosen>,
) -> Result<Response, Problem> {
    let address = address(&service, peer, &headers);
    service.shares.may_come(address)?;
    let from = client_address::networks(address);
    if !access::may_log_in(&service.database, from, "").await? {
        let detail = "too many links and logins were tried: try again in three minutes";
        return Err(Problem::too_many(detail, std::time::Duration::from_secs(180)));
    }
    if let Err(error) = service.commands.use_invitation(&secret, &chosen.new).await {
        let problem = Problem::from(error);
        tracing::warn!(network = %from.narrow, why = problem.detail(), "a link was not used");
        if problem.status() == StatusCode::UNPROCESSABLE_ENTITY {
            let page = ask(&service, &secret, Some(problem.detail())).await?;
            return Ok((problem.status(), page).into_response());
        }
        return Err(problem);
    }
    access::has_logged_in(&service.database, from, "").await?;
    tracing::info!(network = %from.narrow, "somebody chose a password with a link");
    let done = layout::bare(
        "The password is saved",
        html! {
            h1 { "The password is saved" }
            p { a href="/login" { "Log in" } " with your e-mail address and the new password." }
        },
    );
    Ok(done.into_response())
}

fn address(service: &Service, peer: ConnectInfo<SocketAddr>, headers: &HeaderMap) -> IpAddr {
    client_address::address(service, headers, peer)
}
