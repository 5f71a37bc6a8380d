//! The finder of an event, as its organisers see it: a page for athletes, who have no account.

use axum::{extract::State, http::HeaderMap, response::Redirect};
use maud::{Markup, html};
use serde::Deserialize;
use sqlx::PgConnection;

use super::{Form, layout, people::own_address, qr_code};
use crate::{
    catalog::{
        events::Event,
        finders::{self, Finder, FinderAccess},
    },
    commands::{FinderChange, MAY_CHANGE_EVENTS},
    ids::EventId,
    serve::{Service, authentication::Browser, input::Path, problem::Problem},
};

const CHOICES: [(FinderAccess, &str, &str); 3] = [
    (FinderAccess::Off, "Off", "There is no such page."),
    (
        FinderAccess::Link,
        "Whoever has the link",
        "The link cannot be guessed. Whoever gets it, also from others, can look for every number.",
    ),
    (
        FinderAccess::Public,
        "Everybody",
        "The page is also at a short address, which can be guessed. Search engines are asked not to \
         list it.",
    ),
];

/// The part of an event's page about its finder, for callers who may change the event. `said`: what
/// has just been done.
pub(super) async fn form(
    service: &Service,
    db: &mut PgConnection,
    headers: &HeaderMap,
    browser: &Browser,
    event: &Event,
    said: &str,
) -> Result<Markup, Problem> {
    if !MAY_CHANGE_EVENTS.contains(&browser.caller.role) {
        return Ok(html! {});
    }
    let finder = finders::of_event(db, event.id).await?;
    let here = match &service.config.public_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => own_address(service, headers),
    };
    let action = format!("/events/{}/finder", event.id);
    Ok(html! {
        details id="finder" open[said.starts_with("finder")] {
            summary { "Page for athletes" }
            div.panel {
                p { "A page on which runners look for their photos by bib number"
                    @if event.face_search { " or by a selfie" }
                    ", without an account. It shows small pictures only, and nothing else of the event. " }
                (warnings(event, &finder))
                (addresses(&here, &finder, browser))
                form method="post" action=(action) {
                    (layout::key(browser))
                    fieldset.operations {
                        legend { "Who can open it" }
                        @for (access, name, says) in CHOICES { label {
                            input type="radio" name="access" value=(access)
                                checked[access == finder.access];
                            span { strong { (name) } " " span.faint { (says) } }
                        } }
                    }
                    button type="submit" { "Save" }
                }
                @if finder.access != FinderAccess::Off {
                    form method="post" action=(action) {
                        (layout::key(browser))
                        input type="hidden" name="access" value=(finder.access);
                        input type="hidden" name="replace_link" value="true";
                        p { button.quiet type="submit" { "Replace the link" } " "
                            span.faint { "The old link leads nowhere at once, also where it is printed." } }
                    }
                }
            }
        }
    })
}

/// What the page cannot do, or what to think of first.
fn warnings(event: &Event, finder: &Finder) -> Markup {
    html! {
        @match (event.bib_search, event.face_search) {
            (false, false) => p.notice { "Nothing can be found on it now: switch on bib numbers or face "
                "search in the settings, and process the photos." },
            (true, false) => p.faint { "Runners can search by a selfie too, if you switch on face search in "
                "the settings." },
            (_, true) if finder.access == FinderAccess::Public => p.notice { "Everybody can compare a photo "
                "of anybody with the faces of this event. If that is not what the people on the photos "
                "agreed to, choose the link, or switch face search off." },
            (_, true) => {},
        }
    }
}

fn addresses(here: &str, finder: &Finder, browser: &Browser) -> Markup {
    html! {
        @if let Some(path) = &finder.public {
            label { "Its address, for everybody" input.whole readonly value={ (here) (path) }; }
        }
        @if let Some(path) = &finder.link {
            label { "Its link" input.whole readonly value={ (here) (path) }; }
            figure {
                (qr_code::picture(&format!("{here}{path}"), "QR code of the link"))
                figcaption.faint { "For a poster at the finish. A phone's camera opens the page." }
            }
            p { a href=(path) { "Open the page" }
                @if let (Some(by), Some(at)) = (&finder.set_by, finder.set_at) {
                    " " span.faint { "Set by " (by) ", " (layout::instant(at, browser.zone())) "." }
                }
            }
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Chosen {
    access: FinderAccess,
    #[serde(default)]
    replace_link: bool,
}

pub(super) async fn set(
    State(service): State<Service>,
    Path(id): Path<EventId>,
    form: Form<Chosen>,
) -> Result<Redirect, Problem> {
    let Chosen { access, replace_link } = form.fields;
    let change = FinderChange { access, replace_link };
    service.commands.set_finder(&form.browser.caller, id, change).await?;
    let said = match access {
        FinderAccess::Off => "finder_off",
        _ if replace_link => "finder_replaced",
        FinderAccess::Link => "finder_link",
        FinderAccess::Public => "finder_public",
    };
    Ok(Redirect::to(&format!("/events/{id}?said={said}#finder")))
}
