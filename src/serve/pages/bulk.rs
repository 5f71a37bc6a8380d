//! What is done to one queue or to several at once: the page that asks, what it does, and how it is
//! taken back.

use axum::{
    extract::{RawQuery, State},
    response::Redirect,
};
use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Form, Page, layout};
use crate::{
    access::Caller,
    commands::{Bulk, BulkAct, BulkPart, BulkPlan},
    ids::{HoldId, UndoId},
    ledger::credits::Credits,
    queue::undo::{Act, OpenBulk},
    serve::{Service, authentication::Browser, problem::Problem},
};

/// What a person chose to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Chosen {
    Hold,
    Lift,
    Retry,
    NewestFirst,
}

impl Chosen {
    pub(super) const ALL: [Self; 4] = [Self::Hold, Self::Lift, Self::Retry, Self::NewestFirst];

    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Lift => "lift",
            Self::Retry => "retry",
            Self::NewestFirst => "newest_first",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hold => "Hold",
            Self::Lift => "Lift holds",
            Self::Retry => "Retry failures",
            Self::NewestFirst => "Newest run to the front",
        }
    }

    /// The act, before anybody has filled in a form.
    fn act(self) -> BulkAct {
        match self {
            Self::Hold => BulkAct::Hold { note: String::new(), until: None },
            Self::Lift => BulkAct::Lift(Vec::new()),
            Self::Retry => BulkAct::Retry,
            Self::NewestFirst => BulkAct::NewestFirst,
        }
    }

    pub(super) fn may(self, caller: &Caller) -> bool {
        self.act().roles().contains(&caller.role)
    }
}

/// The address of the page that asks about one queue.
pub(super) fn address(chosen: Chosen, queue: i64, back: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("act", chosen.code());
    query.append_pair("queue", &queue.to_string());
    query.append_pair("back", back);
    format!("/queues/bulk?{}", query.finish())
}

/// The bar with the actions for the queues that are ticked. Its boxes name it (`form="bulk"`).
pub(super) fn bar(caller: &Caller, back: &str) -> Markup {
    html! {
        form.bulk id="bulk" method="get" action="/queues/bulk" {
            input type="hidden" name="back" value=(back);
            span { "With the ticked queues:" }
            @for chosen in Chosen::ALL.into_iter().filter(|chosen| chosen.may(caller)) {
                button.quiet type="submit" name="act" value=(chosen.code()) { (chosen.name()) }
            }
        }
    }
}

/// What was done, if it cannot be taken back: otherwise [`undoable`] says it.
pub(super) fn said(word: &str, open: &[OpenBulk]) -> Markup {
    if word.contains('.') && !word.starts_with("queued_but.") && !open.is_empty() {
        html! {}
    } else {
        layout::said(word)
    }
}

/// What the caller has just done to several queues, each with a button that takes it back.
pub(super) fn undoable(open: &[OpenBulk], browser: &Browser, back: &str) -> Markup {
    html! {
        @for one in open {
            form.notice.good.row.undo id={ "undo-" (one.id) } method="post" action="/queues/undo" {
                (layout::key(browser))
                input type="hidden" name="undo" value=(one.id);
                input type="hidden" name="back" value=(back);
                span {
                    "You have " (did(one.act)) " " (queues(one.queues)) ". Until "
                    (second(one.until, browser.zone())) " this can be taken back."
                }
                button.quiet type="submit" { "Undo" }
            }
        }
    }
}

/// An instant of today, with its seconds.
fn second(at: DateTime<Utc>, zone: &str) -> Markup {
    let local = at.with_timezone(&layout::zone(zone)).format("%H:%M:%S");
    html! { time datetime=(at.to_rfc3339()) title=(at.to_rfc3339()) { (local) } }
}

fn did(act: Act) -> &'static str {
    match act {
        Act::Hold => "held",
        Act::Lift => "lifted the holds of",
        Act::Retry => "retried the failed photos of",
        Act::First => "moved the newest run to the front of",
        Act::Queue | Act::Skip | Act::Restore | Act::Cancel => "changed",
    }
}

/// So many queues, in words.
pub(super) fn queues(number: i64) -> String {
    if number == 1 { "1 queue".into() } else { format!("{} queues", Credits(number)) }
}

/// The question, as links and the bar ask it.
struct Asked {
    chosen: Option<Chosen>,
    queues: Vec<i64>,
    back: String,
}

impl Asked {
    /// Each ticked box is a parameter of its own, all of one name.
    fn read(query: &str) -> Result<Self, Problem> {
        let mut asked = Self { chosen: None, queues: Vec::new(), back: String::new() };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "act" => asked.chosen = Chosen::ALL.into_iter().find(|one| one.code() == value),
                "queue" => asked.queues.push(number(&value)?),
                "back" => asked.back = value.into_owned(),
                _ => {}
            }
        }
        asked.queues.sort_unstable();
        asked.queues.dedup();
        Ok(asked)
    }
}

fn number(text: &str) -> Result<i64, Problem> {
    text.parse().map_err(|_| Problem::invalid("queue", "a queue is a number"))
}

/// The path of the page to return to: one of ours, and the list of queues if it is none.
fn home(back: &str) -> &str {
    let path = back.split('?').next().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '/';
    let is_ours = path == "/failures" || path.starts_with("/events/") && path.chars().all(is_plain);
    if is_ours { path } else { "/queues" }
}

/// Asks for confirmation: says what will happen to how many photos. It changes nothing.
pub(super) async fn ask(
    State(service): State<Service>,
    browser: Browser,
    RawQuery(query): RawQuery,
) -> Page {
    let asked = Asked::read(&query.unwrap_or_default())?;
    let unknown = || Problem::invalid("act", "choose what to do: go back to the queues");
    let chosen = asked.chosen.ok_or_else(unknown)?;
    let back = layout::back_to(home(&asked.back), &asked.back, "");
    if asked.queues.is_empty() {
        let content = html! {
            h1 { (chosen.name()) }
            p.notice { "No queue was ticked. Tick the queues first, then choose what to do." }
            a.button.quiet href=(back) { "Back" }
        };
        return Ok(layout::page(&browser, "/queues", chosen.name(), None, content));
    }
    let bulk = Bulk { queues: asked.queues, act: chosen.act() };
    let plan = service.commands.plan_bulk(&browser.caller, &bulk).await?;
    let title = title(chosen, &plan);
    let content = html! {
        h1 { (title) }
        div.panel {
            (says(chosen, &plan))
            @if plan.queues() == 0 {
                a.button.quiet href=(back) { "Back" }
            } @else { (form(chosen, &plan, &browser, &asked.back, &back)) }
        }
        (parts(chosen, &plan))
    };
    Ok(layout::page(&browser, "/queues", &title, None, content))
}

fn title(chosen: Chosen, plan: &BulkPlan) -> String {
    let mut doing = plan.parts.iter().filter(|part| part.does);
    let number = match (doing.next(), doing.next()) {
        (Some(only), None) => format!("{}, {}", only.queue.event_name, only.queue.operation),
        _ => queues(i64::try_from(plan.queues()).unwrap_or(i64::MAX)),
    };
    match chosen {
        _ if plan.queues() == 0 => "Nothing to do".into(),
        Chosen::Hold => format!("Hold {number}?"),
        Chosen::Lift => format!("Lift the holds of {number}?"),
        Chosen::Retry => format!("Retry {}?", layout::photos(plan.photos())),
        Chosen::NewestFirst => format!("Move the newest run of {number} to the front?"),
    }
}

/// What will happen, for how many photos.
fn says(chosen: Chosen, plan: &BulkPlan) -> Markup {
    let (n, in_progress) =
        (layout::photos(plan.photos()), plan.parts.iter().filter(|part| part.does));
    let in_progress: i64 = in_progress.map(|part| part.queue.in_progress).sum();
    let left = i64::try_from(plan.parts.len() - plan.queues()).unwrap_or(i64::MAX);
    html! {
        @if plan.queues() > 0 { p { @match chosen {
            Chosen::Hold => {
                strong { (n) } " that wait are not claimed any more, even after a top-up. "
                @if in_progress > 0 { (layout::photos(in_progress)) " in progress are finished. " }
                "Nothing is charged for photos that wait."
            },
            Chosen::Lift => {
                strong { (n) } " that wait can be claimed again, at one credit each, as far as the "
                "credits last. Holds that are placed meanwhile stay."
            },
            Chosen::Retry => {
                strong { (n) } " that failed are queued again, and cost one credit each when they are "
                "processed."
            },
            Chosen::NewestFirst => {
                strong { (n) } " that were queued last are claimed before the others of their queue. "
                "Other queues keep their share."
            },
        } } }
        @for need in &plan.needs {
            @let short = Credits(need.needed.0 - need.available.0);
            p.notice[short.0 > 0] {
                (need.name) ": " strong { (need.needed) } " credits are needed, "
                (need.available) " are available."
                @if short.0 > 0 { " " (short) " photos wait until credits are added." }
            }
        }
        @if left > 0 { p.faint { (idle(chosen)) ": " (queues(left)) ". Nothing changes there." } }
    }
}

/// Why there is nothing to do in a queue.
fn idle(chosen: Chosen) -> &'static str {
    match chosen {
        Chosen::Hold => "Held already",
        Chosen::Lift => "Not held",
        Chosen::Retry => {
            "Without failed photos, of archived events, or beyond the first 10,000 photos"
        }
        Chosen::NewestFirst => "The newest photos are first already",
    }
}

fn form(chosen: Chosen, plan: &BulkPlan, browser: &Browser, from: &str, back: &str) -> Markup {
    let doing = || plan.parts.iter().filter(|part| part.does);
    let numbers: Vec<String> = doing().map(|part| part.queue.id.to_string()).collect();
    let holds: Vec<String> =
        doing().flat_map(|part| &part.holds).map(|hold| hold.id.to_string()).collect();
    html! {
        form.stacked method="post" action="/queues/bulk" {
            (layout::key(browser))
            input type="hidden" name="act" value=(chosen.code());
            input type="hidden" name="queues" value=(numbers.join(","));
            input type="hidden" name="back" value=(from);
            @if chosen == Chosen::Lift {
                input type="hidden" name="holds" value=(holds.join(","));
            }
            @if chosen == Chosen::Hold {
                label {
                    "Why? Everybody who sees the queue reads it"
                    input name="note" maxlength="1000" size="50" required autofocus;
                }
                label {
                    "For how many minutes? Leave empty to hold until somebody lifts it"
                    input type="number" name="minutes" min="1" max="525600";
                }
            }
            div.row {
                button type="submit" { (yes(chosen)) }
                a.button.quiet href=(back) { "Cancel" }
            }
        }
    }
}

fn yes(chosen: Chosen) -> &'static str {
    match chosen {
        Chosen::Hold => "Hold now",
        Chosen::Lift => "Lift now",
        Chosen::Retry => "Retry now",
        Chosen::NewestFirst => "Move now",
    }
}

/// The queues, one by one.
fn parts(chosen: Chosen, plan: &BulkPlan) -> Markup {
    html! {
        table.cards-on-phone {
            thead { tr {
                th scope="col" { "Queue" } th scope="col" { "Organisation" }
                th.number scope="col" { "Photos" } th scope="col" { "What happens" }
            } }
            tbody { @for part in &plan.parts { tr {
                td data-label="Queue" {
                    a href={ "/events/" (part.queue.event) } { (part.queue.event_name) } " "
                    span.faint { "· " (part.queue.operation) }
                }
                td data-label="Organisation" { (part.queue.organisation_name) }
                td.number data-label="Photos" { (Credits(part.photos)) }
                td data-label="What happens" { (happens(chosen, part)) }
            } } }
        }
    }
}

fn happens(chosen: Chosen, part: &BulkPart) -> Markup {
    html! {
        @if part.left_out.is_some() { "It is left out: its event is archived. Restore it first." }
        @else if !part.does { span.faint { "Nothing" } }
        @else { @match chosen {
            Chosen::Hold => "It is held.",
            Chosen::Lift => { @for hold in &part.holds {
                div {
                    "The hold of " (hold.owner)
                    @if !hold.note.is_empty() { " “" (hold.note) "”" } " is lifted."
                }
            } },
            Chosen::Retry => {
                "Its failed photos are queued again."
                @if part.photos < part.queue.failed {
                    " " (Credits(part.queue.failed - part.photos)) " stay: do this again for them."
                }
            },
            Chosen::NewestFirst => { @if let Some(newest) = part.newest {
                "Run " (newest.run) " goes before " (layout::photos(newest.ahead)) "."
            } },
        } }
    }
}

/// The answer, as the form sends it.
#[derive(Debug, Deserialize)]
pub(super) struct Sure {
    act: Chosen,
    queues: String,
    #[serde(default)]
    holds: String,
    #[serde(default)]
    note: String,
    #[serde(default)]
    minutes: String,
    #[serde(default)]
    back: String,
}

impl Sure {
    fn act(&self) -> Result<BulkAct, Problem> {
        Ok(match self.act {
            Chosen::Hold => {
                let until = match self.minutes.trim() {
                    "" => None,
                    minutes => {
                        let minutes =
                            minutes.parse::<i64>().ok().filter(|n| (1..=525_600).contains(n));
                        let wrong = || Problem::invalid("minutes", "enter 1 to 525600 minutes");
                        Some(Utc::now() + TimeDelta::minutes(minutes.ok_or_else(wrong)?))
                    }
                };
                BulkAct::Hold { note: self.note.trim().to_owned(), until }
            }
            Chosen::Lift => BulkAct::Lift(numbers(&self.holds)?.into_iter().map(HoldId).collect()),
            Chosen::Retry | Chosen::NewestFirst => self.act.act(),
        })
    }
}

/// Numbers that are joined by commas.
fn numbers(text: &str) -> Result<Vec<i64>, Problem> {
    text.split(',').filter(|one| !one.is_empty()).map(number).collect()
}

/// Does what was asked, and returns to where it was asked.
pub(super) async fn apply(
    State(service): State<Service>,
    form: Form<Sure>,
) -> Result<Redirect, Problem> {
    let sure = form.fields;
    let bulk = Bulk { queues: numbers(&sure.queues)?, act: sure.act()? };
    let done = service.commands.bulk(&form.browser.caller, &bulk).await?;
    let is_left_out = !done.left_out.is_empty();
    let word = match sure.act {
        _ if done.queues == 0 && is_left_out => "left_out".to_owned(),
        _ if done.queues == 0 => "nothing".to_owned(),
        Chosen::Retry if is_left_out => format!("queued_but.{}", done.photos),
        Chosen::Hold => format!("held.{}", done.queues),
        Chosen::Lift => format!("lifted.{}", done.queues),
        Chosen::Retry => format!("queued.{}", done.photos),
        Chosen::NewestFirst => format!("first.{}", done.photos),
    };
    Ok(Redirect::to(&layout::back_to(home(&sure.back), &sure.back, &word)))
}

/// What to take back, and where to return to.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    undo: UndoId,
    #[serde(default)]
    back: String,
}

/// Takes back what was done to several queues.
pub(super) async fn undo(
    State(service): State<Service>,
    form: Form<Which>,
) -> Result<Redirect, Problem> {
    let which = form.fields;
    service.commands.undo_bulk(&form.browser.caller, which.undo).await?;
    Ok(Redirect::to(&layout::back_to(home(&which.back), &which.back, "undone")))
}
