//! The page that says why the photos of an event do not run, with buttons that do what it advises.

use axum::extract::State;
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Page,
    bulk::{self, Chosen},
    layout, purchase,
};
use crate::{
    access::Role,
    catalog::events,
    commands::{MAY_BUY, MAY_PACE, MAY_SPEND},
    ids::EventId,
    ledger::credits::Credits,
    queue::why::{self, Remedy},
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
        problem::Problem,
    },
};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    said: String,
}

pub(super) async fn page(
    State(service): State<Service>,
    mut browser: Browser,
    Path(event): Path<EventId>,
    Query(asked): Query<Asked>,
) -> Page {
    let mut db = service.database.acquire().await?;
    let found = browser.caller.must_see_event(event, events::find(&mut db, event).await?)?;
    browser.look_at(&mut db, found.organisation).await?;
    let why = why::event(&mut db, event)
        .await?
        .ok_or_else(|| Problem::not_found(format!("event {event}")))?;
    drop(db);
    let undoable = service.commands.undoable_bulks(&browser.caller).await?;
    let here = format!("/events/{event}/why");
    let remedies: Vec<Markup> =
        why.remedies.iter().filter_map(|remedy| button(remedy, &browser, &here)).collect();
    let content = html! {
        h1 { "Why? " span.faint { (found.name) " · Event " (event) } }
        (bulk::said(&asked.said, &undoable))
        (bulk::undoable(&undoable, &browser, &here))
        p { (why.answer) }
        @if !why.chain.is_empty() { ol { @for cause in &why.chain {
            li {
                (cause.says)
                @if let Some(since) = cause.since {
                    span.faint { " since " (layout::instant(since, browser.zone())) }
                }
            }
        } } }
        @match &why.action {
            Some(action) => p.notice { "Do: " strong { (action) } },
            None if why.remedies.is_empty() => p.notice.good { "There is nothing to do." },
            None => {},
        }
        @if !remedies.is_empty() {
            div.row.remedies { @for remedy in &remedies { (remedy) } }
        }
        p { a href={ "/events/" (event) } { "Back to the event" } }
    };
    Ok(layout::page(&browser, "/events", "Why", layout::Live::Every(5), content))
}

/// The way to what helps, for those who may do it. Each leads to a page that asks first.
fn button(remedy: &Remedy, browser: &Browser, here: &str) -> Option<Markup> {
    let caller = &browser.caller;
    let role = caller.role;
    let (may, address, says) = match remedy {
        Remedy::Lift { queue, of } => (
            Chosen::Lift.may(caller),
            bulk::address(Chosen::Lift, *queue, here),
            format!("Lift the hold of {of}"),
        ),
        Remedy::Retry { queue, of, photos } => (
            Chosen::Retry.may(caller),
            bulk::address(Chosen::Retry, *queue, here),
            format!("Retry {} failed photos of {of}", Credits(*photos)),
        ),
        Remedy::TopUp { organisation, credits } => (
            MAY_BUY.contains(&role),
            purchase::address(*organisation, *credits),
            format!("Add {credits} credits"),
        ),
        Remedy::Budget(organisation) => (
            MAY_SPEND.contains(&role),
            format!("/spending?organisation={organisation}"),
            "Change what events may spend".into(),
        ),
        Remedy::Pace(organisation) => (
            MAY_PACE.contains(&role),
            format!("/spending?organisation={organisation}"),
            "Change the pace".into(),
        ),
        Remedy::Workers => (
            matches!(role, Role::Operator | Role::Staff) && caller.organisation.is_none(),
            "/workers".into(),
            "See the workers".into(),
        ),
    };
    may.then(|| html! { a.button href=(address) { (says) } })
}
