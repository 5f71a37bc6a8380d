//! The usage on the credits page: a card for each month, and how long the balance lasts.

use std::collections::BTreeMap;

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
        let days = days::days(db, id, month.month, 31).await?;
        used.push((month, days));
    }
    Ok(used)
}

/// How long the balance lasts, at the present rate, or else at the average of the days with usage
/// among the last seven.
pub(super) fn lasts(
    balance: &Balance,
    rate: f64,
    used: &[(Month, Vec<Day>)],
    zone: &str,
) -> Option<String> {
    let available = f64::from(i32::try_from(balance.available.0).ok()?);
    if available > 0.0 && rate > 0.0 {
        return Some(format!("{} at the present rate", layout::about(available / rate)));
    }
    let today = chrono::Utc::now().with_timezone(&layout::zone(zone)).date_naive();
    // Each month has 31 days of data, which may reach into the next month: the map drops doubles.
    let days: BTreeMap<_, _> =
        used.iter().flat_map(|(_, days)| days).map(|day| (day.day, day.usage.0)).collect();
    let days: Vec<_> = days
        .into_iter()
        .filter(|(day, usage)| {
            *usage > 0 && *day <= today && *day > today - chrono::TimeDelta::days(7)
        })
        .collect();
    let count = f64::from(i32::try_from(days.len()).ok()?);
    let sum = f64::from(i32::try_from(days.iter().map(|(_, usage)| usage).sum::<i64>()).ok()?);
    let lasts = || layout::about(86_400.0 * count * available / sum);
    (sum > 0.0 && available > 0.0).then(|| format!("{}, at the rate of the last days", lasts()))
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
