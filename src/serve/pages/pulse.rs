//! Pictures of how many photos were settled lately: one line for a queue, a graph for all of them.

use maud::{Markup, html};

use crate::{
    ledger::credits::Credits,
    queue::pulse::{Pulse, SLOTS},
};

/// The width of a slot, and the gap after it.
const STEP: usize = 4;
const BAR: usize = 3;

/// A small picture of one queue's last three hours. A dash if nothing was settled.
pub(super) fn line(pulse: Option<&Pulse>) -> Markup {
    html! { @match pulse.filter(|pulse| pulse.total() > 0) {
        Some(pulse) => (picture(pulse, "pulse line", 20)),
        None => span.faint { "—" },
    } }
}

/// The graph of all queues, with what it says in words.
pub(super) fn graph(pulse: &Pulse) -> Markup {
    html! {
        figure.pulse-graph id="pulse" {
            figcaption {
                "Last 3 hours: " strong { (Credits(pulse.total())) } " photos finished, "
                strong.bad[pulse.total_failed() > 0] { (Credits(pulse.total_failed())) }
                " of them failed"
            }
            (picture(pulse, "pulse", 56))
            div.row.apart.faint { span { "3 hours ago" } span { "now" } }
        }
    }
}

/// A bar for each slot. The photos that failed are the lower part of it, in another colour; the
/// title says the numbers.
fn picture(pulse: &Pulse, class: &str, height: i64) -> Markup {
    let most = pulse.most().max(1);
    // What is not nothing is seen, however little it is.
    let tall = |photos: i64| if photos == 0 { 0 } else { (photos * height / most).max(2) };
    let bars = pulse.settled.iter().zip(&pulse.failed).enumerate();
    html! {
        svg class=(class) role="img" preserveAspectRatio="none"
            viewBox={ "0 0 " (SLOTS * STEP) " " (height) } {
            title {
                "Last 3 hours, in steps of 5 minutes: " (Credits(pulse.total())) " photos finished, "
                (Credits(pulse.total_failed())) " of them failed"
            }
            @for (at, (settled, failed)) in bars {
                @let (all, bad) = (tall(*settled), tall(*failed));
                @if all > 0 {
                    rect x=(at * STEP) y=(height - all) width=(BAR) height=(all) {}
                }
                @if bad > 0 {
                    rect.failed x=(at * STEP) y=(height - bad) width=(BAR) height=(bad) {}
                }
            }
        }
    }
}
