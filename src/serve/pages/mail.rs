//! E-mail: what a person hears by it, and the pages behind the links in mails, which need no login.

use std::{collections::BTreeMap, net::SocketAddr};

use axum::{
    extract::{ConnectInfo, State},
    http::HeaderMap,
    response::{Html, Redirect},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Form, Page, layout, people::about};
use crate::{
    access::Person,
    changes::mailboxes::{self, Mailbox, Ticket, Topic, What},
    commands::MailboxChange,
    ids::PersonId,
    serve::{Service, authentication::Browser, client_address, input::Path, problem::Problem},
};

/// The caller's own e-mail.
pub(super) async fn own(State(service): State<Service>, browser: Browser) -> Page {
    let mut db = service.database.acquire().await?;
    let person = crate::access::find_person(&mut db, &browser.caller.actor).await?;
    let is_self = |person: &Person| person.email == browser.caller.actor;
    let person = person.filter(is_self).ok_or_else(|| {
        Problem::forbidden("you have logged in with a token, which has no e-mail address")
    })?;
    let content = of(&service, &mut db, &browser, &person, "/account/mail").await?;
    Ok(layout::page(&browser, "/account", "Your e-mail", None, content))
}

/// The e-mail of somebody else.
pub(super) async fn of_person(
    State(service): State<Service>,
    browser: Browser,
    Path(id): Path<PersonId>,
) -> Page {
    let person = service.commands.person_to_mail(&browser.caller, id).await?;
    let mut db = service.database.acquire().await?;
    let path = about(&browser, &format!("/people/{id}/mail"));
    let content = of(&service, &mut db, &browser, &person, &path).await?;
    Ok(layout::page(&browser, "/people", "E-mail", None, content))
}

async fn of(
    service: &Service,
    db: &mut sqlx::PgConnection,
    browser: &Browser,
    person: &Person,
    path: &str,
) -> Result<Markup, Problem> {
    let mailbox = mailboxes::list(db, None, Some(person.id)).await?.pop();
    let server = mailboxes::server_trouble(db).await?;
    let hears = |topic: &Topic| mailbox.as_ref().is_some_and(|own| own.topics.contains(topic));
    let is_stopped = mailbox.as_ref().is_some_and(|own| own.stopped_at.is_some());
    Ok(html! {
        h1 { "E-mail to " (person.email) }
        @if service.config.smtp_url.is_none() {
            p.notice { "E-mail is not set up here (the setting smtp_url): nothing is sent." }
        }
        @if let (Some((since, trouble)), None) = (&server, browser.caller.organisation) {
            p.notice.bad { "The mail server has not been well since "
                (layout::instant(*since, browser.zone())) ": " (trouble) ". All e-mail waits." }
        }
        @if let Some(mailbox) = &mailbox { (standing(browser, mailbox)) }
        form.panel method="post" action=(path) {
            (layout::key(browser))
            fieldset {
                legend { "What is sent" }
                @for topic in Topic::of(person.organisation) {
                    p { label {
                        input type="checkbox" name=(topic.code()) value="yes" checked[hears(&topic)];
                        " " (topic.says())
                        @if Topic::ESSENTIAL.contains(&topic) { " (unsubscribing does not end it)" }
                    } }
                }
            }
            button type="submit" { @if is_stopped { "Save, and try again" } @else { "Save" } }
        }
        p.faint { "What happens is collected for a moment, and said in one mail: a pause, an alert or a "
            "kept payment for seconds, all else longer; and one mail comes in "
            (service.config.mail_every_seconds.div_ceil(60)) " minutes at most, also if it is urgent. "
            "Each mail has a link that ends all but purchases and payments." }
    })
}

fn standing(browser: &Browser, mailbox: &Mailbox) -> Markup {
    let instant = |at| layout::instant(at, browser.zone());
    html! {
        @match (mailbox.topics.is_empty(), mailbox.confirmed_at, mailbox.asked_at) {
            (true, _, _) => p { "Nothing is sent. (Set by " (mailbox.set_by) ".)" },
            (false, Some(at), _) => p { "Confirmed by the owner of the address on " (instant(at)) ". "
                @if let Some(at) = mailbox.sent_at { "The last mail was sent on " (instant(at)) "." } },
            (false, None, Some(at)) if mailbox.waits_since.is_none() => p.notice { "On " (instant(at))
                " a mail asked whether the owner of the address wants this. Nothing else is sent before "
                "they say yes; the link in it works for 7 days. An address is asked once a day, and three "
                "times at most." },
            (false, None, _) => p.notice { "A mail will ask whether the owner of the address wants this. "
                "Nothing else is sent before they say yes."
                @if let (Some(at), None) = (mailbox.rests_until, &mailbox.trouble) {
                    " The organisation has asked many people today: it is sent after " (instant(at)) "." } },
        }
        @if let Some(at) = mailbox.stopped_at {
            p.notice.bad { "Nothing is sent since " (instant(at)) ", because the mail server says: "
                (mailbox.trouble.as_deref().unwrap_or_default()) }
        } @else if let Some(trouble) = &mailbox.trouble {
            p.notice { "The last mail did not arrive: " (trouble) ". It is sent again"
                @if let Some(at) = mailbox.rests_until { " after " (instant(at)) } "." }
        }
    }
}

/// The boxes that are checked, and what else a form has.
#[derive(Debug, Deserialize)]
pub(super) struct Boxes {
    #[serde(flatten)]
    boxes: BTreeMap<String, String>,
}

impl Boxes {
    fn change(&self) -> MailboxChange {
        let is_checked = |topic: &Topic| self.boxes.contains_key(topic.code());
        MailboxChange { topics: Topic::ALL.into_iter().filter(is_checked).collect() }
    }
}

pub(super) async fn set_own(
    State(service): State<Service>,
    form: Form<Boxes>,
) -> Result<Redirect, Problem> {
    service.commands.set_own_mailbox(&form.browser.caller, &form.fields.change()).await?;
    Ok(Redirect::to("/account/mail"))
}

pub(super) async fn set(
    State(service): State<Service>,
    Path(id): Path<PersonId>,
    form: Form<Boxes>,
) -> Result<Redirect, Problem> {
    service.commands.set_mailbox(&form.browser.caller, id, &form.fields.change()).await?;
    Ok(Redirect::to(&about(&form.browser, &format!("/people/{id}/mail"))))
}

/// Who comes with a link. Strangers are counted by their address.
fn ticket(
    service: &Service,
    peer: ConnectInfo<SocketAddr>,
    headers: &HeaderMap,
    text: &str,
) -> Result<Ticket, Problem> {
    service.shares.may_come(client_address::address(service, headers, peer))?;
    Ticket::read(text).ok_or_else(|| Problem::not_found("link like this"))
}

/// A button: programs that look into mails follow links, and do not press buttons.
fn button(title: &str, says: Markup, name: &str) -> Html<String> {
    layout::bare(
        title,
        html! {
            h1 { (title) }
            (says)
            form method="post" { button type="submit" { (name) } }
        },
    )
}

pub(super) async fn ask_confirm(
    State(service): State<Service>,
    peer: ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Path(text): Path<String>,
) -> Page {
    let ticket = ticket(&service, peer, &headers, &text)?;
    let person = service.commands.reader_of(&ticket, What::Confirm).await?;
    let mut db = service.database.acquire().await?;
    let hears = mailboxes::list(&mut db, None, Some(person.id)).await?.pop();
    let says = html! {
        @if hears.is_some_and(|own| own.topics.is_empty()) {
            p { "Nothing is to be sent to " strong { (person.email) } " any more. If you say yes, mail can be "
                "switched on again on the page of your account, without another question." }
        } @else {
            p { "photogate will send e-mail to " strong { (person.email) } "." }
        }
    };
    Ok(button("Do you want e-mail?", says, "Yes, send it"))
}

pub(super) async fn confirm(
    State(service): State<Service>,
    peer: ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Path(text): Path<String>,
) -> Page {
    let ticket = ticket(&service, peer, &headers, &text)?;
    let person = service.commands.confirm_mailbox(&ticket).await?;
    let mut db = service.database.acquire().await?;
    let hears = mailboxes::list(&mut db, None, Some(person.id)).await?.pop();
    let content = html! {
        h1 { "Done" }
        @if hears.is_some_and(|own| own.topics.is_empty()) {
            p { "Nothing is switched on for " strong { (person.email) } ", so no mail comes. "
                a href="/account/mail" { "Choose what is sent" } }
        } @else {
            p { "From now on, " strong { (person.email) } " is told what happens. Each mail has a link that "
                "ends it. " a href="/account/mail" { "Change what is sent" } }
        }
    };
    Ok(layout::bare("Done", content))
}

pub(super) async fn ask_unsubscribe(
    State(service): State<Service>,
    peer: ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Path(text): Path<String>,
) -> Page {
    let ticket = ticket(&service, peer, &headers, &text)?;
    let person = service.commands.reader_of(&ticket, What::Unsubscribe).await?;
    let says = html! { p { "photogate will send no more e-mail to " strong { (person.email) }
    ", but for purchases and payments that wait, if they hear of those." } };
    Ok(button("Unsubscribe?", says, "Unsubscribe"))
}

/// Ends it, by the button of the page, or by that of a mail program (RFC 8058).
pub(super) async fn unsubscribe(
    State(service): State<Service>,
    peer: ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Path(text): Path<String>,
) -> Page {
    let ticket = ticket(&service, peer, &headers, &text)?;
    let left = service.commands.unsubscribe(&ticket).await?;
    let content = html! {
        h1 { "You are unsubscribed" }
        @if left.is_empty() { p { "No more e-mail is sent to you." } } @else {
            p { "One kind of e-mail still comes, because money waits for somebody: "
                (left.iter().map(|topic| topic.says()).collect::<Vec<_>>().join("; "))
                ". You end it on the " a href="/account/mail" { "page of your account" }
                "; an organiser or the staff of photogate can do it for you." }
        }
    };
    Ok(layout::bare("You are unsubscribed", content))
}
