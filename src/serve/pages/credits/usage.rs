//! The usage on the credits page: a card for each month, and how long the balance lasts.

use chrono::NaiveDate;
use maud::{Markup, html};
use sqlx::PgConnection;

use crate::{
    ids::OrganisationId,
    ledger::{
        credits::Balance,
        days::{self, Day},
        months::{self, Month},
    },
    serve::pages::layout,
};

/// Reads the current month and the three before it, newest first, each with its days.
pub(super) async fn latest(
    db: &mut PgConnection,
    id: OrganisationId,
) -> sqlx::Result<Vec<(Month, Vec<Day>)>> {
    let mut used = Vec::new();
    for month in months::latest(db, id, 3).await? {
        // Before the first movement there is nothing to see.
        if !month.current && month.transactions == 0 && month.opening.0 == 0 {
            continue;
        }
        let days = days::days(db, id, month.month, 31).await?;
        used.push((month, days));
    }
    Ok(used)
}

/// How long the balance lasts, and on what this is based.
pub(super) struct Lasts {
    pub(super) days: f64,
    at: &'static str,
}

impl Lasts {
    /// At the present rate in photos per second, or else at the average of the last seven of these
    /// days, of which the last is today. `None`: nothing is used, or nothing is left.
    pub(super) fn of(balance: &Balance, rate: f64, days: &[Day]) -> Option<Self> {
        let available = f64::from(i32::try_from(balance.available.0).ok()?);
        if available > 0.0 && rate > 0.0 {
            return Some(Self { days: available / rate / 86_400.0, at: "at the present rate" });
        }
        let week: Vec<_> = days.iter().rev().take(7).map(|day| day.usage.0.max(0)).collect();
        let used = f64::from(i32::try_from(week.iter().sum::<i64>()).ok()?);
        let a_day = used / f64::from(i32::try_from(week.len()).ok()?);
        (a_day > 0.0 && available > 0.0)
            .then(|| Self { days: available / a_day, at: "at the average of the last 7 days" })
    }

    /// As a sentence, with the day on which nothing is left.
    pub(super) fn says(&self, today: NaiveDate) -> String {
        #[expect(clippy::cast_possible_truncation, reason = "it is at most ten years")]
        let whole = self.days.min(3650.0) as i64;
        let lasts = layout::about(86_400.0 * self.days);
        match whole {
            0 => format!("They last {lasts} {}.", self.at),
            whole => {
                let zero = today + chrono::TimeDelta::days(whole);
                format!("They last {lasts} {}, until {}.", self.at, zero.format("%-d %b %Y"))
            }
        }
    }
}

/// The card of a month, with a bar for each day. The current month has a border and a badge.
pub(super) fn card(month: &Month, used: &[Day]) -> Markup {
    let most = used.iter().map(|day| day.usage.0).max().unwrap_or(0).max(1);
    let in_month: Vec<_> = used
        .iter()
        .filter(|day| {
            day.day.format("%Y-%m").to_string() == month.month.format("%Y-%m").to_string()
        })
        .collect();
    html! {
        section.card.current[month.current] {
            h3 {
                (month.month.format("%b %Y"))
                @if month.current { span.badge { "Current" } }
            }
            dl {
                dt { "Usage" } dd { (month.usage) }
                dt { "Credits Added" } dd { (month.added) }
                dt { "Net" }
                dd.good[month.net.0 > 0].bad[month.net.0 < 0] { (layout::signed(month.net)) }
                dt { "Transaction Count" } dd { (month.transactions) }
            }
            svg.chart viewBox="0 0 310 40" preserveAspectRatio="none" role="img"
                aria-label={ "Usage by day, at most " (most) " credits a day" } {
                @for (at, day) in in_month.iter().enumerate() {
                    @let height = 40 * day.usage.0.max(0) / most;
                    rect x=(10 * at) y=(40 - height) width="8" height=(height) {
                        title { (day.day) ": " (day.usage) }
                    }
                }
            }
        }
    }
}
