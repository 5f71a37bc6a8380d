//! The page of workers for operators.

use axum::{extract::State, response::IntoResponse};
use maud::html;
use serde::{Deserialize, Serialize};

use super::{
    PageOrFile, layout,
    table::Table,
    table_view::{Format, View},
};
use crate::{
    access::Role,
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
    let table = Table::new(view)
        .text("Name", |worker: &Worker| worker.name.clone())
        .sorts("name")
        .instant("Since", "UTC", |worker| Some(worker.since))
        .sorts("since")
        .column(
            "State",
            |worker| match worker.state() {
                "late" => html! {
                    span.bad { "late by " (format!("{:.0} s", -worker.lease_seconds)) }
                },
                "draining" => html! {
                    span.warn { "draining" } " since "
                    @if let Some(since) = worker.draining_since { (layout::instant(since, "UTC")) }
                },
                "stopped" => html! {
                    span.bad { "stopped" } " by "
                    code { (worker.stopped_by.as_deref().unwrap_or_default()) } " since "
                    @if let Some(since) = worker.stopped_since { (layout::instant(since, "UTC")) }
                },
                state => html! { (state) },
            },
            |worker| worker.state().into(),
        )
        .number("Slots", |worker| i64::from(worker.slots))
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
            |worker| {
                html! { @match &worker.last_reason {
                    Some(reason) => code { (reason) },
                    None => "—",
                } }
            },
            |worker| worker.last_reason.clone().unwrap_or_default(),
        );
    if asked.format == Format::Csv {
        return table.as_file("workers", &workers);
    }
    let content = html! {
        h1 { "Workers" }
        @if workers.is_empty() {
            p.notice { "No worker is running. Start one: " code { "photogate work" } }
        } @else { (table.on_page(&workers, "", None)) }
    };
    Ok(layout::page(&browser, "/workers", "Workers", layout::Live::Every(5), content)
        .into_response())
}
