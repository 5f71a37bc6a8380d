//! The page of failed photos, grouped by reason, and their retry.

use axum::{
    extract::State,
    response::{IntoResponse, Redirect},
};
use chrono::{TimeDelta, Utc};
use maud::html;
use serde::Deserialize;

use super::{
    Form, Page, PageOrFile, confirm, layout, reason,
    table::Table,
    table_view::{Format, View},
};
use crate::commands::{MAY_RETRY, Retry};
use crate::{
    access::Role,
    catalog::events,
    ids::{EventId, Operation},
    ledger::credits::Credits,
    queue::failures::{self, Group, Sort, Which},
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
        problem::Problem,
    },
};

/// The filters of the failures, as the form sends them: fields may be empty.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default, deserialize_with = "layout::number")]
    event: Option<EventId>,
    #[serde(default)]
    sort: Sort,
    #[serde(default)]
    format: Format,
}

/// The period of this page, in days. An event's own page shows older failures too.
const DAYS: i64 = 31;

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(&[Role::Organiser, Role::Operator, Role::Finance, Role::Staff])?;
    let which = Which {
        organisation: browser.about(),
        event: asked.event,
        since: asked.event.is_none().then(|| Utc::now() - TimeDelta::days(DAYS)),
        sort: asked.sort,
    };
    let mut db = service.database.acquire().await?;
    let groups = failures::groups(&mut db, which).await?;
    let view = View {
        path: "/failures",
        filters: vec![
            browser.filter(),
            ("event", asked.event.map(|event| event.to_string()).unwrap_or_default()),
        ],
        sort: asked.sort.code(),
    };
    let table = table(view, &browser, browser.zone());
    if asked.format == Format::Csv {
        return table.as_file("failures", &groups);
    }
    let (organisation, id) = browser.filter();
    let content = html! {
        h1 { "Failures" }
        p.faint {
            "Photos that failed"
            @if asked.event.is_none() { " in the last " (DAYS) " days" }
            " and were not retried since, grouped by reason. Their credits were refunded."
        }
        form.filters method="get" action="/failures" {
            input type="hidden" name=(organisation) value=(id);
            label {
                "Event ID"
                input name="event" inputmode="numeric" size="8" value=[asked.event];
            }
            button.quiet type="submit" { "Show" }
        }
        (table.on_page(&groups, "No photos have failed: there is nothing to do.", None))
    };
    Ok(layout::page(&browser, "/failures", "Failures", layout::Live::Every(5), content)
        .into_response())
}

/// The table of failures, one row for each event, operation and reason. Times are in `zone`.
pub(super) fn table<'a>(view: View<'a>, browser: &'a Browser, zone: &'a str) -> Table<'a, Group> {
    let may_retry = MAY_RETRY.contains(&browser.caller.role);
    Table::new(view)
        .column(
            "Reason",
            |group: &Group| html! {
                (reason::says(&group.reason)) " " code.faint { (group.reason) }
            },
            |group| group.reason.clone(),
        )
        .column(
            "Event",
            |group| html! {
                a href={ "/events/" (group.event) "?state=failed#photos" } { (group.event_name) }
            },
            |group| group.event_name.clone(),
        )
        .only_in_file("Event ID", |group| group.event.to_string())
        .column(
            "Operation",
            |group| html! { (group.operation) },
            |group| group.operation.code().into(),
        )
        .number("Photos", |group| group.photos)
        .sorts("photos")
        .column(
            "Last",
            move |group| html! {
                (layout::instant(group.last_at, zone)) " · "
                a href={ "/receipts/" (group.example) } { "newest" }
            },
            |group| group.last_at.to_rfc3339(),
        )
        .sorts("last")
        .actions(move |group| html! { @if may_retry {
            form.inline method="get" action={ "/events/" (group.event) "/retry" } {
                input type="hidden" name="operation" value=(group.operation.code());
                input type="hidden" name="reason" value=(group.reason);
                button.quiet type="submit"
                    aria-label={
                        "Retry " (group.reason) " of " (group.event_name) ", " (group.operation)
                    }
                    { "Retry" }
            }
        } })
}

#[derive(Debug, Deserialize)]
pub(super) struct RetryForm {
    operation: Operation,
    reason: String,
}

impl RetryForm {
    fn retry(&self, dry_run: bool) -> Retry<'_> {
        Retry { operation: self.operation, reason: Some(&self.reason), dry_run }
    }
}

/// Asks for confirmation of a retry: how many photos, and what it will cost.
pub(super) async fn ask_retry(
    State(service): State<Service>,
    mut browser: Browser,
    Path(id): Path<EventId>,
    Query(retry): Query<RetryForm>,
) -> Page {
    let retried = service.commands.retry(&browser.caller, id, &retry.retry(true)).await?;
    let mut db = service.database.acquire().await?;
    let event = browser.caller.must_see_event(id, events::find(&mut db, id).await?)?;
    browser.look_at(&mut db, event.organisation).await?;
    let missing = Credits((retried.credits.0 - retried.available.0).max(0));
    let says = html! {
        p {
            (retry.operation) " of " strong { (event.name) } ", photos that failed with "
            code { (retry.reason) } ":"
        }
        p {
            "Retry " strong { (retried.credits) } " photos: costs " strong { (retried.credits) }
            " credits, " (retried.available) " available."
        }
        @if missing > Credits(0) {
            p.notice { (missing) " of them will wait until " (missing) " credits are added." }
        }
    };
    let question = confirm::Question {
        title: "Retry?",
        says,
        yes: (retried.photos > 0).then_some("Retry them"),
        action: &format!("/events/{id}/retry"),
        back: &format!("/events/{id}"),
        here: "/failures",
    };
    let fields = [("operation", retry.operation.code().to_owned()), ("reason", retry.reason)];
    Ok(question.page(&browser, &fields))
}

pub(super) async fn retry(
    State(service): State<Service>,
    Path(event): Path<EventId>,
    form: Form<RetryForm>,
) -> Result<Redirect, Problem> {
    let retry = form.fields.retry(false);
    let done = service.commands.retry(&form.browser.caller, event, &retry).await?;
    Ok(Redirect::to(&format!("/events/{event}?said=queued.{}", done.queued)))
}
