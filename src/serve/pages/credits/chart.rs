//! The chart on the credits page: what was used each day, the balance, and when it reaches zero.

use chrono::{NaiveDate, TimeDelta};
use maud::{Markup, html};

use super::usage::Lasts;
use crate::ledger::{credits::Credits, days::Day};

/// Days before today in the chart.
pub(super) const BEFORE: i32 = 29;
/// Days after today, for the forecast.
const AFTER: i32 = 14;
/// The drawing is so high. A day is 10 wide.
const HIGH: f64 = 100.0;

/// Draws the days, of which the last is today, and the forecast.
pub(super) fn draw(days: &[Day], lasts: Option<&Lasts>) -> Markup {
    let Some(today) = days.last() else { return html! {} };
    let most_used = days.iter().map(|day| day.usage.0 + day.refunded.0).max().unwrap_or(0).max(1);
    let most_left = days.iter().map(|day| day.closing.0).max().unwrap_or(0).max(1);
    let bar = |credits: i64| HIGH * ratio(credits.max(0), most_used);
    let level = |credits: f64| HIGH - HIGH * credits / ratio(most_left, 1);
    let line: Vec<String> = days
        .iter()
        .enumerate()
        .map(|(at, day)| format!("{},{:.1}", 10 * at + 4, level(ratio(day.closing.0, 1))))
        .collect();
    let forecast = lasts.map(|lasts| {
        let from = 10.0 * f64::from(BEFORE) + 4.0;
        let days = lasts.days.min(f64::from(AFTER));
        let left = ratio(today.closing.0, 1) * (1.0 - days / lasts.days.max(0.001));
        let (high, low) = (level(ratio(today.closing.0, 1)), level(left));
        format!("{from},{high:.1} {:.1},{low:.1}", from + 10.0 * days)
    });
    let first = today.day - TimeDelta::days(i64::from(BEFORE));
    html! {
        figure.graph {
            figcaption.row {
                span.key.used { "Used a day, at most " (Credits(most_used)) }
                span.key.back { "Of these, refunded" }
                span.key.left { "Balance, at most " (Credits(most_left)) }
                @if forecast.is_some() { span.key.forecast { "Forecast" } }
            }
            svg viewBox={ "0 0 " (10 * (BEFORE + 1 + AFTER)) " 100" } preserveAspectRatio="none"
                role="img" aria-label={
                    "The balance fell or rose to " (today.closing) " credits. In the last "
                    (BEFORE + 1) " days at most " (Credits(most_used)) " credits were used in a day."
                } {
                @for (at, day) in days.iter().enumerate() {
                    @let (high, back) = (bar(day.usage.0 + day.refunded.0), bar(day.refunded.0));
                    rect.used x=(10 * at) width="8" y=(two(HIGH - high)) height=(two(high)) {
                        title {
                            (shown(day.day)) ": " (day.usage) " used, " (day.refunded)
                            " refunded, " (day.closing) " left"
                        }
                    }
                    @if back > 0.0 {
                        rect.back x=(10 * at) width="8" y=(two(HIGH - back)) height=(two(back)) {}
                    }
                }
                polyline.balance points=(line.join(" ")) {}
                @if let Some(points) = &forecast { polyline.forecast points=(points) {} }
            }
            div.row.apart.faint {
                span { (shown(first)) }
                span { "today" }
                span { (shown(today.day + TimeDelta::days(i64::from(AFTER)))) }
            }
        }
    }
}

fn shown(day: NaiveDate) -> String {
    day.format("%-d %b").to_string()
}

fn two(number: f64) -> String {
    format!("{number:.1}")
}

/// A quotient of credits. A chart needs no more than what an f64 has.
#[expect(clippy::cast_precision_loss, reason = "a chart is drawn to a tenth of a percent")]
fn ratio(credits: i64, of: i64) -> f64 {
    credits as f64 / of as f64
}
