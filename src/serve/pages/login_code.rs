//! The second step of a login: the code of the second factor.

use std::net::SocketAddr;

use axum::{
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode},
    response::{Html, IntoResponse, Redirect, Response},
};
use maud::html;
use serde::Deserialize;

use super::{
    Form, layout,
    login::{Outcome, Wanted, cookie, ours, tell},
};
use crate::{
    access,
    serve::{
        Service,
        authentication::{Browser, Lacks},
        client_address,
        input::Query,
        problem::Problem,
    },
};

/// The name under which the codes of a person are counted. No e-mail address is the same, because
/// those are in lower case.
pub(super) fn account(email: &str) -> String {
    format!("CODE {email}")
}

fn ask(browser: &Browser, said: Option<&str>, to: &str) -> Html<String> {
    layout::bare(
        "Log in",
        html! {
            h1 { "photogate" }
            @if let Some(said) = said { p.notice.bad role="alert" { (said) } }
            form method="post" action="/login/code" {
                (layout::key(browser))
                input type="hidden" name="to" value=(to);
                label {
                    "The code of your app, or a recovery code"
                    input name="code" autocomplete="one-time-code" maxlength="40" required autofocus;
                }
                p { button type="submit" { "Log in" } }
            }
            form method="post" action="/logout" {
                (layout::key(browser)) p { button.quiet type="submit" { "Cancel" } }
            }
        },
    )
}

pub(super) async fn page(browser: Browser, Query(wanted): Query<Wanted>) -> Response {
    match browser.lacks {
        Some(Lacks::Code) => ask(&browser, None, &wanted.to).into_response(),
        Some(Lacks::SecondFactor) | None => Redirect::to(ours(&wanted.to)).into_response(),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Entered {
    code: String,
    #[serde(default)]
    to: String,
}

/// Looks at the code. Tries are counted like those of passwords, for each network and person.
pub(super) async fn log_in(
    State(service): State<Service>,
    peer: ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    form: Form<Entered>,
) -> Result<Response, Problem> {
    let Form { browser, fields } = form;
    if browser.lacks != Some(Lacks::Code) {
        return Ok(Redirect::to(ours(&fields.to)).into_response());
    }
    let account = account(&browser.caller.actor);
    let from = client_address::networks(client_address::address(&service, &headers, peer));
    if !access::may_log_in(&service.database, from, &account).await? {
        tell(Outcome::Throttled, &account, from.narrow);
        let said = "Too many codes were tried. Try again in three minutes.";
        let page = ask(&browser, Some(said), &fields.to);
        return Ok((StatusCode::TOO_MANY_REQUESTS, page).into_response());
    }
    let entered = service.commands.enter_code(&browser.caller, &browser.session, &fields.code);
    let Some(session) = entered.await? else {
        tell(Outcome::Refused, &account, from.narrow);
        let said = "The code is wrong or was used before. Wait for the next one, and look at the \
                    time of your phone.";
        let page = ask(&browser, Some(said), &fields.to);
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    };
    access::has_logged_in(&service.database, from, &account).await?;
    access::has_logged_in(&service.database, from, &browser.caller.actor).await?;
    tell(Outcome::LoggedIn, &browser.caller.actor, from.narrow);
    let cookie = cookie(&service, session.0, access::SESSION);
    Ok((cookie, Redirect::to(ours(&fields.to))).into_response())
}
