//! The page that says what processing has found on the photos of an event.

use axum::extract::State;
use maud::{Markup, html};

use super::{Page, archives, layout};
use crate::{
    catalog::{
        archive, events,
        quality::{self, Report},
    },
    ids::EventId,
    serve::{Service, authentication::Browser, input::Path},
};

pub(super) async fn page(
    State(service): State<Service>,
    mut browser: Browser,
    Path(event): Path<EventId>,
) -> Page {
    let mut db = service.database.acquire().await?;
    let found = browser.caller.must_see_event(event, events::find(&mut db, event).await?)?;
    browser.look_at(&mut db, found.organisation).await?;
    let archive = archive::away(&mut db, event).await?;
    let report = match archive {
        None => quality::report(&mut db, event).await?,
        Some(_) => Report::default(),
    };
    let content = html! {
        h1 { "What was found " span.faint { (found.name) " · Event " (event) } }
        @if let Some(archive) = &archive { (archives::notice(archive, &browser)) }
        @else if report.photos == 0 && report.rotation_photos == 0 {
            p.faint { "Nothing yet: no photo of this event was processed." }
        }
        @if report.photos > 0 { (processing(event, &report)) }
        @if report.rotation_photos > 0 { (rotation(&report)) }
        p { a href={ "/events/" (event) } { "Back to the event" } }
    };
    Ok(layout::page(&browser, "/events", "What was found", None, content))
}

fn processing(event: EventId, report: &Report) -> Markup {
    let Report { photos, .. } = *report;
    html! {
        section aria-label="Photo Processing" {
            h2 { "Photo Processing" }
            div.strip {
                (share("With a sure number", report.with_sure_number, photos))
                (share("Only unsure numbers", report.with_unsure_number, photos))
                (share("Without a number", report.without_number, photos))
                (share("With a face", report.with_face, photos))
            }
            p {
                "Of " (photos) " photos. They show " (report.faces) " faces and " (report.numbers)
                " bib numbers, of which " (report.sure_numbers) " are sure; "
                (report.different_numbers) " are different."
            }
            @let settled = [
                (report.settled_by_start_list, "by the start list"),
                (report.settled_by_numbering, "by how the event's other numbers look"),
                (report.settled_by_person, "by the same person on another photo"),
                (report.settled_by_organiser, "by a person"),
            ];
            @if settled.iter().any(|(count, _)| *count > 0) {
                p { "More than the reading alone has decided:" }
                ul { @for (count, how) in settled.iter().filter(|(count, _)| *count > 0) {
                    li { (count) " " (how) }
                } }
            }
            @if report.maybe_sideways > 0 {
                p.notice {
                    "On " (layout::photos(report.maybe_sideways)) " nothing was found, neither a face nor a number. "
                    "Do they lie on their side? Run AI Rotation first, then Photo Processing again: "
                    a href={ "/events/" (event) } { "Process Photos" } "."
                }
            }
            @if report.with_unsure_number > 0 {
                p {
                    a href={ "/events/" (event) "?numbers=unsure#photos" } {
                        "Look at the unsure numbers"
                    }
                    " and correct them, or give the event a start list: it settles most of them, also "
                    "afterwards. Both are free."
                }
            }
        }
    }
}

fn rotation(report: &Report) -> Markup {
    let photos = report.rotation_photos;
    html! {
        section aria-label="AI Rotation" {
            h2 { "AI Rotation" }
            div.strip {
                (share("Turned", report.turned, photos))
                (share("Upright already", report.upright, photos))
                (share("Not sure: left as they are", report.undecided, photos))
            }
            p { "Of " (photos) " photos." }
        }
    }
}

/// A count with its share, rounded to whole percent.
fn share(what: &str, count: i64, of: i64) -> Markup {
    html! {
        div { (what) b { (count) } span.faint { ((200 * count + of) / (2 * of).max(1)) " %" } }
    }
}
