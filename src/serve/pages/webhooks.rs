//! Webhooks: which addresses hear an organisation's changes, and what was sent to them.

use std::collections::BTreeMap;

use axum::{
    extract::State,
    response::{Html, IntoResponse, Redirect},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Form, Page, PageOrFile, confirm, layout,
    login::Nothing,
    people::about,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    changes::{
        Type,
        deliveries::{self, Delivery, State as Arrival},
        webhooks::{self, Webhook},
    },
    commands::{MAY_CHANGE_WEBHOOKS, MAY_SEE_WEBHOOKS, NewWebhook, SecretWebhook, WebhookChange},
    ids::{OrganisationId, WebhookId},
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
        problem::Problem,
    },
};

const PAGES: Pages = Pages(50);

fn may_change(browser: &Browser) -> bool {
    MAY_CHANGE_WEBHOOKS.contains(&browser.caller.role)
}

pub(super) async fn page(State(service): State<Service>, browser: Browser) -> Page {
    browser.caller.must_be(MAY_SEE_WEBHOOKS)?;
    let mut db = service.database.acquire().await?;
    let found = webhooks::list(&mut db, browser.about(), None).await?;
    let view = View { path: "/webhooks", filters: vec![browser.filter()], sort: "" };
    let table = Table::new(view)
        .column(
            "Address",
            |webhook: &Webhook| {
                html! { a href=(about(&browser, &format!("/webhooks/{}", webhook.id))) { (webhook.url) } }
            },
            |webhook| webhook.url.clone(),
        )
        .text("Hears", hears)
        .text("State", |webhook| state(webhook).to_owned())
        .moment("Failing since", browser.zone(), |webhook| webhook.failing_since)
        .text("By", |webhook| webhook.created_by.clone())
        .unless(browser.about().is_some(), "Organisation", |webhook| {
            layout::whose(webhook.organisation)
        });
    let content = html! {
        h1 { "Webhooks" }
        p.faint {
            "photogate calls these addresses when something happens: a run is finished, an event is "
            "paused, credits came in. Programs that cannot be called read the same with "
            code { "GET /v1/changes" } ". Both are described on " a href="/docs" { "/docs" } "."
        }
        @if may_change(&browser) {
            details {
                summary { "New webhook" @if browser.about().is_none() { " for the staff" } }
                form.panel method="post" action=(about(&browser, "/webhooks")) {
                    (layout::key(&browser))
                    label { "Address" input type="url" name="url" maxlength="2000"
                        placeholder="https://" required; }
                    (boxes(|kind| kind != Type::PhotoProcessed))
                    button type="submit" { "Add" }
                }
            }
        }
        (table.on_page(&found, "There are no webhooks yet.", None))
    };
    Ok(layout::page(&browser, "/webhooks", "Webhooks", None, content))
}

/// A box for each type of change.
fn boxes(checked: impl Fn(Type) -> bool) -> Markup {
    html! {
        fieldset {
            legend { "What it hears" }
            @for kind in Type::ALL {
                p { label {
                    input type="checkbox" name=(kind.code()) value="yes" checked[checked(kind)];
                    " " code { (kind.code()) } " – " (kind.says())
                } }
            }
        }
    }
}

fn hears(webhook: &Webhook) -> String {
    if webhook.types.len() == Type::ALL.len() {
        return "everything".to_owned();
    }
    webhook.types.iter().map(|kind| kind.code()).collect::<Vec<_>>().join(", ")
}

fn state(webhook: &Webhook) -> &'static str {
    match (&webhook.disabled_by, webhook.failing_since) {
        (Some(actor), _) if actor == "System" => "disabled: no answer",
        (Some(_), _) => "disabled",
        (None, Some(_)) => "calls fail",
        (None, None) => "ok",
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct New {
    url: String,
    /// The boxes that are checked, and what else a form has.
    #[serde(flatten)]
    boxes: BTreeMap<String, String>,
}

fn chosen(boxes: &BTreeMap<String, String>) -> Vec<Type> {
    Type::ALL.into_iter().filter(|kind| boxes.contains_key(kind.code())).collect()
}

pub(super) async fn add(
    State(service): State<Service>,
    form: Form<New>,
) -> Result<Html<String>, Problem> {
    let (browser, New { url, boxes }) = (form.browser, form.fields);
    // Without a chosen organisation, it is a webhook of the staff.
    let organisation = browser.about().unwrap_or(OrganisationId::STAFF);
    let new = NewWebhook { url, types: Some(chosen(&boxes)) };
    let made = service.commands.add_webhook(&browser.caller, organisation, &new).await?;
    Ok(secret(&browser, &made))
}

fn secret(browser: &Browser, made: &SecretWebhook) -> Html<String> {
    let content = html! {
        h1 { "The secret of the webhook" }
        div.panel {
            p { "Each call to " strong { (made.webhook.url) } " is signed with it. Keep it: it is not "
                "shown again." }
            p { code { (made.secret) } }
            a.button.quiet href=(about(browser, &format!("/webhooks/{}", made.webhook.id))) { "Go on" }
        }
    };
    layout::page(browser, "/webhooks", "A webhook's secret", None, content)
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    after: Option<i64>,
    state: Option<Arrival>,
    #[serde(default)]
    format: Format,
}

/// One webhook: its settings, and what was sent.
pub(super) async fn show(
    State(service): State<Service>,
    mut browser: Browser,
    Path(id): Path<WebhookId>,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    let webhook = service.commands.webhook(&browser.caller, id).await?;
    let mut db = service.database.acquire().await?;
    browser.look_at(&mut db, webhook.organisation).await?;
    let rows = PAGES.rows(asked.format);
    let found = deliveries::list(&mut db, id, asked.state, asked.after, rows).await?;
    let path = format!("/webhooks/{id}");
    let view = View { path: &path, filters: vec![browser.filter()], sort: "" };
    let table = Table::new(view)
        .text("Change", |delivery: &Delivery| delivery.change.to_string())
        .text("Type", |delivery| delivery.kind.code().to_owned())
        .text("Subject", |delivery| delivery.subject.clone())
        .text("State", |delivery| arrival(delivery).to_owned())
        .number("Calls", |delivery| delivery.attempts.into())
        .text("Last answer", |delivery| {
            let status = || delivery.status.map(|status| status.to_string()).unwrap_or_default();
            delivery.trouble.clone().unwrap_or_else(status)
        })
        .moment("Last call", browser.zone(), |delivery| delivery.tried_at)
        .moment("Next call", browser.zone(), |delivery| delivery.due_at)
        .actions(|delivery| again(&browser, id, delivery));
    if asked.format == Format::Csv {
        return table.as_file("deliveries", &found);
    }
    let (found, next) = PAGES.of(found, |delivery| delivery.change.to_string());
    let content = html! {
        h1 { "Webhook" }
        p { code { (webhook.url) } }
        (standing(&browser, &webhook))
        @if may_change(&browser) { (settings(&browser, &webhook)) }
        h2 { "What was sent" }
        (table.on_page(&found, "Nothing has happened yet that it hears.", next.as_ref()))
    };
    Ok(layout::page(&browser, "/webhooks", "Webhook", None, content).into_response())
}

fn arrival(delivery: &Delivery) -> &'static str {
    match (delivery.state, delivery.due_at) {
        (Arrival::Delivered, _) => "delivered",
        (Arrival::Waiting, Some(_)) => "waits",
        (Arrival::Waiting, None) => "waits for the one before it",
    }
}

fn standing(browser: &Browser, webhook: &Webhook) -> Markup {
    html! {
        @match (&webhook.disabled_by, webhook.failing_since) {
            (Some(actor), _) => p.notice {
                "Nothing is sent: disabled by " (actor)
                @if let Some(at) = webhook.disabled_at { ", " (layout::instant(at, browser.zone())) }
                ". What happens is kept for two weeks, and sent when it is enabled again."
            },
            (None, Some(since)) => p.notice {
                (webhook.failures) " calls have failed since " (layout::instant(since, browser.zone()))
                ". They are made again, less and less often; after three days, the webhook is disabled."
            },
            (None, None) => p.faint { "Calls succeed, or none was made yet." },
        }
        @if let Some(until) = webhook.old_secret_until.filter(|until| *until > chrono::Utc::now()) {
            p.faint { "The secret before the last rotation signs, too, until "
                (layout::instant(until, browser.zone())) "." }
        }
    }
}

fn settings(browser: &Browser, webhook: &Webhook) -> Markup {
    let path = format!("/webhooks/{}", webhook.id);
    let to = |act: &str| about(browser, &format!("{path}/{act}"));
    let enabled = webhook.disabled_at.is_none();
    html! {
        div.row {
            form method="post" action=(to("ping")) {
                (layout::key(browser)) button.quiet type="submit" { "Send a ping" }
            }
            form method="post" action=(to("enable")) {
                (layout::key(browser))
                input type="hidden" name="enabled" value=(!enabled);
                button.quiet type="submit" { @if enabled { "Disable" } @else { "Enable" } }
            }
            form method="post" action=(to("rotate")) {
                (layout::key(browser)) button.quiet type="submit" { "New secret" }
            }
            a.button.quiet href=(to("remove")) { "Remove" }
        }
        details {
            summary { "Settings" }
            form.panel method="post" action=(about(browser, &path)) {
                (layout::key(browser))
                label { "Address" input type="url" name="url" maxlength="2000" value=(webhook.url)
                    required; }
                (boxes(|kind| webhook.types.contains(&kind)))
                button type="submit" { "Save" }
            }
        }
    }
}

fn again(browser: &Browser, id: WebhookId, delivery: &Delivery) -> Markup {
    html! {
        @if may_change(browser) && delivery.state == Arrival::Delivered {
            form method="post" action=(about(browser, &format!("/webhooks/{id}/replay"))) {
                (layout::key(browser))
                input type="hidden" name="change" value=(delivery.change);
                button.quiet type="submit" { "Send again" }
            }
        }
    }
}

fn back(browser: &Browser, id: WebhookId) -> Redirect {
    Redirect::to(&about(browser, &format!("/webhooks/{id}")))
}

pub(super) async fn save(
    State(service): State<Service>,
    Path(id): Path<WebhookId>,
    form: Form<New>,
) -> Result<Redirect, Problem> {
    let New { url, boxes } = form.fields;
    let change = WebhookChange { url: Some(url), types: Some(chosen(&boxes)), enabled: None };
    service.commands.change_webhook(&form.browser.caller, id, &change).await?;
    Ok(back(&form.browser, id))
}

#[derive(Debug, Deserialize)]
pub(super) struct Switch {
    enabled: bool,
}

pub(super) async fn enable(
    State(service): State<Service>,
    Path(id): Path<WebhookId>,
    form: Form<Switch>,
) -> Result<Redirect, Problem> {
    let change = WebhookChange { enabled: Some(form.fields.enabled), ..WebhookChange::default() };
    service.commands.change_webhook(&form.browser.caller, id, &change).await?;
    Ok(back(&form.browser, id))
}

pub(super) async fn ping(
    State(service): State<Service>,
    Path(id): Path<WebhookId>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    service.commands.ping_webhook(&form.browser.caller, id).await?;
    Ok(back(&form.browser, id))
}

pub(super) async fn rotate(
    State(service): State<Service>,
    Path(id): Path<WebhookId>,
    form: Form<Nothing>,
) -> Result<Html<String>, Problem> {
    let made = service.commands.rotate_webhook_secret(&form.browser.caller, id).await?;
    Ok(secret(&form.browser, &made))
}

#[derive(Debug, Deserialize)]
pub(super) struct Replay {
    change: i64,
}

pub(super) async fn replay(
    State(service): State<Service>,
    Path(id): Path<WebhookId>,
    form: Form<Replay>,
) -> Result<Redirect, Problem> {
    let change = form.fields.change;
    service.commands.replay_deliveries(&form.browser.caller, id, change, Some(change)).await?;
    Ok(back(&form.browser, id))
}

/// Asks before a webhook is removed: what waits for it is not sent any more.
pub(super) async fn ask_remove(
    State(service): State<Service>,
    browser: Browser,
    Path(id): Path<WebhookId>,
) -> Result<Html<String>, Problem> {
    browser.caller.must_be(MAY_CHANGE_WEBHOOKS)?;
    let webhook = service.commands.webhook(&browser.caller, id).await?;
    let question = confirm::Question {
        title: "Remove the webhook?",
        says: html! {
            p { strong { (webhook.url) } " hears nothing any more, and what waits for it is not sent. "
                "To stop for a while, disable it instead." }
        },
        yes: Some("Remove"),
        action: &about(&browser, &format!("/webhooks/{id}/remove")),
        back: &about(&browser, &format!("/webhooks/{id}")),
        here: "/webhooks",
    };
    Ok(question.page(&browser, &[]))
}

pub(super) async fn remove(
    State(service): State<Service>,
    Path(id): Path<WebhookId>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    service.commands.remove_webhook(&form.browser.caller, id).await?;
    Ok(Redirect::to(&about(&form.browser, "/webhooks")))
}
