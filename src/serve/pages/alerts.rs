//! Alerts: what an organisation wants to be told of, and what is raised now.

use axum::{extract::State, response::Redirect};
use maud::{Markup, html};
use rust_decimal::Decimal;
use serde::Deserialize;

use super::{Form, Page, layout, login::Nothing, people::about, table::Table, table_view::View};
use crate::{
    changes::alerts::{self, Alert, Kind},
    commands::{MAY_CHANGE_ALERTS, MAY_SEE_ALERTS, NewAlert},
    ids::{AlertId, OrganisationId},
    serve::{Service, authentication::Browser, input::Path, problem::Problem},
};

pub(super) async fn page(State(service): State<Service>, browser: Browser) -> Page {
    browser.caller.must_be(MAY_SEE_ALERTS)?;
    let mut db = service.database.acquire().await?;
    let found = alerts::list(&mut db, browser.about(), None).await?;
    let may_change = MAY_CHANGE_ALERTS.contains(&browser.caller.role);
    let view = View { path: "/alerts", filters: vec![browser.filter()], sort: "" };
    let table = Table::new(view)
        .text("When", |alert: &Alert| alert.kind.says(alert.threshold))
        .moment("Raised", browser.zone(), |alert| alert.raised_at)
        .text("Measured", |alert| {
            alert.measured.map(|measured| measured.normalize().to_string()).unwrap_or_default()
        })
        .text("By", |alert| alert.created_by.clone())
        .unless(browser.about().is_some(), "Organisation", |alert| {
            layout::whose(alert.organisation)
        })
        .actions(|alert| remove_button(&browser, alert, may_change));
    let content = html! {
        h1 { "Alerts" }
        p.faint {
            "An alert is raised once when it begins to hold, and is over when what it measures is better "
            "by a fifth. " a href=(about(&browser, "/webhooks")) { "Webhooks" }
            " hear both; the Credits page shows what is raised."
        }
        @if may_change { (form(&browser)) }
        (table.on_page(&found, "There are no alerts yet.", None))
    };
    Ok(layout::page(&browser, "/alerts", "Alerts", None, content))
}

fn form(browser: &Browser) -> Markup {
    let organisation = whose(browser);
    let names = Kind::of(organisation).iter().map(|kind| match kind {
        Kind::LowBalance => ("low_balance", "few credits are available (credits)"),
        Kind::TimeToZero => ("time_to_zero", "credits do not last long (hours)"),
        Kind::Failures => ("failures", "many photos fail (percent of a day's)"),
        Kind::FloorShort => ("floor_short", "floors of events lack credits (credits)"),
        Kind::HoldEnds => ("hold_ends", "a hold ends soon (minutes)"),
        Kind::BooksDrift => ("books_drift", "the books do not agree (rows)"),
        Kind::PurchaseWaits => ("purchase_waits", "a purchase waits for approval (hours)"),
    });
    let names: Vec<_> = names.collect();
    html! {
        details {
            summary { "New alert" @if organisation == OrganisationId::STAFF { " for the staff" } }
            form.panel method="post" action=(about(browser, "/alerts")) {
                (layout::key(browser))
                (layout::choice("When", "kind", &names, names[0].0))
                label { "Threshold" input type="number" name="threshold" min="0" step="0.01"
                    max="1000000000" required; }
                button type="submit" { "Add" }
            }
        }
    }
}

/// Whose alerts a form on the page adds: without a chosen organisation, those of the staff.
fn whose(browser: &Browser) -> OrganisationId {
    browser.about().unwrap_or(OrganisationId::STAFF)
}

fn remove_button(browser: &Browser, alert: &Alert, may_change: bool) -> Markup {
    html! {
        @if may_change {
            form method="post" action=(about(browser, &format!("/alerts/{}/remove", alert.id))) {
                (layout::key(browser))
                button.quiet type="submit" { "Remove" }
            }
        }
    }
}

/// What is raised now, for other pages of the organisation.
pub(super) fn raised(alerts: &[Alert]) -> Markup {
    html! {
        @for alert in alerts.iter().filter(|alert| alert.raised_at.is_some()) {
            p.notice { strong { "Alert: " } (alert.kind.says(alert.threshold)) "." }
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct New {
    kind: Kind,
    threshold: String,
}

pub(super) async fn add(
    State(service): State<Service>,
    form: Form<New>,
) -> Result<Redirect, Problem> {
    let (browser, New { kind, threshold }) = (form.browser, form.fields);
    let threshold: Decimal =
        threshold.trim().parse().map_err(|_| Problem::invalid("threshold", "enter a number"))?;
    let new = NewAlert { kind, threshold };
    service.commands.add_alert(&browser.caller, whose(&browser), &new).await?;
    Ok(Redirect::to(&about(&browser, "/alerts")))
}

pub(super) async fn remove(
    State(service): State<Service>,
    Path(id): Path<AlertId>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    service.commands.remove_alert(&form.browser.caller, id).await?;
    Ok(Redirect::to(&about(&form.browser, "/alerts")))
}
