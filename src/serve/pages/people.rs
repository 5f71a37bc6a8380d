//! The page of people: who can log in, whom to invite, and which links are open.

use std::collections::HashMap;

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{Html, IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Form, PageOrFile, confirm, layout,
    login::Nothing,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    access::{self, Invitation, Link, Person, Role},
    catalog::organisations::overview,
    commands::{MAY_ADMIT, NewPerson, PersonChange},
    ids::{InvitationId, OrganisationId, PersonId},
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
        problem::Problem,
    },
};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    pub(super) after: Option<i64>,
    #[serde(default)]
    pub(super) format: Format,
}

const PAGES: Pages = Pages(50);
/// Open links that the page shows. There are few: they end after 7 days.
const LINKS: i64 = 200;

/// A path with the chosen organisation, for forms and links.
pub(super) fn about(browser: &Browser, path: &str) -> String {
    let (name, value) = browser.filter();
    if value.is_empty() { path.to_owned() } else { format!("{path}?{name}={value}") }
}

/// The name of an organisation, or its number.
pub(super) fn called(names: &HashMap<OrganisationId, String>, id: OrganisationId) -> String {
    names.get(&id).cloned().unwrap_or_else(|| id.to_string())
}

/// The roles that the caller can give to somebody here.
pub(super) fn roles(browser: &Browser, more: &[Role]) -> Vec<Role> {
    let is_staff = browser.caller.role == Role::Staff;
    let of_one = browser.about().is_some();
    let fits = |role: &Role| match role {
        Role::Pipeline => of_one && more.contains(role),
        Role::Organiser => of_one,
        Role::Finance => true,
        Role::Operator => is_staff,
        Role::Staff => is_staff && !of_one,
    };
    Role::ALL.into_iter().filter(fits).collect()
}

/// What a role may do, in one line for whoever gives it.
pub(super) fn does(role: Role) -> &'static str {
    match role {
        Role::Pipeline => "a program that queues photos and reads what became of them",
        Role::Organiser => "events, photos and credits; invites colleagues and makes tokens",
        Role::Operator => "queues, holds, failures and workers",
        Role::Finance => "statements, receipts and refunds; changes nothing",
        Role::Staff => "everything, for all organisations",
    }
}

/// The roles as a list of words, below the form in which one is chosen.
pub(super) fn explained(roles: &[Role]) -> Markup {
    html! {
        ul.plain.faint { @for role in roles { li { strong { (role) } ": " (does(*role)) } } }
    }
}

/// The form that invites somebody.
fn invite_form(browser: &Browser) -> Markup {
    let roles = roles(browser, &[]);
    html! {
        details id="invite" {
            summary { "Invite somebody" }
            form.panel.sheet method="post" action=(about(browser, "/people/invite")) {
                (layout::key(browser))
                label { "E-mail" input type="email" name="email" required; }
                (role_field(&roles))
                (explained(&roles))
                div.row { button type="submit" { "Make a link" } }
            }
        }
    }
}

/// The newest people and the open links of an organisation, for its page.
pub(super) fn short(browser: &Browser, people: &[Person], links: &[Invitation]) -> Markup {
    html! {
        @if people.is_empty() && links.is_empty() { p.faint { "Nobody can log in yet." } }
        @else { ul.plain {
            @for person in people { li {
                (person.email) " " span.chip { (person.role) }
                @if person.disabled_at.is_some() { " " span.chip.warn { "disabled" } }
            } }
            @for link in links { li {
                (link.email) " " span.chip { (link.role) } " "
                span.faint { "invited until " (layout::moment(link.expires_at, browser.zone())) }
            } }
        } }
        p { a href=(about(browser, "/people")) { "All people and links" } }
        (invite_form(browser))
    }
}

/// The field for a role.
pub(super) fn role_field(roles: &[Role]) -> Markup {
    let names: Vec<_> = roles.iter().map(ToString::to_string).collect();
    let options: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    layout::choice("Role", "role", &options, options.first().map_or("", |first| first.0))
}

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(MAY_ADMIT)?;
    let mut db = service.database.acquire().await?;
    let rows = PAGES.rows(asked.format);
    let found = access::people(&mut db, browser.about(), asked.after, rows).await?;
    let theirs: Vec<_> = found.iter().filter_map(|person| person.organisation).collect();
    let names = &overview::names(&mut db, &theirs).await?;
    let view = View { path: "/people", filters: vec![browser.filter()], sort: "" };
    let table = Table::new(view)
        .text("E-mail", |person: &Person| person.email.clone())
        .text("Role", |person| person.role.to_string())
        .text("Second factor", |person| {
            if person.has_second_factor { "yes" } else { "no" }.to_owned()
        })
        .moment("Created", browser.zone(), |person| Some(person.created_at))
        .moment("Disabled", browser.zone(), |person| person.disabled_at)
        .unless(browser.about().is_some(), "Organisation", |person| {
            person.organisation.map_or_else(String::new, |id| called(names, id))
        })
        .actions(|person| actions(&browser, person));
    if asked.format == Format::Csv {
        return table.as_file("people", &found);
    }
    let (found, next) = PAGES.of(found, |person| person.id.to_string());
    let links = access::invitations(&mut db, browser.about(), None, LINKS).await?;
    let content = html! {
        h1 { "People" }
        p.faint { "Who can log in to these pages. Programs have " a href=(about(&browser, "/tokens")) { "tokens" } "." }
        (invite_form(&browser))
        (table.on_page(&found, "Nobody can log in yet.", next.as_ref()))
        @if !links.is_empty() { h2 { "Open links" } (open(&browser, &links)) }
    };
    Ok(layout::page(&browser, "/people", "People", None, content).into_response())
}

/// The buttons of a person. Only staff can enable people, and let them in again.
fn actions(browser: &Browser, person: &Person) -> Markup {
    let is_staff = browser.caller.role == Role::Staff;
    let disable = about(browser, &format!("/people/{}/disable", person.id));
    let button = |what: &str, name: &str| {
        html! {
            form method="post" action=(about(browser, &format!("/people/{}/{what}", person.id))) {
                (layout::key(browser)) button.quiet type="submit" { (name) }
            }
        }
    };
    html! { div.row.tight {
        @match person.disabled_at {
            None => a.button.quiet href=(disable) { "Disable" },
            Some(_) if is_staff => (button("enable", "Enable")),
            Some(_) => "",
        }
        @if person.disabled_at.is_none() {
            a.button.quiet href=(about(browser, &format!("/people/{}/mail", person.id))) { "E-mail" }
        }
        @if is_staff && person.disabled_at.is_none() { (button("password", "Password link")) }
        @if is_staff && person.has_second_factor {
            (button("second-factor", "Reset second factor"))
        }
    } }
}

fn open(browser: &Browser, links: &[Invitation]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Open links" { table.cards-on-phone {
            thead { tr {
                th scope="col" { "E-mail" } th scope="col" { "Role" } th scope="col" { "For" }
                th scope="col" { "By" } th scope="col" { "Until" }
                th scope="col" { span.hidden { "Actions" } }
            } }
            tbody { @for link in links { tr {
                td data-label="E-mail" { (link.email) }
                td data-label="Role" { (link.role) }
                td data-label="For" { @if link.person.is_some() { "a new password" } @else { "a new account" } }
                td data-label="By" { (link.created_by) }
                td data-label="Until" { (layout::moment(link.expires_at, browser.zone())) }
                td data-label="Actions" {
                    form method="post"
                        action=(about(browser, &format!("/people/invitations/{}/withdraw", link.id))) {
                        (layout::key(browser)) button.quiet type="submit" { "Withdraw" }
                    }
                }
            } } }
        } }
    }
}

/// The address of the service, as the browser has it.
pub(super) fn own_address(service: &Service, headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let scheme = if service.config.behind_https { "https" } else { "http" };
    format!("{scheme}://{host}")
}

/// Shows a new link, whole, so that it can be handed over.
fn handed(
    service: &Service,
    headers: &HeaderMap,
    browser: &Browser,
    email: &str,
    link: &Link,
) -> Html<String> {
    let address = format!("{}{}", own_address(service, headers), link.link.0);
    let content = html! {
        h1 { "A link for " (email) }
        div.panel {
            p { "Hand it to nobody but this person. It works once, until "
                (layout::instant(link.expires_at, browser.zone())) ", and is not shown again." }
            label { "The link" input.whole readonly value=(address); }
            div.row {
                a.button href=(letter(email, &address)) { "Write an e-mail with it" }
                a.button.quiet href=(about(browser, "/people")) { "Back" }
            }
        }
    };
    layout::page(browser, "/people", "A link", None, content)
}

/// Opens the mail program of whoever invites: photogate itself sends nobody a link.
fn letter(email: &str, address: &str) -> String {
    let encoded = |text: &str| {
        let text: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        // A mail program shows a plus as a plus.
        text.replace('+', "%20")
    };
    let body = format!("Choose your password for photogate here:\r\n\r\n{address}\r\n");
    format!(
        "mailto:{}?subject={}&body={}",
        encoded(email),
        encoded("Your account at photogate"),
        encoded(&body)
    )
}

pub(super) async fn invite(
    State(service): State<Service>,
    headers: HeaderMap,
    form: Form<Invited>,
) -> Result<Response, Problem> {
    let (browser, Invited { email, role }) = (form.browser, form.fields);
    let new = NewPerson { email, role, organisation: browser.about() };
    let link = service.commands.invite(&browser.caller, &new).await?;
    Ok(handed(&service, &headers, &browser, new.email.trim(), &link).into_response())
}

#[derive(Debug, Deserialize)]
pub(super) struct Invited {
    email: String,
    role: Role,
}

pub(super) async fn password_link(
    State(service): State<Service>,
    headers: HeaderMap,
    Path(id): Path<PersonId>,
    form: Form<Nothing>,
) -> Result<Html<String>, Problem> {
    let link = service.commands.password_link(&form.browser.caller, id).await?;
    let person = {
        let mut db = service.database.acquire().await?;
        access::find_person(&mut db, &id.to_string()).await?
    };
    let email = person.map(|person| person.email).unwrap_or_default();
    Ok(handed(&service, &headers, &form.browser, &email, &link))
}

async fn switch(
    service: &Service,
    browser: &Browser,
    id: PersonId,
    disabled: bool,
) -> Result<Redirect, Problem> {
    let change = PersonChange { disabled: Some(disabled) };
    service.commands.change_person(&browser.caller, id, &change).await?;
    Ok(Redirect::to(&about(browser, "/people")))
}

/// Asks before a person is disabled: organisers cannot take it back.
pub(super) async fn ask_disable(
    State(service): State<Service>,
    browser: Browser,
    Path(id): Path<PersonId>,
) -> Result<Html<String>, Problem> {
    browser.caller.must_be(MAY_ADMIT)?;
    let person = {
        let mut db = service.database.acquire().await?;
        access::find_person(&mut db, &id.to_string()).await?
    };
    let own = browser.caller.organisation;
    let person = person.filter(|found| own.is_none() || found.organisation == own);
    let person = person.ok_or_else(|| Problem::not_found(format!("person {id}")))?;
    let question = confirm::Question {
        title: &format!("Disable {}?", person.email),
        says: html! {
            p { "This person is logged out everywhere and cannot log in any more. Links that this "
                "person has made for others do not work any more. Only staff can enable the "
                "account again." }
        },
        yes: Some("Disable"),
        action: &about(&browser, &format!("/people/{id}/disable")),
        back: &about(&browser, "/people"),
        here: "/people",
    };
    Ok(question.page(&browser, &[]))
}

pub(super) async fn disable(
    State(service): State<Service>,
    Path(id): Path<PersonId>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    switch(&service, &form.browser, id, true).await
}

pub(super) async fn enable(
    State(service): State<Service>,
    Path(id): Path<PersonId>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    switch(&service, &form.browser, id, false).await
}

pub(super) async fn reset_second_factor(
    State(service): State<Service>,
    Path(id): Path<PersonId>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    service.commands.reset_second_factor(&form.browser.caller, id).await?;
    Ok(Redirect::to(&about(&form.browser, "/people")))
}

pub(super) async fn withdraw(
    State(service): State<Service>,
    Path(id): Path<InvitationId>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    service.commands.withdraw_invitation(&form.browser.caller, id).await?;
    Ok(Redirect::to(&about(&form.browser, "/people")))
}
