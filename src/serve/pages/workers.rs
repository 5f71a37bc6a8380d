//! The page of workers for operators: how busy they are, and what went wrong last.

use axum::{extract::State, response::IntoResponse};
use maud::{Markup, html};
use serde::{Deserialize, Serialize};

use super::{
    PageOrFile, layout, pulse as picture, queues,
    table::Table,
    table_view::{Format, View},
};
use crate::{
    access::Role,
    ledger::credits::Credits,
    queue::{failures, pulse, totals},
    serve::{Service, authentication::Browser, input::Query},
    worker::roster::{self, Worker},
};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sort {
    #[default]
    Since,
    Name,
    Hand,
    Rate,
}

impl Sort {
    fn code(self) -> &'static str {
        match self {
            Self::Since => "since",
            Self::Name => "name",
            Self::Hand => "hand",
            Self::Rate => "rate",
        }
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    sort: Sort,
    #[serde(default)]
    format: Format,
}

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(&[Role::Operator, Role::Staff])?;
    browser.caller.must_run_photogate()?;
    let mut db = service.database.acquire().await?;
    let mut workers = roster::workers(&mut db).await?;
    match asked.sort {
        Sort::Since => {}
        Sort::Name => workers.sort_by(|one, other| one.name.cmp(&other.name)),
        Sort::Hand => workers.sort_by_key(|worker| std::cmp::Reverse(worker.in_hand)),
        Sort::Rate => workers.sort_by(|one, other| other.rate.total_cmp(&one.rate)),
    }
    let view = View { path: "/workers", filters: Vec::new(), sort: asked.sort.code() };
    let table = table(view, browser.zone());
    if asked.format == Format::Csv {
        return table.as_file("workers", &workers);
    }
    let totals = totals::totals(&mut db, None).await?;
    let pulse = pulse::of_all(&mut db, None).await?;
    let sum = |of: fn(&Worker) -> i64| Credits(workers.iter().map(of).sum());
    let content = html! {
        h1 { "Workers" }
        div.overview {
            div.strip {
                div { "Workers" b { (Credits(i64::try_from(workers.len()).unwrap_or(0))) } }
                div { "Slots in use" b {
                    (sum(Worker::in_use)) " of " (sum(|worker| i64::from(worker.slots)))
                } }
                div { "Claimable now" b { (Credits(totals.funded)) } }
                div { "In progress" b { (Credits(totals.in_progress)) } }
                div { "Photos/s" b { (layout::rate(totals.rate)) } }
                (queues::oldest(&totals))
            }
            (picture::graph(&pulse))
        }
        @if workers.is_empty() {
            p.notice { "No worker is running. Start one: " code { "photogate work" } }
        } @else { (table.on_page(&workers, "", None)) }
    };
    Ok(layout::page(&browser, "/workers", "Workers", layout::Live::Every(5), content)
        .into_response())
}

fn table<'a>(view: View<'a>, zone: &'a str) -> Table<'a, Worker> {
    Table::new(view)
        .looks("dense cards-on-phone")
        .rows_are(|worker: &Worker| format!("worker-{}", worker.name))
        .text("Name", |worker: &Worker| worker.name.clone())
        .sorts("name")
        .instant("Since", zone, |worker| Some(worker.since))
        .sorts("since")
        .column("State", move |worker| state(worker, zone), |worker| worker.state().into())
        .column("Slots", load, |worker| worker.slots.to_string())
        .number("In hand", |worker| worker.in_hand)
        .sorts("hand")
        .figure(
            "Photos/s",
            |worker| layout::rate(worker.rate),
            |worker| format!("{:.2}", worker.rate),
        )
        .sorts("rate")
        .column(
            "Last failure",
            move |worker| {
                html! { @match &worker.last_reason {
                    Some(reason) => {
                        code { (reason) }
                        @if let Some(at) = worker.last_failed_at {
                            span.faint { " at " (layout::moment(at, zone)) }
                        }
                        div.faint { (failures::meaning(reason)) }
                    },
                    None => "—",
                } }
            },
            |worker| worker.last_reason.clone().unwrap_or_default(),
        )
}

fn state(worker: &Worker, zone: &str) -> Markup {
    let (look, since) = match worker.state() {
        "late" => ("held", None),
        "draining" => ("paused", worker.draining_since),
        "stopped" => ("held", worker.stopped_since),
        _ => ("running", None),
    };
    html! {
        span class={ "chip state " (look) } { (worker.state()) }
        @if worker.lease_seconds < 0.0 { " by " (format!("{:.0} s", -worker.lease_seconds)) }
        @if let Some(by) = worker.stopped_by.as_deref() { " by " code { (by) } }
        @if let Some(since) = since { " since " (layout::instant(since, zone)) }
    }
}

/// How many of its slots have a photo, as a bar and in words.
fn load(worker: &Worker) -> Markup {
    let (used, slots) = (worker.in_use(), i64::from(worker.slots));
    html! {
        span.load {
            meter min="0" max=(slots.max(1)) value=(used)
                aria-label={ "Slots in use of " (worker.name) } {}
            " " (Credits(used)) " of " (Credits(slots)) " in use"
        }
    }
}
