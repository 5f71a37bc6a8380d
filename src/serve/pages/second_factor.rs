//! The page on which people set up their second factor.

use std::net::SocketAddr;

use axum::{
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode},
    response::{Html, IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Form, account, layout, login_code, qr_code};
use crate::{
    access::{self, NEED_SECOND_FACTOR, SecondFactor, Setup},
    serve::{Service, authentication::Browser, problem::Problem},
};

const PATH: &str = "/account/second-factor";

/// Shows a page of the setup. Whoever may not see other pages yet gets no navigation.
fn show(browser: &Browser, content: Markup) -> Html<String> {
    let content = html! { h1 { "Your second factor" } (content) };
    if browser.lacks.is_none() {
        return layout::page(browser, "/account", "Your second factor", None, content);
    }
    layout::bare(
        "Your second factor",
        html! {
            (content)
            form method="post" action="/logout" {
                (layout::key(browser)) p { button.quiet type="submit" { "Log out" } }
            }
        },
    )
}

async fn look(
    service: &Service,
    browser: &Browser,
    said: Option<&str>,
) -> Result<Html<String>, Problem> {
    let mut db = service.database.acquire().await?;
    let found = access::find_person(&mut db, &browser.caller.actor).await?;
    let person = found.filter(|person| person.email == browser.caller.actor);
    let Some(person) = person else {
        return Err(Problem::forbidden("a token has no second factor"));
    };
    let content = match access::second_factor(&mut db, person.id, &browser.session).await? {
        SecondFactor::None => begin(browser, said),
        SecondFactor::Begun => {
            let email = &person.email;
            match access::setup(&mut db, person.id, email, &browser.session).await? {
                Some(setup) => confirm(browser, &setup, said),
                None => begin(browser, said),
            }
        }
        SecondFactor::Confirmed => html! {
            p { "It is set up: after your password, you are asked for a code of your app. If you lose "
                "your phone, log in with a recovery code. Staff can reset your second factor." }
        },
    };
    Ok(show(browser, content))
}

fn begin(browser: &Browser, said: Option<&str>) -> Markup {
    let needs = NEED_SECOND_FACTOR.contains(&browser.caller.role);
    html! {
        @if let Some(said) = said { p.notice.bad role="alert" { (said) } }
        p { "With a second factor, your password alone lets nobody in: at each login you also enter a "
            "code that an app on your phone shows. Any app for TOTP will do."
            @if needs { " Your role needs it." } }
        form method="post" action={ (PATH) "/begin" } {
            (layout::key(browser))
            label { "Your present password"
                input type="password" name="present" autocomplete="current-password" required; }
            p { button type="submit" { "Set it up" } }
        }
    }
}

fn confirm(browser: &Browser, setup: &Setup, said: Option<&str>) -> Markup {
    html! {
        @if let Some(said) = said { p.notice.bad role="alert" { (said) } }
        p { "1. Scan this with the app, or type the text into it." }
        (qr_code::picture(&setup.address.0, "QR code of the secret"))
        p { code { (groups(&setup.secret.0)) } }
        form method="post" action={ (PATH) "/confirm" } {
            (layout::key(browser))
            label { "2. The code that the app shows"
                input name="code" inputmode="numeric" autocomplete="one-time-code" maxlength="10"
                    required; }
            p { button type="submit" { "Confirm" } }
        }
    }
}

/// A secret in groups of four letters, as people type it.
fn groups(secret: &str) -> String {
    let groups: Vec<_> = secret.as_bytes().chunks(4).map(String::from_utf8_lossy).collect();
    groups.join(" ")
}

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
) -> Result<Html<String>, Problem> {
    look(&service, &browser, None).await
}

#[derive(Debug, Deserialize)]
pub(super) struct Present {
    present: String,
}

/// Makes the secret. The password is counted like a try to log in.
pub(super) async fn start(
    State(service): State<Service>,
    peer: ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    form: Form<Present>,
) -> Result<Response, Problem> {
    let Browser { caller, session, .. } = &form.browser;
    let from = account::may_try(&service, peer, &headers, &caller.actor).await?;
    let present = &form.fields.present;
    let begun = service.commands.begin_second_factor(caller, session, present).await;
    if let Some(page) = wrong(&service, &form.browser, begun.as_ref().err()).await? {
        return Ok(page);
    }
    begun?;
    access::has_logged_in(&service.database, from, &caller.actor).await?;
    Ok(Redirect::to(PATH).into_response())
}

#[derive(Debug, Deserialize)]
pub(super) struct First {
    code: String,
}

/// Confirms the second factor with a first code, and shows the recovery codes once.
pub(super) async fn finish(
    State(service): State<Service>,
    peer: ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    form: Form<First>,
) -> Result<Response, Problem> {
    let Browser { caller, session, .. } = &form.browser;
    let account = login_code::account(&caller.actor);
    let from = account::may_try(&service, peer, &headers, &account).await?;
    let codes = service.commands.confirm_second_factor(caller, session, &form.fields.code).await;
    if let Some(page) = wrong(&service, &form.browser, codes.as_ref().err()).await? {
        return Ok(page);
    }
    let codes = codes?;
    access::has_logged_in(&service.database, from, &account).await?;
    let content = html! {
        p.notice.good role="status" { "Your second factor is set up." }
        p { "If you lose your phone, each of these codes lets you log in once. Write them down or "
            "print them, and keep them apart from your password. They are not shown again." }
        ul { @for code in &codes { li { code { (code.0) } } } }
        p { a.button href="/" { "I have kept them" } }
    };
    Ok(show(&form.browser, content).into_response())
}

/// The page again, if what was entered is wrong.
async fn wrong(
    service: &Service,
    browser: &Browser,
    error: Option<&crate::commands::CommandError>,
) -> Result<Option<Response>, Problem> {
    let Some(crate::commands::CommandError::Invalid { detail, .. }) = error else {
        return Ok(None);
    };
    let page = look(service, browser, Some(detail)).await?;
    Ok(Some((StatusCode::UNPROCESSABLE_ENTITY, page).into_response()))
}
