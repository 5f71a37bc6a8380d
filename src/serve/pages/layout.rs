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
pub(super) fn places(role: Role) -> &'static [(&'static str, &'static str)] {
    match role {
        Role::Pipeline => &[("/events", "Events")],
        Role::Organiser => &[
            ("/credits", "Credits"),
            ("/events", "Events"),
            ("/failures", "Failures"),
            ("/statements", "Statements"),
            ("/deeds", "Audit"),
        ],
        Role::Operator => &[
            ("/queues", "Queues"),
            ("/failures", "Failures"),
            ("/workers", "Workers"),
            ("/events", "Events"),
            ("/credits", "Credits"),
            ("/deeds", "Audit"),
        ],
        Role::Finance => &[
            ("/finance", "Finance"),
            ("/refunds", "Refunds"),
            ("/statements", "Statements"),
            ("/credits", "Credits"),
            ("/deeds", "Audit"),
        ],
        Role::Staff => &[
            ("/queues", "Queues"),
            ("/failures", "Failures"),
            ("/workers", "Workers"),
            ("/finance", "Finance"),
            ("/refunds", "Refunds"),
            ("/statements", "Statements"),
            ("/events", "Events"),
            ("/credits", "Credits"),
            ("/organisations", "Organisations"),
            ("/deeds", "Audit"),
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
                    @if caller.organisation.is_none() { (switch(browser, here)) }
                    @for (address, name) in places(caller.role) {
                        a href=(kept(browser, address)) aria-current=[(*address == here).then_some("page")] { (name) }
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

/// The same organisation on another page.
fn kept(browser: &Browser, path: &str) -> String {
    let (name, value) = browser.filter();
    if value.is_empty() { path.to_owned() } else { format!("{path}?{name}={value}") }
}

/// For those who see several: which organisation the pages are about.
fn switch(browser: &Browser, here: &str) -> Markup {
    let chosen = browser.organisation.as_ref();
    html! {
        form.switch method="get" action="/organisations" {
            input type="hidden" name="to" value=(here);
            label { "Organisation"
                input type="search" name="name" placeholder="All: name or ID" value=(chosen.map_or("", |chosen| &chosen.name)); }
        }
        @if chosen.is_some() { a href=(here) { "All organisations" } }
    }
}

/// What makes a form this session's.
pub(super) fn key(browser: &Browser) -> Markup {
    html! { input type="hidden" name="form_key" value=(access::form_key(&browser.session)); }
}

/// An instant in a time zone of PostgreSQL's kind; the exact one on hover.
pub(super) fn instant(at: DateTime<Utc>, zone: &str) -> Markup {
    let name = if zone == "UTC" { " UTC" } else { "" };
    let local = at.with_timezone(&self::zone(zone)).format("%-d %b %Y, %H:%M");
    html! { time datetime=(at.to_rfc3339()) title=(at.to_rfc3339()) { (local) (name) } }
}

/// The same where there is little room: today's time, or the day; the exact instant on hover.
pub(super) fn moment(at: DateTime<Utc>, zone: &str) -> Markup {
    let zone = self::zone(zone);
    let (local, today) = (at.with_timezone(&zone), Utc::now().with_timezone(&zone));
    let form = match () {
        () if local.date_naive() == today.date_naive() => "%H:%M",
        () if (local - today).abs() < chrono::TimeDelta::days(180) => "%-d %b, %H:%M",
        () => "%-d %b %Y",
    };
    html! { time datetime=(at.to_rfc3339()) title=(at.to_rfc3339()) { (local.format(form)) } }
}

/// A time zone of PostgreSQL's kind; UTC if nobody else knows it.
pub(super) fn zone(name: &str) -> chrono_tz::Tz {
    name.parse().unwrap_or(chrono_tz::UTC)
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

/// How long ago, as on a clock.
pub(super) fn age(age: chrono::TimeDelta) -> String {
    let seconds = age.num_seconds().max(0);
    match seconds {
        0..3600 => format!("{:02}:{:02}", seconds / 60, seconds % 60),
        3600..172_800 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Photos a second.
pub(super) fn rate(rate: f64) -> Markup {
    html! { @if rate > 0.0 { (format!("{rate:.1}")) } @else { "—" } }
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
