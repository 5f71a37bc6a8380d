//! The layout and the small parts that all pages share.

use axum::response::Html;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use maud::{DOCTYPE, Markup, html};
use serde::{Deserialize, Deserializer};

use crate::{
    access::{self, Caller, Role},
    ids::OrganisationId,
    ledger::credits::Credits,
    serve::{authentication::Browser, problem::Problem},
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

/// Renders a page without navigation.
pub(super) fn bare(title: &str, content: Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" { head { (head(title)) } body { main.narrow id="content" { (content) } } }
    };
    Html(page.into_string())
}

/// A part of the navigation: its heading, and its places.
type Group = (&'static str, &'static [Place]);

/// A place: its address, its name, and who sees it.
type Place = (&'static str, &'static str, &'static [Role]);

const ALL: &[Role] = &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];
const RUN: &[Role] = &[Role::Operator, Role::Staff];
const COUNT: &[Role] = &[Role::Organiser, Role::Finance, Role::Staff];
const OWN: &[Role] = &[Role::Organiser, Role::Staff];

const NAVIGATION: [Group; 3] = [
    (
        "Work",
        &[
            ("/queues", "Queues", RUN),
            ("/events", "Events", &[Role::Pipeline, Role::Organiser, Role::Operator, Role::Staff]),
            ("/failures", "Failures", &[Role::Organiser, Role::Operator, Role::Staff]),
            ("/workers", "Workers", RUN),
            ("/archives", "Archives", RUN),
        ],
    ),
    (
        "Money",
        &[
            ("/finance", "Finance", &[Role::Finance, Role::Staff]),
            ("/credits", "Credits", ALL),
            ("/purchases", "Approvals", COUNT),
            ("/statements", "Statements", COUNT),
            ("/refunds", "Refunds", COUNT),
            ("/receipts", "Receipts", COUNT),
        ],
    ),
    (
        "Set up",
        &[
            ("/organisations", "Organisations", &[Role::Staff]),
            ("/people", "People", OWN),
            ("/tokens", "Tokens", OWN),
            ("/alerts", "Alerts", ALL),
            ("/webhooks", "Webhooks", &[Role::Organiser, Role::Operator, Role::Staff]),
            ("/audit-log", "Audit log", ALL),
        ],
    ),
];

/// Places of those who run photogate: workers serve all organisations, and archives keep the database
/// small.
const OF_ALL: [&str; 2] = ["/workers", "/archives"];

/// The places of a group that the caller sees. Callers of one organisation do not see [`OF_ALL`].
fn places<'a>(caller: &'a Caller, places: &'a [Place]) -> impl Iterator<Item = &'a Place> {
    places.iter().filter(|(address, _, roles)| {
        roles.contains(&caller.role) && (caller.organisation.is_none() || !OF_ALL.contains(address))
    })
}

/// The address of a place in the caller's navigation, if it is one.
pub(super) fn place(caller: &Caller, asked: &str) -> Option<&'static str> {
    let all = NAVIGATION.iter().flat_map(|(_, group)| places(caller, group));
    all.map(|(address, ..)| *address).find(|address| *address == asked)
}

/// When the script of live updates (assets/live.js) fetches a page again.
pub(super) enum Live {
    /// Never.
    Never,
    /// When the stream at this address says that something has changed.
    Stream(String),
    /// Every so many seconds.
    Every(u32),
}

impl From<Option<String>> for Live {
    fn from(stream: Option<String>) -> Self {
        stream.map_or(Self::Never, Self::Stream)
    }
}

/// Renders a page with navigation. `here` is the address that is marked in the navigation.
pub(super) fn page(
    browser: &Browser,
    here: &str,
    title: &str,
    live: impl Into<Live>,
    content: Markup,
) -> Html<String> {
    let caller = &browser.caller;
    let (stream, every) = match live.into() {
        Live::Never => (None, None),
        Live::Stream(stream) => (Some(stream), None),
        Live::Every(seconds) => (None, Some(seconds)),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                (head(title))
                @if stream.is_some() || every.is_some() {
                    script src="/assets/idiomorph.js" defer {}
                    script src="/assets/live.js" defer {}
                }
            }
            body.app data-stream=[stream] data-every=[every] {
                a.skip href="#content" { "Skip to the content" }
                header.side {
                    strong { "photogate" }
                    // On a phone it opens and folds the rest; on a desk it is not shown.
                    input.hidden id="menu" type="checkbox";
                    label.menu for="menu" { "Menu" }
                    div.fold {
                        @if caller.organisation.is_none() { (switch(browser, here)) }
                        nav aria-label="Main" {
                            @for (heading, group) in NAVIGATION {
                                @let group: Vec<_> = places(caller, group).collect();
                                @if !group.is_empty() {
                                    p.group { (heading) }
                                    @for (address, name, _) in group {
                                        @let current = (*address == here).then_some("page");
                                        a href=(kept(browser, address)) aria-current=[current] {
                                            (name)
                                        }
                                    }
                                }
                            }
                        }
                        form method="post" action="/logout" {
                            (key(browser))
                            a.who href="/account" title=(caller.actor) { (caller.actor) }
                            small { (caller.role) }
                            button.quiet type="submit" { "Log out" }
                        }
                    }
                }
                main id="content" { (content) }
            }
        }
    };
    Html(page.into_string())
}

/// A link to another page that keeps the chosen organisation.
fn kept(browser: &Browser, path: &str) -> String {
    let (name, value) = browser.filter();
    if value.is_empty() { path.to_owned() } else { format!("{path}?{name}={value}") }
}

/// The form with which callers who see several organisations choose one.
fn switch(browser: &Browser, here: &str) -> Markup {
    let chosen = browser.organisation.as_ref();
    html! {
        form.switch method="get" action="/organisations" {
            input type="hidden" name="to" value=(here);
            label { "Organisation"
                input type="search" name="name" placeholder="All: name or ID"
                    value=(chosen.map_or("", |chosen| &chosen.name)); }
            button.quiet type="submit" { "Go" }
        }
        @if chosen.is_some() { a href=(here) { "All organisations" } }
    }
}

/// The hidden field with the session's form key, which every POST form needs.
pub(super) fn key(browser: &Browser) -> Markup {
    html! { input type="hidden" name="form_key" value=(access::form_key(&browser.session)); }
}

/// Renders an instant in a time zone (an IANA name); hovering shows the exact instant in UTC.
pub(super) fn instant(at: DateTime<Utc>, zone: &str) -> Markup {
    let local = at.with_timezone(&self::zone(zone)).format("%-d %b %Y, %H:%M %Z");
    html! { time datetime=(at.to_rfc3339()) title=(at.to_rfc3339()) { (local) } }
}

/// The number of an organisation, or that it is the staff.
pub(super) fn whose(organisation: OrganisationId) -> String {
    if organisation == OrganisationId::STAFF {
        "the staff".to_owned()
    } else {
        organisation.to_string()
    }
}

/// Renders an instant in few characters: the time of today, or the day. Hovering shows the exact
/// instant.
pub(super) fn moment(at: DateTime<Utc>, zone: &str) -> Markup {
    let zone = self::zone(zone);
    let (local, today) = (at.with_timezone(&zone), Utc::now().with_timezone(&zone));
    let form = match () {
        () if local.date_naive() == today.date_naive() => "%H:%M",
        () if (local - today).abs() < TimeDelta::days(180) => "%-d %b, %H:%M",
        () => "%-d %b %Y",
    };
    html! { time datetime=(at.to_rfc3339()) title=(at.to_rfc3339()) { (local.format(form)) } }
}

/// Looks up a time zone by its IANA name. UTC if this build does not know the name, which
/// PostgreSQL may.
pub(super) fn zone(name: &str) -> chrono_tz::Tz {
    name.parse().unwrap_or(chrono_tz::UTC)
}

/// So many photos, in words.
pub(super) fn photos(number: i64) -> String {
    if number == 1 { "1 photo".into() } else { format!("{} photos", Credits(number)) }
}

/// A rounded duration for people, as `about 5 min`.
pub(super) fn about(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round();
    match minutes {
        _ if !seconds.is_finite() => "unknown".into(),
        minutes if minutes < 1.0 => "less than a minute".into(),
        minutes if minutes < 60.0 => format!("about {minutes} min"),
        minutes if minutes < 48.0 * 60.0 => {
            format!("about {} h {} min", (minutes / 60.0).floor(), minutes % 60.0)
        }
        minutes => format!("about {} days", (minutes / 60.0 / 24.0).round()),
    }
}

/// The message about the last action, from the parameter `said`: a word, and optionally a number,
/// as `queued.12`.
pub(super) fn said(word: &str) -> Markup {
    let (what, count) = word.split_once('.').unwrap_or((word, ""));
    let count = count.parse().map(Credits).unwrap_or_default();
    let says = match what {
        "added" => "The credits were added.".to_owned(),
        "resumed" => "The credits were added. Photos that waited for them resume.".to_owned(),
        "before" => "This purchase was made before. Nothing changed.".to_owned(),
        "asked" => {
            "You have asked for approval. Nothing is charged until staff approve it.".to_owned()
        }
        "unpaid" => {
            "The purchase waits for its payment. Its credits are added when it was paid.".to_owned()
        }
        "not_bought" => {
            "This purchase has ended without credits. Buy again to ask again.".to_owned()
        }
        "approved" => "The purchase was approved, and its credits were added.".to_owned(),
        "approved_unpaid" => "The purchase was approved, and can be paid now.".to_owned(),
        "refused" => "The purchase was refused. Nothing was added or charged.".to_owned(),
        "queued" => format!("{count} photos were queued."),
        "queued_but" => format!(
            "{count} photos were queued. Queues of archived events were left out: restore these events first."
        ),
        "left_out" => {
            "Nothing was changed: the events are archived. Restore them first.".to_owned()
        }
        "queued_both" => format!("The photos were queued for both operations: {count} credits."),
        "saved" => "The settings were saved.".to_owned(),
        "finder_off" => "The page for athletes is off: its link leads nowhere.".to_owned(),
        "finder_link" => {
            "The page for athletes is open to whoever has its link (see below).".to_owned()
        }
        "finder_public" => "The page for athletes is open to everybody (see below).".to_owned(),
        "finder_replaced" => {
            "The page for athletes has a new link (see below). The old one leads nowhere."
                .to_owned()
        }
        "erased" => "The person was erased from the findings.".to_owned(),
        "numbers_corrected" => "The numbers were corrected.".to_owned(),
        "turn_corrected" => "The turn was corrected.".to_owned(),
        "taken_back" => "The correction was taken back.".to_owned(),
        "held" if count.0 == 1 => "The queue is held: its photos are not claimed.".to_owned(),
        "held" => format!("{count} queues are held: their photos are not claimed."),
        "lifted" if count.0 == 1 => "The queue is not held any more.".to_owned(),
        "lifted" => format!("{count} queues are not held any more."),
        "nothing" => "Nothing was changed: there was nothing to do any more.".to_owned(),
        "scheduled" => "The photos are scheduled.".to_owned(),
        "cancelled" => format!("The run was cancelled: {count} photos were taken back."),
        "first" => format!("{count} photos go first now."),
        "undone" => "It was undone.".to_owned(),
        "unscheduled" => "The schedule was cancelled.".to_owned(),
        _ => return html! {},
    };
    html! { p.notice.good role="status" { (says) } }
}

/// The address to return to after an action: `back` if it is the page `path` with any query,
/// otherwise `path`. `word` is the message to show there (see [`said`]).
pub(super) fn back_to(path: &str, back: &str, word: &str) -> String {
    let ours = back.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('?'));
    let back = if ours { back } else { path };
    match (word, back.contains('?')) {
        ("", _) => back.to_owned(),
        (word, true) => format!("{back}&said={word}"),
        (word, false) => format!("{back}?said={word}"),
    }
}

/// A duration in one or two units, as `3 min 05 s`.
pub(super) fn age(age: TimeDelta) -> String {
    let seconds = age.num_seconds().max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Renders a rate in photos a second; a dash if it is 0.
pub(super) fn rate(rate: f64) -> Markup {
    html! { @if rate > 0.0 { (format!("{rate:.1}")) } @else { "—" } }
}

/// A number with thousands separators.
pub(super) fn grouped<N: TryInto<i64>>(number: N) -> Credits {
    Credits(number.try_into().unwrap_or(i64::MAX))
}

/// Formats a change in credits: an increase has a plus sign.
pub(super) fn signed(credits: Credits) -> String {
    if credits.0 > 0 { format!("+{credits}") } else { credits.to_string() }
}

/// A labelled select field.
pub(super) fn choice(label: &str, name: &str, options: &[(&str, &str)], chosen: &str) -> Markup {
    html! {
        label { (label)
            select name=(name) {
                @for (value, text) in options {
                    option value=(value) selected[*value == chosen] { (text) }
                }
            }
        }
    }
}

/// Deserializes a number from a form field. An empty field is `None`.
pub(super) fn number<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(from)?;
    match text.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// The first instant of a day in a time zone, moved by `later` days. An empty `day` is `None`.
pub(super) fn begin_of(
    day: &str,
    zone: &str,
    later: i64,
) -> Result<Option<DateTime<Utc>>, Problem> {
    if day.is_empty() {
        return Ok(None);
    }
    let bad = || Problem::invalid("from", "the day must look like 2026-11-23");
    let day: NaiveDate = day.parse().map_err(|_| bad())?;
    let day = day.checked_add_signed(TimeDelta::days(later)).ok_or_else(bad)?;
    let zone = self::zone(zone);
    let midnight = day.and_hms_opt(0, 0, 0).ok_or_else(bad)?;
    // Where a clock change skips midnight, the day begins an hour later.
    let begin = midnight.and_local_timezone(zone).earliest();
    let begin =
        begin.or_else(|| (midnight + TimeDelta::hours(1)).and_local_timezone(zone).earliest());
    Ok(begin.map(|begin| begin.to_utc()))
}
