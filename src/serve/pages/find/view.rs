//! What visitors of a finder see.

use axum::{http::StatusCode, response::Html};
use maud::{DOCTYPE, Markup, html};

use crate::{
    catalog::finders::{Opened, Picture},
    config::Support,
};

/// What was searched, and what came of it.
pub(super) enum Asked {
    Nothing,
    /// What the visitor must do better.
    Wrong(&'static str),
    Number(String, Found),
    Selfie(Found),
}

/// The photos that were found.
pub(super) struct Found {
    /// False: there may be more.
    pub(super) is_all: bool,
    pub(super) sure: Vec<Picture>,
    /// Those on which the number may be misread.
    pub(super) unsure: Vec<Picture>,
}

impl Found {
    fn number(&self) -> usize {
        self.sure.len() + self.unsure.len()
    }
}

/// A page of its own kind: nothing leads from it to the pages of those who have an account.
fn whole(title: &str, content: Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex, nofollow";
                meta name="referrer" content="no-referrer";
                title { (title) }
                link rel="stylesheet" href="/assets/style.css";
                link rel="icon" href="data:,";
            }
            body { main.find id="content" { (content) } }
        }
    };
    Html(page.into_string())
}

/// The page at `path`.
pub(super) fn page(
    path: &str,
    open: &Opened,
    support: Option<&Support>,
    asked: Asked,
) -> Html<String> {
    let title = match &asked {
        Asked::Nothing => format!("Find your photos · {}", open.name),
        Asked::Wrong(_) => format!("Please correct · {}", open.name),
        Asked::Number(..) | Asked::Selfie(_) => format!("Your photos · {}", open.name),
    };
    let typed = match &asked {
        Asked::Number(number, _) => number.as_str(),
        Asked::Nothing | Asked::Wrong(_) | Asked::Selfie(_) => "",
    };
    let forms = html! {
        @if open.archived { p.notice {
            "The photos of this event are archived, and cannot be searched now. Ask " (open.organiser)
            " for them."
        } } @else {
            @if open.bib_search { (number_form(path, typed)) }
            @if open.face_search { (selfie_form(path, open, support)) }
            @if !open.bib_search && !open.face_search {
                p.notice { "The photos of this event cannot be searched yet. Come again later." }
            }
        }
    };
    let content = html! {
        header {
            h1 { (open.name) }
            p.faint { "Photos of " (open.organiser) }
        }
        @match &asked {
            Asked::Nothing => (forms),
            Asked::Wrong(what) => { p.notice.bad role="alert" { (what) } (forms) },
            Asked::Number(number, found) => {
                h2 { (photos(found.number())) " with the number " (number) }
                @if found.number() == 0 {
                    p { "Is the number right? A number that is folded, covered or cut off cannot be read, "
                        "and photos may still come: try again later"
                        @if open.face_search { ", or look for your face" } "." }
                }
                (grid(path, found))
                div.again { h2 { "Search again" } (forms) }
            },
            Asked::Selfie(found) => {
                h2 { (photos(found.number())) " with this face" }
                @if found.number() == 0 {
                    p { "Try another photo: from the front, in good light, without sunglasses"
                        @if open.bib_search { "; or look for your bib number" }
                        ". Photos may still come: try again later." }
                } @else {
                    p.faint { "A computer has compared the faces, most similar first. It may be wrong." }
                }
                (grid(path, found))
                div.again { h2 { "Search again" } (forms) }
            },
        }
        footer {
            p.faint { "You are on a photo and do not want to be? " (help(open, support))
                " Have the bib number or the time of the photo at hand." }
        }
    };
    whole(&title, content)
}

fn photos(number: usize) -> String {
    match number {
        0 => "No photo".to_owned(),
        1 => "1 photo".to_owned(),
        n => format!("{n} photos"),
    }
}

fn number_form(path: &str, typed: &str) -> Markup {
    html! {
        section.panel aria-label="By bib number" {
            form method="post" action=(path) {
                label { "Your bib number"
                    input name="bib" value=(typed) maxlength="20" required autocomplete="off"
                        autocapitalize="characters"; }
                button type="submit" { "Find my photos" }
            }
        }
    }
}

fn selfie_form(path: &str, open: &Opened, support: Option<&Support>) -> Markup {
    html! {
        section.panel aria-label="By a selfie" {
            form method="post" enctype="multipart/form-data" action={ (path) "/selfie" } {
                // Named so, phones send a JPEG whatever they take.
                label { "Or a photo of your face"
                    input type="file" name="selfie" accept="image/jpeg,image/png,image/webp" required; }
                ul.faint {
                    li { "It is compared once with the faces on the photos of this event. Neither it nor "
                        "what is computed from it is kept." }
                    li { "That somebody has searched is noted, with neither the photo nor a name." }
                    li { strong { (open.organiser) } " is responsible for the photos and for this "
                        "search. " (help(open, support)) }
                }
                label.consent {
                    input type="checkbox" name="consent" value="yes" required;
                    span { "The photo shows me, or a child of mine, and I agree that the face is compared." }
                }
                button type="submit" { "Find my photos" }
            }
        }
    }
}

/// Whom to ask.
fn help(open: &Opened, support: Option<&Support>) -> Markup {
    html! {
        "To have a photo removed, or with a question, ask " (open.organiser)
        @if let Some(support) = support { " or " a href=(support.href()) { "contact support" } }
        "."
    }
}

fn grid(path: &str, found: &Found) -> Markup {
    let (shown, sure) = (found.number(), found.sure.len());
    html! {
        @if !found.is_all { p.notice { "These are the first " (shown) "." } }
        @if !found.sure.is_empty() {
            ul.grid { @for (n, picture) in found.sure.iter().enumerate() {
                (card(path, picture, n + 1, shown, true))
            } }
        }
        @if !found.unsure.is_empty() {
            h2 { "Maybe" }
            p.faint { "On these, the number may be misread." }
            ul.grid { @for (n, picture) in found.unsure.iter().enumerate() {
                (card(path, picture, sure + n + 1, shown, false))
            } }
        }
    }
}

/// A picture, which opens larger. It is a popover, which needs neither a script nor another page: a
/// browser that goes back from one to the results of a POST would ask whether to send it again.
fn card(path: &str, picture: &Picture, number: usize, of: usize, sure: bool) -> Markup {
    let (id, src) = (format!("large-{number}"), format!("{path}/photos/{}", picture.photo));
    let name = format!("Photo {number} of {of}{}", if sure { "" } else { ", maybe yours" });
    html! {
        li.photo {
            button.shot type="button" popovertarget=(id) aria-label={ (name) ": show it larger" } {
                (image(&src, picture, ""))
            }
            div.enlarged popover id=(id) role="dialog" aria-label=(name) {
                (image(&src, picture, &name))
                div.row.apart {
                    span { (name) }
                    button.quiet type="button" popovertarget=(id) popovertargetaction="hide" { "Close" }
                }
            }
        }
    }
}

/// The thumbnail, turned as the photo must be.
fn image(src: &str, picture: &Picture, name: &str) -> Markup {
    let (width, height) = (picture.width.unwrap_or(4), picture.height.unwrap_or(3));
    let turn = picture.turn.unwrap_or_default();
    let (right, below) = match turn {
        90 => (height, 0),
        180 => (width, height),
        270 => (0, width),
        _ => {
            return html! {
                img src=(src) alt=(name) width=(width) height=(height) loading="lazy" decoding="async";
            };
        }
    };
    let (across, down) = if turn == 180 { (width, height) } else { (height, width) };
    let (role, hidden) = if name.is_empty() { (None, Some("true")) } else { (Some("img"), None) };
    html! {
        svg viewBox={ "0 0 " (across) " " (down) } role=[role] aria-hidden=[hidden]
            aria-label=[role.map(|_| name)] {
            g transform={ "translate(" (right) " " (below) ") rotate(" (turn) ")" } {
                image href=(src) width=(width) height=(height) {}
            }
        }
    }
}

/// Why it does not go on, for somebody who knows nothing of this service.
pub(super) fn trouble(status: StatusCode, seconds: &str) -> Html<String> {
    let wait = if seconds.is_empty() { "60" } else { seconds };
    let (title, says) = match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => (
            "There is no page here",
            html! { "Check the address. If the organiser has given out a new link, the old one leads "
            "nowhere: ask for the new one." },
        ),
        StatusCode::TOO_MANY_REQUESTS => (
            "Too many searches at the moment",
            html! { "Others are searching too, or many searches came from your network. Wait " (wait)
            " seconds, go back, and try again." },
        ),
        StatusCode::PAYLOAD_TOO_LARGE => {
            ("The photo is too large", html! { "Go back, and choose one with at most 16 MB." })
        }
        status if status.is_client_error() => (
            "This did not arrive as it should",
            html! { "Go back, load the page again, and try once more." },
        ),
        _ => {
            ("This does not work at the moment", html! { "Wait a minute, go back, and try again." })
        }
    };
    whole(title, html! { h1 { (title) } p { (says) } })
}
