//! How an event stands, in four answers: how far it is, what it costs, what is wrong, what to do.

use maud::{Markup, html};
use uuid::Uuid;

use super::{
    bulk::{self, Chosen},
    events::percent,
    layout,
    purchase::money,
};
use crate::{
    access::Role,
    catalog::events::Event,
    commands::{MAY_BUY, MAY_ENQUEUE, MAY_HOLD, MAY_RETRY, MAY_SPEND},
    ledger::credits::Credits,
    queue::{
        failures::Group,
        status::{Queue, State},
    },
    serve::authentication::Browser,
};

/// The state of an event, as a chip with words.
pub(super) fn chip(state: State, has_photos: bool) -> Markup {
    let (kind, words) = match state {
        State::NoCredits => ("warn", "Needs credits"),
        State::Budget => ("warn", "Budget used up"),
        State::Held => ("warn", "Held"),
        State::Running => ("good", "Running"),
        State::Idle if has_photos => ("good", "Done"),
        State::Idle => ("faint", "No photos yet"),
    };
    html! { span class={ "chip state " (kind) } { (words) } }
}

/// Photos of a queue that have ended, however they did.
pub(super) fn done(queue: &Queue) -> i64 {
    queue.processed + queue.undecided + queue.duplicates + queue.failed
}

/// Photos of a queue that have not.
pub(super) fn left(queue: &Queue) -> i64 {
    queue.in_progress + queue.waiting + queue.following
}

/// An event, and all that the answers need.
pub(super) struct Standing<'a> {
    pub(super) event: &'a Event,
    pub(super) queues: &'a [Queue],
    pub(super) failures: &'a [Group],
    /// Photos of the organisation's other events that wait, where this one waits for credits.
    pub(super) elsewhere: i64,
    pub(super) browser: &'a Browser,
}

impl Standing<'_> {
    /// The four answers.
    pub(super) fn answers(&self) -> Markup {
        html! {
            section.answers aria-label="How the event stands" id="answers" {
                div.card { h2 { "How far" } (self.far()) }
                div.card { h2 { "Credits" } (self.cost()) }
                div.card { h2 { "What is wrong" } (self.wrong()) }
                div.card.todo { h2 { "What to do" } (self.todo()) }
            }
        }
    }

    fn sum(&self, count: impl Fn(&Queue) -> i64) -> i64 {
        self.queues.iter().map(count).sum()
    }

    fn far(&self) -> Markup {
        let (done, left) = (self.sum(done), self.sum(left));
        let moving = self.queues.iter().filter(|queue| !queue.is_stopped() && queue.waiting > 0);
        let eta = moving.filter_map(|queue| queue.eta_seconds);
        html! {
            div.figure { (percent(done, left)) " %" }
            p { (Credits(done)) " of " (Credits(done + left)) " done" }
            @if let Some(eta) = eta.reduce(f64::max) { p.faint { (layout::about(eta)) " left" } }
        }
    }

    /// Credits that the photos which wait need, beside those that are there.
    fn missing(&self) -> i64 {
        let needs = self.sum(|queue| queue.waiting + queue.following);
        let available = self.queues.first().map_or(0, |queue| queue.available);
        (needs - available).max(0)
    }

    fn cost(&self) -> Markup {
        // Each photo that was processed has cost one credit, and each in progress has reserved one.
        let used = self.sum(|queue| queue.processed + queue.in_progress);
        let needs = self.sum(|queue| queue.waiting + queue.following);
        let available = self.queues.first().map_or(0, |queue| queue.available);
        let price = self.browser.organisation.as_ref().and_then(|found| found.price.as_ref());
        let worth = price.filter(|price| !price.per_credit.is_zero()).map(|price| {
            let total = price.per_credit * rust_decimal::Decimal::from(used);
            format!("{} {}", money(total), price.currency)
        });
        html! {
            div.figure { (Credits(used)) " used" }
            @if let Some(worth) = worth.filter(|_| used > 0) { p.faint { (worth) " at today's price" } }
            @if needs > 0 { p { (Credits(needs)) " more to finish, " (Credits(available)) " available" } }
            @else { p.faint { (Credits(available)) " available" } }
        }
    }

    fn wrong(&self) -> Markup {
        let stopped: Vec<_> =
            self.queues.iter().filter(|queue| queue.waiting > 0 && queue.is_stopped()).collect();
        let failed = self.sum(|queue| queue.failed);
        let slow = self.queues.iter().filter_map(|queue| Some((queue, queue.kept_back()?)));
        html! {
            ul {
                @for queue in &stopped { li { (self.stopped(queue)) } }
                @for (queue, why) in slow {
                    li { "The " (Credits(queue.waiting)) " photos wait: " (why) ". "
                        a href={ "/spending?organisation=" (self.event.organisation) } { "See the pace" } }
                }
                @if failed > 0 {
                    li {
                        a href="#failures" { (Credits(failed)) " failed" }
                        @if let Some(most) = self.failures.first() {
                            ", most of them: " (most.reason.replace('_', " "))
                        }
                        ". They cost nothing."
                    }
                }
                @if stopped.is_empty() && failed == 0
                    && self.queues.iter().all(|queue| queue.kept_back().is_none()) {
                    li { "Nothing." }
                }
            }
        }
    }

    fn stopped(&self, queue: &Queue) -> Markup {
        let zone = self.browser.zone();
        html! {
            (queue.operation.name()) ": "
            @match queue.state {
                State::Held => {
                    "Held by " (queue.owner.as_deref().unwrap_or("somebody"))
                    @if let Some(note) = queue.note.as_deref().filter(|note| !note.is_empty()) {
                        " (" (note) ")"
                    }
                    @if let Some(until) = queue.until { " until " (layout::instant(until, zone)) }
                    ". A top-up does not lift the hold."
                },
                State::Budget => "The budget of this event is used up.",
                State::NoCredits if queue.available > 0 => {
                    "All " (Credits(queue.available)) " available credits are kept for other events."
                },
                State::NoCredits => {
                    "No credits"
                    @if let Some(since) = queue.since { " since " (layout::instant(since, zone)) }
                    ". " (Credits(queue.waiting)) " photos wait."
                },
                State::Running | State::Idle => {},
            }
        }
    }

    /// The one thing that helps most, with its button for those who may.
    fn todo(&self) -> Markup {
        let role = self.browser.caller.role;
        let waits =
            |state| self.queues.iter().find(|queue| queue.state == state && queue.waiting > 0);
        let worst = self.failures.first();
        let (waiting, in_progress) = (self.sum(left), self.sum(|queue| queue.in_progress));
        if let Some(queue) = waits(State::NoCredits) {
            return if queue.available > 0 {
                self.steer("See which events keep them")
            } else {
                self.top_up()
            };
        }
        if let Some(queue) = waits(State::Held) {
            return self.lift(queue, role);
        }
        if waits(State::Budget).is_some() {
            return self.steer("Change the budget");
        }
        html! {
            @if let Some(group) = worst.filter(|_| MAY_RETRY.contains(&role)) {
                form method="get" action={ "/events/" (self.event.id) "/retry" } {
                    input type="hidden" name="operation" value=(group.operation.code());
                    input type="hidden" name="reason" value=(group.reason);
                    button type="submit" { "Retry " (Credits(group.photos)) " photos" }
                }
                p.faint { "Those that failed: " (group.reason.replace('_', " ")) "." }
            } @else if waiting > 0 {
                p { "Nothing. " (Credits(waiting)) " photos are on their way"
                    @if in_progress > 0 { ", " (Credits(in_progress)) " of them in progress" } "." }
            } @else if self.sum(done) > 0 {
                p { "Nothing. All photos are done." }
            } @else if MAY_ENQUEUE.contains(&role) {
                p { "Bring photos: " a href="#process" { "Process Photos" } " below." }
            } @else { p { "Nothing. There are no photos yet." } }
        }
    }

    fn steer(&self, name: &str) -> Markup {
        html! {
            @if MAY_SPEND.contains(&self.browser.caller.role) {
                a.button href={ "/spending?organisation=" (self.event.organisation) } { (name) }
            } @else { p { "Ask an organiser to change the budgets." } }
        }
    }

    fn lift(&self, queue: &Queue, role: Role) -> Markup {
        let back = format!("/events/{}", self.event.id);
        html! {
            @match queue.hold.filter(|_| MAY_HOLD.contains(&role)) {
                Some(_) => a.button href=(bulk::address(Chosen::Lift, queue.id, &back)) {
                    "Lift the hold"
                },
                None => p { "Ask " (queue.owner.as_deref().unwrap_or("an operator")) " to lift the hold." },
            }
        }
    }

    /// The amount is filled in; the next page shows its price and asks.
    fn top_up(&self) -> Markup {
        let missing = self.missing();
        let sold =
            self.browser.organisation.as_ref().is_some_and(|found| found.sells_at().is_some());
        let may = MAY_BUY.contains(&self.browser.caller.role);
        html! {
            @if may && sold {
                (self.buy(missing, &format!("Add {} credits to finish", Credits(missing)), false))
                @if self.elsewhere > 0 {
                    p.faint { "Other events wait for " (Credits(self.elsewhere))
                        " more, and get their part of what is added." }
                    (self.buy(missing + self.elsewhere,
                        &format!("Add {} for all events", Credits(missing + self.elsewhere)), true))
                }
            } @else if may {
                p { "Contact support to add " (Credits(missing)) " credits." }
            } @else {
                p { "Ask an organiser. Add " (Credits(missing)) " credits to finish." }
            }
        }
    }

    fn buy(&self, credits: i64, name: &str, is_second: bool) -> Markup {
        html! {
            form method="get" action="/credits/add" {
                input type="hidden" name="organisation" value=(self.event.organisation);
                input type="hidden" name="event" value=(self.event.id);
                input type="hidden" name="credits" value=(credits);
                // The idempotency key: a form that is sent twice buys once.
                input type="hidden" name="once" value=(Uuid::now_v7());
                button.quiet[is_second] type="submit" { (name) }
            }
        }
    }
}
