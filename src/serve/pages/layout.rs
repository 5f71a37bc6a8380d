//! What all pages share.

use axum::response::Html;
use chrono::{DateTime, Utc};
use maud::{DOCTYPE, Markup, html};

use crate::{
    access::{self, Role},
    serve::caller::Browser,
};

fn head(title: &str) -> Markup {
    html! {
        meta charset="utf-8";
        meta name="viewport" content="width=device-width, initial-scale=1";
        title { (title) " · photogate" }
        link rel="stylesheet" href="/assets/style.css";
        link rel="icon" href="data:,";
    }
}

/// A page without navigation.
pub(super) fn bare(title: &str, content: Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" { head { (head(title)) } body { main.narrow id="content" { (content) } } }
    };
    Html(page.into_string())
}

/// Who is led where.
fn places(role: Role) -> &'static [(&'static str, &'static str)] {
    match role {
        Role::Pipeline => &[("/events", "Events")],
        Role::Organiser => &[
            ("/credits", "Credits"),
            ("/events", "Events"),
            ("/failures", "Failures"),
            ("/statements", "Statements"),
        ],
        Role::Operator => &[
            ("/queues", "Queues"),
            ("/failures", "Failures"),
            ("/workers", "Workers"),
            ("/events", "Events"),
            ("/organisations", "Credits"),
        ],
        Role::Finance => &[
            ("/finance", "Finance"),
            ("/refunds", "Refunds"),
            ("/statements", "Statements"),
            ("/organisations", "Credits"),
        ],
        Role::Staff => &[
            ("/queues", "Queues"),
            ("/failures", "Failures"),
            ("/workers", "Workers"),
            ("/finance", "Finance"),
            ("/refunds", "Refunds"),
            ("/statements", "Statements"),
            ("/events", "Events"),
            ("/organisations", "Organisations"),
        ],
    }
}

/// A page of the application. `stream`: where what is live on it comes from.
pub(super) fn page(
    browser: &Browser,
    here: &str,
    title: &str,
    stream: Option<String>,
    content: Markup,
) -> Html<String> {
    let caller = &browser.caller;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { (head(title)) script src="/assets/live.js" defer {} }
            body.app data-stream=[stream] {
                a.skip href="#content" { "Skip to the content" }
                nav.side aria-label="Main" {
                    strong { "photogate" }
                    @for (address, name) in places(caller.role) {
                        a href=(address) aria-current=[(*address == here).then_some("page")] { (name) }
                    }
                    form method="post" action="/logout" {
                        (key(browser))
                        small { (caller.actor) ", " (caller.role) } br;
                        button.quiet type="submit" { "Log out" }
                    }
                }
                main id="content" { (content) }
            }
        }
    };
    Html(page.into_string())
}

/// What makes a form this session's.
pub(super) fn key(browser: &Browser) -> Markup {
    html! { input type="hidden" name="form_key" value=(access::form_key(&browser.session)); }
}

/// An instant in a time zone of PostgreSQL's kind; the exact one on hover.
pub(super) fn instant(at: DateTime<Utc>, zone: &str) -> Markup {
    let local = zone.parse::<chrono_tz::Tz>().map_or_else(
        |_| at.format("%-d %b %Y, %H:%M UTC").to_string(),
        |zone| at.with_timezone(&zone).format("%-d %b %Y, %H:%M").to_string(),
    );
    html! { time datetime=(at.to_rfc3339()) title=(at.to_rfc3339()) { (local) } }
}

/// About how long, for people.
pub(super) fn about(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round();
    match minutes {
        _ if !seconds.is_finite() => "not known".into(),
        minutes if minutes < 1.0 => "less than a minute".into(),
        minutes if minutes < 60.0 => format!("about {minutes} min"),
        minutes if minutes < 48.0 * 60.0 => {
            format!("about {} h {} min", (minutes / 60.0).floor(), minutes % 60.0)
        }
        minutes => format!("about {} days", (minutes / 60.0 / 24.0).round()),
    }
}

/// A link to the next page, with the filters of this one.
pub(super) fn more(path: &str, filters: &[(&str, String)], next: Option<&String>) -> Markup {
    let query = |next: &str| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in filters.iter().filter(|(_, value)| !value.is_empty()) {
            query.append_pair(name, value);
        }
        query.append_pair("after", next).finish()
    };
    html! { @if let Some(next) = next { p { a.button.quiet rel="next" href={ (path) "?" (query(next)) } { "Next page" } } } }
}

/// A choice among others.
pub(super) fn choice(label: &str, name: &str, options: &[(&str, &str)], chosen: &str) -> Markup {
    html! {
        label { (label)
            select name=(name) {
                @for (value, text) in options { option value=(value) selected[*value == chosen] { (text) } }
            }
        }
    }
}
