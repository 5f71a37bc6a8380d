//! The page that says why the photos of an event do not run.

use axum::extract::State;
use maud::html;

use super::{Page, layout};
use crate::{
    catalog::events,
    ids::EventId,
    queue::why,
    serve::{Service, authentication::Browser, input::Path, problem::Problem},
};

pub(super) async fn page(
    State(service): State<Service>,
    mut browser: Browser,
    Path(event): Path<EventId>,
) -> Page {
    let mut db = service.database.acquire().await?;
    let found = browser.caller.must_see_event(event, events::find(&mut db, event).await?)?;
    browser.look_at(&mut db, found.organisation).await?;
    let why = why::event(&mut db, event)
        .await?
        .ok_or_else(|| Problem::not_found(format!("event {event}")))?;
    let content = html! {
        h1 { "Why? " span.faint { (found.name) " · " (event) } }
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
            None => p.notice.good { "There is nothing to do." },
        }
        p { a href={ "/events/" (event) } { "Back to the event" } }
    };
    Ok(layout::page(&browser, "/events", "Why", None, content))
}
