//! The page of tokens: which programs may call the API, and until when.

use axum::{
    extract::State,
    http::HeaderMap,
    response::{Html, IntoResponse, Redirect},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Form, PageOrFile, confirm, layout,
    login::Nothing,
    people::{Asked, about, called, explained, own_address, role_field, roles},
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    access::{self, Role, TOKEN_DAYS, Token},
    catalog::organisations::overview,
    commands::{MAY_ADMIT, NewToken},
    ids::TokenId,
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
        problem::Problem,
    },
};

const PAGES: Pages = Pages(50);

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(MAY_ADMIT)?;
    let mut db = service.database.acquire().await?;
    let rows = PAGES.rows(asked.format);
    let found = access::tokens(&mut db, browser.about(), asked.after, rows).await?;
    let theirs: Vec<_> = found.iter().filter_map(|token| token.organisation).collect();
    let names = &overview::names(&mut db, &theirs).await?;
    let view = View { path: "/tokens", filters: vec![browser.filter()], sort: "" };
    let table = Table::new(view)
        .text("Name", |token: &Token| token.name.clone())
        .column("Begins", |token| html! { code { (token.hint) "…" } }, |token| token.hint.clone())
        .text("Role", |token| token.role.to_string())
        .text("By", |token| token.created_by.clone())
        .moment("Created", browser.zone(), |token| Some(token.created_at))
        .moment("Last used", browser.zone(), |token| token.last_used_at)
        .moment("Expires", browser.zone(), |token| Some(token.expires_at))
        .moment("Revoked", browser.zone(), |token| token.revoked_at)
        .unless(browser.about().is_some(), "Organisation", |token| {
            token.organisation.map_or_else(String::new, |id| called(names, id))
        })
        .actions(|token| revoke_button(&browser, token));
    if asked.format == Format::Csv {
        return table.as_file("tokens", &found);
    }
    let (found, next) = PAGES.of(found, |token| token.id.to_string());
    let content = html! {
        h1 { "Tokens" }
        p.faint { "With a token, a program calls the API. It is described on "
            a href="/docs" { "/docs" } "." }
        (new_form(&browser))
        (table.on_page(&found, "There are no tokens yet.", next.as_ref()))
    };
    Ok(layout::page(&browser, "/tokens", "Tokens", None, content).into_response())
}

/// The form that makes a token.
fn new_form(browser: &Browser) -> Markup {
    let roles = roles(browser, &[Role::Pipeline]);
    html! {
        details id="new-token" {
            summary { "New token" }
            form.panel.sheet method="post" action=(about(browser, "/tokens")) {
                (layout::key(browser))
                label { "What it is for, as upload pipeline" input name="name" maxlength="100" required; }
                (role_field(&roles))
                (explained(&roles))
                label { "Valid for days" input type="number" name="expires_in_days" min="1"
                    max="730" value=(TOKEN_DAYS) required; }
                div.row { button type="submit" { "Create" } }
            }
        }
    }
}

/// The newest tokens of an organisation, for its page.
pub(super) fn short(browser: &Browser, tokens: &[Token]) -> Markup {
    html! {
        @if tokens.is_empty() { p.faint { "No program can call the API for it yet." } }
        @else { ul.plain { @for token in tokens { li {
            (token.name) " " code { (token.hint) "…" } " " span.chip { (token.role) } " "
            @if token.revoked_at.is_some() { span.chip.warn { "revoked" } }
            @else { span.faint { "until " (layout::moment(token.expires_at, browser.zone())) } }
        } } } }
        p { a href=(about(browser, "/tokens")) { "All tokens" } }
        (new_form(browser))
    }
}

fn revoke_button(browser: &Browser, token: &Token) -> Markup {
    html! {
        @if token.revoked_at.is_none() {
            a.button.quiet href=(about(browser, &format!("/tokens/{}/revoke", token.id))) { "Revoke" }
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    name: String,
    role: Role,
    expires_in_days: i32,
}

pub(super) async fn create(
    State(service): State<Service>,
    headers: HeaderMap,
    form: Form<Wanted>,
) -> Result<Html<String>, Problem> {
    let (browser, Wanted { name, role, expires_in_days }) = (form.browser, form.fields);
    let expires_in_days = Some(expires_in_days);
    let new = NewToken { name, role, organisation: browser.about(), expires_in_days };
    let made = service.commands.create_token(&browser.caller, &new).await?;
    let content = html! {
        h1 { "The token " (new.name) }
        div.panel {
            p { "Keep it where the program finds it. It is not shown again, and whoever has it can do "
                "what the program can." }
            label { "The token" input.whole readonly value=(made.secret.0); }
            p { "A first call, which lists the events that it sees:" }
            pre tabindex="0" { "curl -H 'Authorization: Bearer " (made.secret.0) "' \\\n  "
                (own_address(&service, &headers)) "/v1/events" }
            div.row {
                a.button.quiet href=(about(&browser, "/tokens")) { "Back" }
                a href="/docs" { "What the API can do" }
            }
        }
    };
    Ok(layout::page(&browser, "/tokens", "A token", None, content))
}

/// Asks before a token is revoked: nobody can take it back.
pub(super) async fn ask_revoke(
    State(service): State<Service>,
    browser: Browser,
    Path(id): Path<TokenId>,
) -> Result<Html<String>, Problem> {
    browser.caller.must_be(MAY_ADMIT)?;
    let below = Some(id.0.saturating_add(1));
    let found = {
        let mut db = service.database.acquire().await?;
        access::tokens(&mut db, browser.caller.organisation, below, 1).await?
    };
    let token = found.into_iter().find(|token| token.id == id);
    let token = token.ok_or_else(|| Problem::not_found(format!("token {id}")))?;
    let question = confirm::Question {
        title: &format!("Revoke the token {}?", token.name),
        says: html! {
            p { "The API refuses it from now on, its sessions end, and nobody can take that back." }
        },
        yes: Some("Revoke"),
        action: &about(&browser, &format!("/tokens/{id}/revoke")),
        back: &about(&browser, "/tokens"),
        here: "/tokens",
    };
    Ok(question.page(&browser, &[]))
}

pub(super) async fn revoke(
    State(service): State<Service>,
    Path(id): Path<TokenId>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    service.commands.revoke_token(&form.browser.caller, id).await?;
    Ok(Redirect::to(&about(&form.browser, "/tokens")))
}
