//! What failed, and why, and trying it again.

use axum::{
    extract::State,
    response::{IntoResponse, Redirect},
};
use chrono::{TimeDelta, Utc};
use maud::html;
use serde::Deserialize;

use super::{
    Form, Page, PageOrFile, confirm,
    event::code,
    layout,
    table::{Format, Table, View},
};
use crate::{
    access::Role,
    failures::{self, Group, Sort, Which},
    ids::{EventId, Operation},
    serve::{
        Service,
        api::failures::{NewRetry, again},
        caller::Browser,
        input::{Path, Query},
        problem::Problem,
    },
};

/// Which failures, as a form sends it, with empty fields.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    event: Option<EventId>,
    #[serde(default)]
    sort: Sort,
    #[serde(default)]
    format: Format,
}

/// Further back than that, an event's own page tells.
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
    let content = html! {
        h1 { "Failures" }
        p.faint { "Photos that failed" @if asked.event.is_none() { " in the last " (DAYS) " days" } " and were not retried since, by reason. Each got its credit back." }
        (table.on_page(&groups, "Nothing has failed: there is nothing to do here.", None))
    };
    Ok(layout::page(&browser, "/failures", "Failures", None, content).into_response())
}

/// Photos that failed for one reason are a row. Their times are those of this zone.
pub(super) fn table<'a>(view: View<'a>, browser: &'a Browser, zone: &'a str) -> Table<'a, Group> {
    let may_retry = matches!(browser.caller.role, Role::Organiser | Role::Operator | Role::Staff);
    Table::new(view)
        .column(
            "Reason",
            |group: &Group| html! { code { (group.reason) } },
            |group| group.reason.clone(),
        )
        .column(
            "Event",
            |group| html! { a href={ "/events/" (group.event) "?state=failed#photos" } { (group.event_name) } },
            |group| group.event_name.clone(),
        )
        .only_in_file("Event ID", |group| group.event.to_string())
        .column(
            "Operation",
            |group| html! { (group.operation) },
            |group| code(group.operation).into(),
        )
        .number("Photos", |group| group.photos)
        .sorts("photos")
        .column(
            "Last",
            move |group| html! { (layout::instant(group.last_at, zone)) " · " a href={ "/receipts/" (group.example) } { "newest" } },
            |group| group.last_at.to_rfc3339(),
        )
        .sorts("last")
        .actions(move |group| html! { @if may_retry {
            form.inline method="get" action={ "/events/" (group.event) "/retry" } {
                input type="hidden" name="operation" value=(code(group.operation));
                input type="hidden" name="reason" value=(group.reason);
                button.quiet type="submit" { "Retry" }
            }
        } })
}

#[derive(Debug, Deserialize)]
pub(super) struct Retry {
    operation: Operation,
    reason: String,
}

impl Retry {
    fn retry(&self, dry_run: bool) -> NewRetry {
        NewRetry { operation: Some(self.operation), reason: Some(self.reason.clone()), dry_run }
    }
}

/// What it will cost.
pub(super) async fn ask_retry(
    State(service): State<Service>,
    browser: Browser,
    Path(event): Path<EventId>,
    Query(retry): Query<Retry>,
) -> Page {
    let retried = again(&service, &browser.caller, event, &retry.retry(true)).await?;
    let says = html! { p { "Retry " strong { (retried.photos) } " photos: " strong { (retried.credits) } " credits, " (retried.available) " available." } };
    let fields = [("operation", code(retry.operation).to_owned()), ("reason", retry.reason)];
    let action = format!("/events/{event}/retry");
    Ok(confirm::page(&browser, "Retry", says, &action, "/failures", &fields, "Retry them"))
}

pub(super) async fn retry(
    State(service): State<Service>,
    Path(event): Path<EventId>,
    form: Form<Retry>,
) -> Result<Redirect, Problem> {
    again(&service, &form.browser.caller, event, &form.fields.retry(false)).await?;
    Ok(Redirect::to(&format!("/events/{event}")))
}
