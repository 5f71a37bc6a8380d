//! The past checks of the books: one line and a strip of days. Only a check that found something
//! stands out.

use maud::{Markup, html};
use serde::Deserialize;
use sqlx::PgConnection;

use super::super::{
    layout,
    table::Table,
    table_view::{Pages, View},
};
use crate::ledger::{
    credits::Credits,
    past_checks::{self, Day, Reconciliation},
};

/// Days on the strip.
const DAYS: i32 = 31;
/// Checks that found something, on the page.
const WRONG_MAX: i64 = 10;
/// All checks that the page shows, folded.
const LATEST: Pages = Pages(30);

pub(super) async fn section(db: &mut PgConnection) -> sqlx::Result<Markup> {
    let days = past_checks::days(db, DAYS).await?;
    let wrong = past_checks::wrong(db, WRONG_MAX).await?;
    let latest = past_checks::latest(db, LATEST.rows(super::Format::Page)).await?;
    let (latest, _) = LATEST.of(latest, |check| check.id.to_string());
    Ok(html! {
        h2 { "Checks of the books" }
        (strip(&days))
        @if !wrong.is_empty() {
            h3 { "Checks that found something" }
            ul.plain { @for check in &wrong { li { (found(check)) } } }
        }
        @if !latest.is_empty() {
            details {
                summary { "The last " (latest.len()) " checks" }
                (table().on_page(&latest, "", None))
            }
        }
    })
}

/// A cell for each day, and the same in a sentence.
fn strip(days: &[Day]) -> Markup {
    let says = says(days);
    html! {
        svg.checks viewBox={ "0 0 " (days.len() * 10) " 24" } preserveAspectRatio="xMinYMid" role="img"
            aria-label=(says) {
            @for (at, day) in days.iter().enumerate() {
                @let title = of_day(day);
                // A day that was wrong is taller, and one without a check is a line: colour is not needed.
                @match (day.checks, day.wrong) {
                    (0, _) => rect.none x=(at * 10 + 1) y="19" width="8" height="2" { title { (title) } },
                    (_, 0) => rect x=(at * 10 + 1) y="9" width="8" height="12" { title { (title) } },
                    _ => rect.wrong x=(at * 10 + 1) y="1" width="8" height="20" { title { (title) } },
                }
            }
        }
        p.faint { (says) }
    }
}

fn says(days: &[Day]) -> String {
    let wrong: Vec<_> = days.iter().filter(|day| day.wrong > 0).map(short).collect();
    let checked = days.iter().filter(|day| day.checks > 0).count();
    let (all, right) = (days.len(), checked - wrong.len());
    let mut says = vec![format!("Last {all} days: nothing wrong on {right}")];
    if !wrong.is_empty() {
        says.push(format!("something wrong on {} ({})", wrong.len(), wrong.join(", ")));
    }
    if checked < all {
        says.push(format!("no check on {}", all - checked));
    }
    says.join(", ") + "."
}

fn short(day: &Day) -> String {
    day.day.format("%-d %b").to_string()
}

fn of_day(day: &Day) -> String {
    let what = match (day.checks, day.wrong) {
        (0, _) => "no check".to_owned(),
        (checks, 0) => format!("nothing wrong in {} checks", Credits(checks)),
        (checks, wrong) => {
            format!("{} of {} checks found something", Credits(wrong), Credits(checks))
        }
    };
    format!("{}: {what}", short(day))
}

/// What a check has found, as it is stored.
#[derive(Debug, Deserialize)]
struct Found {
    meaning: String,
    violations: i64,
    #[serde(default)]
    broken: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Row {
    what: String,
}

/// What a check has found: the rules that do not hold, in words, and the rows.
fn found(check: &Reconciliation) -> Markup {
    let broken = check.broken.clone().unwrap_or_default();
    let rules: Vec<Found> = serde_json::from_value(broken).unwrap_or_default();
    html! {
        span.chip.bad { (Credits(check.violations)) " wrong" } " "
        (layout::instant(check.started_at, "UTC"))
        @for rule in &rules {
            details {
                summary { (rule.meaning) " (" (Credits(rule.violations)) ")" }
                ul { @for row in &rule.broken { li { (row.what) } } }
            }
        }
    }
}

/// All checks, for the folded list and the file.
pub(super) fn table() -> Table<'static, Reconciliation> {
    let filters = vec![("table", "checks".into())];
    Table::new(View { path: "/finance", filters, sort: "" })
        .instant("When", "UTC", |check: &Reconciliation| Some(check.started_at))
        .column("Kind", |check| html! { (kind(check)) }, |check| check.kind.clone())
        .figure(
            "Took",
            |check| html! { (Credits(took(check))) " ms" },
            |check| took(check).to_string(),
        )
        .column(
            "Found",
            |check| {
                html! {
                    @if check.violations == 0 { "nothing wrong" }
                    @else { span.bad { (Credits(check.violations)) " wrong" } }
                }
            },
            |check| check.violations.to_string(),
        )
        .only_in_file("Broken", |check| {
            check.broken.as_ref().map(ToString::to_string).unwrap_or_default()
        })
}

fn kind(check: &Reconciliation) -> &'static str {
    if check.kind == "full" { "all of it" } else { "every minute" }
}

fn took(check: &Reconciliation) -> i64 {
    (check.ended_at - check.started_at).num_milliseconds()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: u32, checks: i64, wrong: i64) -> Day {
        let day = chrono::NaiveDate::from_ymd_opt(2026, 11, day).expect("a day");
        Day { day, checks, wrong }
    }

    #[test]
    fn the_days_are_one_sentence() {
        let days = [day(1, 0, 0), day(2, 1440, 0), day(3, 1440, 7), day(4, 3, 0)];
        let says = says(&days);
        assert_eq!(
            says,
            "Last 4 days: nothing wrong on 2, something wrong on 1 (3 Nov), no check on 1."
        );
        let strip = strip(&days).into_string();
        assert!(
            strip.contains("<title>3 Nov: 7 of 1,440 checks found something</title>"),
            "{strip}"
        );
    }
}
