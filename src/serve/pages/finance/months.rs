//! The close of a month: opening, added, used, refunded and closing of every organisation, and of
//! all together.

use axum::{extract::State, response::IntoResponse};
use chrono::{Months, NaiveDate};
use maud::{Markup, html};
use serde::Deserialize;

use super::super::{
    PageOrFile, layout,
    people::about,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    access::Role,
    ledger::{
        credits::Credits,
        month_close::{self, Amount, Close, Closes},
    },
    serve::{
        Service,
        authentication::Browser,
        input::Query,
        problem::Problem,
        reads::{a_month, month_csv},
    },
};

/// Months to choose from on the page for finance.
const LINKS: u32 = 12;
/// Organisations on the page; a file has all.
const PAGES: Pages = Pages(500);

#[derive(Debug, Default, Deserialize)]
pub(in super::super) struct Asked {
    #[serde(default)]
    month: String,
    #[serde(default)]
    format: Format,
}

/// The last months, the newest first.
pub(super) fn links(browser: &Browser) -> Markup {
    let (organisation, id) = browser.filter();
    let now = month_close::this_month();
    let months = (0..LINKS).filter_map(|back| now.checked_sub_months(Months::new(back)));
    html! {
        nav.chips aria-label="Months" {
            @for month in months {
                a.chip href={ "/finance/months?month=" (code(month)) "&" (organisation) "=" (id) } {
                    (month.format("%B %Y")) @if month == now { " (running)" }
                }
            }
        }
    }
}

fn code(month: NaiveDate) -> String {
    month.format("%Y-%m").to_string()
}

/// The month that is asked for; without one, the last that is over.
fn month(text: &str) -> Result<NaiveDate, Problem> {
    if text.trim().is_empty() {
        return Ok(month_close::last_month());
    }
    a_month(text.trim())
}

pub(in super::super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(&[Role::Finance, Role::Staff])?;
    let month = month(&asked.month)?;
    let closes = {
        let mut db = service.database.acquire().await?;
        month_close::read(&mut db, month, browser.about()).await?
    };
    let view = View {
        path: "/finance/months",
        filters: vec![browser.filter(), ("month", code(month))],
        sort: "",
    };
    if asked.format == Format::Csv {
        return month_csv(&closes);
    }
    let table = table(view, month);
    let (organisation, id) = browser.filter();
    let shown = closes.items.len().min(PAGES.0);
    let content = html! {
        p.crumbs { a href=(about(&browser, "/finance")) { "Finance" } }
        h1 { (month.format("%B %Y"))
            @if let Some(one) = &browser.organisation { " · " (one.name) } }
        form.filters method="get" action="/finance/months" {
            input type="hidden" name=(organisation) value=(id);
            label { "Month" input type="month" name="month" value=(code(month)) required; }
            button.quiet type="submit" { "Show" }
        }
        (standing(&closes))
        @if !closes.items.is_empty() { (sums(&closes)) }
        @if shown < closes.items.len() {
            p.faint { "These are the first " (shown) "; the CSV file has all." }
        }
        (table.on_page(&closes.items[..shown], "No organisation was there in this month.", None))
        p.faint {
            "A month begins and ends in the time zone of its organisation. Opening + added − used + "
            "refunded = closing. Checked: a full check of the books has passed the month's last entry, and "
            "found its entries, their sums and the links that seal them right. Workers make one a day. "
            code { "photogate ledger verify" } " also computes the hashes of the chain again."
        }
    };
    Ok(layout::page(&browser, "/finance", "Month", None, content).into_response())
}

/// Whether the month can be closed: it is over everywhere, and checked.
fn standing(closes: &Closes) -> Markup {
    let running = closes.items.iter().filter(|row| !row.is_closed).count();
    let unchecked = closes.items.iter().filter(|row| !row.is_checked).count();
    let all = closes.items.len();
    html! {
        @if all == 0 {}
        @else if running > 0 {
            p.notice { "The month still runs for " (running) " of " (all)
                " organisations. Its numbers change until it ends." }
        } @else if unchecked > 0 {
            p.notice { "The month is over. For " (unchecked) " of " (all)
                " organisations, the next full check of the books will pass it: workers make one a day." }
        } @else {
            p.notice.good { strong { "The month is closed and checked ✓" }
                " Nothing can be booked in it any more." }
        }
    }
}

fn sums(closes: &Closes) -> Markup {
    let sums = &closes.total;
    html! {
        div.strip {
            div { "Opening" b { (sums.opening) } }
            div { "Added" b { (layout::signed(sums.added)) } }
            div { "Used" b { (taken(sums.used)) } }
            div { "Refunded" b { (layout::signed(sums.refunded)) } }
            div { "Closing" b { (sums.closing) } }
            div { "Sold" b { (money(&closes.sold)) } }
        }
    }
}

/// Credits that left the balance.
fn taken(credits: Credits) -> String {
    if credits.0 > 0 { format!("−{credits}") } else { credits.to_string() }
}

fn money(sold: &[Amount]) -> String {
    if sold.is_empty() {
        return "—".to_owned();
    }
    sold.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ")
}

fn table(view: View<'_>, month: NaiveDate) -> Table<'_, Close> {
    Table::new(view)
        .column(
            "Organisation",
            move |row: &Close| html! {
                a href={ "/statements?organisation=" (row.organisation) "&month=" (code(month)) }
                    title="Statement of this month" { (row.name) }
            },
            |row| row.name.clone(),
        )
        .number("Opening", |row| row.sums.opening.0)
        .number("Added", |row| row.sums.added.0)
        .number("Used", |row| row.sums.used.0)
        .number("Refunded", |row| row.sums.refunded.0)
        .number("Closing", |row| row.sums.closing.0)
        .figure("Sold", |row| html! { (money(&row.sold)) }, |row| {
            if row.sold.is_empty() { String::new() } else { money(&row.sold) }
        })
        .column(
            "State",
            |row| html! {
                @if !row.is_closed { span.faint { "runs" } }
                @else if row.is_checked { span.good { "✓ checked" } }
                @else { span.warn { "not checked yet" } }
            },
            |row| if row.is_closed { "closed" } else { "runs" }.into(),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_read_as_it_is_written() {
        assert_eq!(month("2026-02").map(code).ok(), Some("2026-02".to_owned()));
        for wrong in ["2026", "2026-13", "1999-12", "3000-01", "today"] {
            assert!(month(wrong).is_err(), "{wrong}");
        }
        assert!(month("").is_ok());
    }
}
