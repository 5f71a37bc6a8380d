//! The credits page: the balance, usage, history, and buying credits.

use std::collections::BTreeMap;

use axum::{
    extract::State,
    response::{IntoResponse, Redirect},
};
use maud::{Markup, html};
use serde::Deserialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    Form, Page, PageOrFile, confirm, layout,
    table::{FILE_MAX, Format, Table, View},
};
use crate::commands::{Addition, MAY_BUY, Twin};
use crate::{
    access::Role,
    catalog::organisations::{self, Price},
    ids::{EventId, OrganisationId},
    ledger::{
        credits::{self, Balance, Credits},
        days::{self, Day},
        history::{Kind, Movement},
        months::{self, Month},
        top_up::TopUpKind,
    },
    queue::totals,
    serve::{
        Service,
        caller::Browser,
        input::{LIMIT_MAX, Query},
        live::{self, Live, Of},
        problem::Problem,
        reads::{HistoryFilter, movements},
    },
};

/// The filters of the history, as the form sends them: fields may be empty.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    event: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    after: String,
    #[serde(default)]
    said: String,
    #[serde(default)]
    format: Format,
}

impl Asked {
    fn which(&self, zone: &str) -> Result<HistoryFilter, Problem> {
        let kind: Option<Kind> = match self.kind.as_str() {
            "" => None,
            kind => Some(
                serde_json::from_value(kind.into())
                    .map_err(|_| Problem::invalid("kind", "unknown type"))?,
            ),
        };
        let event = match self.event.trim() {
            "" => None,
            event => Some(EventId(
                event
                    .parse()
                    .map_err(|_| Problem::invalid("event", "the event must be a number"))?,
            )),
        };
        Ok(HistoryFilter {
            kind,
            event,
            since: layout::begin_of(&self.from, zone, 0)?,
            before: layout::begin_of(&self.to, zone, 1)?,
            after: Some(self.after.clone()),
            limit: None,
        })
    }

    fn filters(&self, browser: &Browser) -> Vec<(&'static str, String)> {
        vec![
            browser.filter(),
            ("kind", self.kind.clone()),
            ("event", self.event.clone()),
            ("from", self.from.clone()),
            ("to", self.to.clone()),
        ]
    }
}

const MAY_LOOK: &[Role] = &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];
pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(MAY_LOOK)?;
    let Some(organisation) = browser.organisation.as_ref() else {
        return Ok(Redirect::to("/organisations?to=/credits").into_response());
    };
    let (id, zone) = (organisation.id, browser.zone());
    let view = View { path: "/credits", filters: asked.filters(&browser), sort: "" };
    let table = table(view, zone);
    let mut which = asked.which(zone)?;
    let mut db = service.database.acquire().await?;
    if asked.format == Format::Csv {
        which.limit = Some(LIMIT_MAX);
        let all = all(&mut db, id, which).await?;
        return table.as_file(&format!("credits-{id}"), &all);
    }
    let balance = balance_of(&mut db, id).await?;
    let totals = totals::totals(&mut db, Some(id)).await?;
    let months = months::latest(&mut db, id, 3).await?;
    let mut used = Vec::new();
    for month in &months {
        used.push(days::days(&mut db, id, month.month, 31).await?);
    }
    let history = movements(&mut db, id, &which).await?;
    let may_buy = organisation.price.is_some() && MAY_BUY.contains(&browser.caller.role);
    let content = html! {
        h1 { "Credits" @if browser.caller.organisation.is_none() { " · " (organisation.name) } }
        (layout::said(&asked.said))
        div.row.apart {
            div {
                div.faint { "Available Credits" }
                div.big data-live="available" { (balance.available) }
                div.faint {
                    span data-live="reserved" { (balance.reserved) } " reserved for photos in progress"
                    @if let Some(lasts) = lasts(&balance, totals.rate, &used, zone) {
                        " · lasts " (lasts)
                    }
                }
                div.faint { "Shared by all events. Credits never expire." }
            }
            @if may_buy { (add_form(id)) }
            @else if organisation.price.is_none() {
                p.notice { "Contact support to add credits." }
            }
        }
        @if totals.no_credits > 0 && balance.available.0 == 0 {
            p.notice {
                (Credits(totals.waiting - totals.waiting_held))
                " photos wait. They resume automatically when credits are added."
            }
        }
        @if let Some(price) = &organisation.price {
            details {
                summary { "Cost per credit ••••• (show or hide)" }
                p {
                    "One credit costs " strong { (price) }
                    ". A photo costs one credit for each operation."
                }
            }
        }
        h2 { "Monthly Usage Summary" }
        div.cards { @for (month, used) in months.iter().zip(&used) { (card(month, used)) } }
        h2 id="history" { "Transaction History" }
        (filters(&asked, id))
        (table.on_page(
            &history.items,
            "No transactions match. Add credits and queue photos, or choose another filter.",
            history.next.as_ref(),
        ))
    };
    let stream = Some(format!("/credits/live?organisation={id}"));
    Ok(layout::page(&browser, "/credits", "Credits", stream, content).into_response())
}

async fn balance_of(db: &mut PgConnection, id: OrganisationId) -> Result<Balance, Problem> {
    let balance = credits::balance(db, id).await?;
    balance.ok_or_else(|| Problem::not_found(format!("organisation {id}")))
}

/// All rows for a file. The result may have more than `FILE_MAX` rows: then the file is refused.
async fn all(
    db: &mut PgConnection,
    id: OrganisationId,
    mut which: HistoryFilter,
) -> Result<Vec<Movement>, Problem> {
    let mut all = Vec::new();
    loop {
        let page = movements(db, id, &which).await?;
        all.extend(page.items);
        which.after = page.next;
        if which.after.is_none() || i64::try_from(all.len()).unwrap_or(i64::MAX) > FILE_MAX {
            return Ok(all);
        }
    }
}

/// How long the balance lasts, at the present rate, or else at the average of the days with usage
/// among the last seven.
fn lasts(balance: &Balance, rate: f64, used: &[Vec<Day>], zone: &str) -> Option<String> {
    let available = f64::from(i32::try_from(balance.available.0).ok()?);
    if available > 0.0 && rate > 0.0 {
        return Some(format!("{} at the present rate", layout::about(available / rate)));
    }
    let today = chrono::Utc::now().with_timezone(&layout::zone(zone)).date_naive();
    // Each month has 31 days of data, which may reach into the next month: the map drops doubles.
    let days: BTreeMap<_, _> = used.iter().flatten().map(|day| (day.day, day.usage.0)).collect();
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

fn add_form(organisation: OrganisationId) -> Markup {
    html! {
        details.add {
            summary.button { "Add Credits" }
            form method="get" action="/credits/add" {
                input type="hidden" name="organisation" value=(organisation);
                // The idempotency key: a form that is sent twice buys once.
                input type="hidden" name="once" value=(Uuid::now_v7());
                label {
                    "How many credits?"
                    input type="number" name="credits" min="1" max="1000000000" step="1" required;
                }
                p { button type="submit" { "Continue" } }
            }
        }
    }
}

/// The card of a month, with a bar for each day. The current month has a border and a badge.
fn card(month: &Month, used: &[Day]) -> Markup {
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
                dd.good[month.net.0 > 0].bad[month.net.0 < 0] { (signed(month.net)) }
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

pub(super) fn signed(credits: Credits) -> String {
    if credits.0 > 0 { format!("+{credits}") } else { credits.to_string() }
}

const KINDS: [(&str, &str); 7] = [
    ("", "All"),
    ("usage", "Usage"),
    ("purchase", "Purchase"),
    ("admin_grant", "Admin Grant"),
    ("free_credits", "Free Credits"),
    ("refund", "Refund"),
    ("adjustment", "Adjustment"),
];

fn filters(asked: &Asked, organisation: OrganisationId) -> Markup {
    html! {
        form.filters method="get" action="/credits#history" {
            input type="hidden" name="organisation" value=(organisation);
            (layout::choice("Type", "kind", &KINDS, &asked.kind))
            label { "Event ID" input name="event" inputmode="numeric" size="8" value=(asked.event); }
            label { "From" input type="date" name="from" value=(asked.from); }
            label { "To" input type="date" name="to" value=(asked.to); }
            button.quiet type="submit" { "Filter" }
        }
    }
}

fn table<'a>(view: View<'a>, zone: &'a str) -> Table<'a, Movement> {
    Table::new(view)
        .column(
            "Type",
            |row: &Movement| {
                html! {
                    (row.kind.name())
                    @if let (Kind::Refund, Some(run)) = (row.kind, row.run) {
                        " " a href={ "/refunds?run=" (run) } { "show photos" }
                    }
                }
            },
            |row| row.kind.name().into(),
        )
        .figure(
            "Credits",
            |row| {
                html! {
                    span.good[row.credits.0 > 0].bad[row.credits.0 < 0] { (signed(row.credits)) }
                }
            },
            |row| row.credits.0.to_string(),
        )
        .column(
            "Event",
            |row| {
                html! { @if let Some(event) = row.event {
                    a href={ "/events/" (event) } { (row.event_name.as_deref().unwrap_or("—")) }
                    @if let Some(operation) = row.operation { " " span.faint { (operation) } }
                } @else { "—" } }
            },
            |row| row.event_name.clone().unwrap_or_default(),
        )
        .figure(
            "Event ID",
            |row| html! { @match row.event { Some(event) => (event), None => "—" } },
            |row| row.event.map(|event| event.to_string()).unwrap_or_default(),
        )
        .only_in_file("Operation", |row| {
            row.operation.map(|operation| operation.code().to_owned()).unwrap_or_default()
        })
        .text("User", |row| row.actor.clone())
        .only_in_file("Note", |row| row.note.clone().unwrap_or_default())
        .instant("Date", zone, |row| Some(row.at))
}

#[derive(Debug, Deserialize)]
pub(super) struct Add {
    organisation: OrganisationId,
    credits: Credits,
    once: String,
    /// The price of one credit that the confirmation page showed.
    price: Option<String>,
}

impl Add {
    fn check(&self, browser: &Browser) -> Result<(), Problem> {
        browser.caller.must_be(MAY_BUY)?;
        browser.caller.must_see(self.organisation)?;
        if (1..=1_000_000_000).contains(&self.credits.0) {
            Ok(())
        } else {
            Err(Problem::invalid("credits", "enter a number from 1 to 1,000,000,000"))
        }
    }
}

/// Asks for confirmation of a purchase: the credits, the price, and the new balance.
pub(super) async fn ask(
    State(service): State<Service>,
    browser: Browser,
    Query(add): Query<Add>,
) -> Page {
    add.check(&browser)?;
    let id = add.organisation;
    let mut db = service.database.acquire().await?;
    let balance = balance_of(&mut db, id).await?;
    let price = organisations::find(&mut db, id).await?.and_then(|found| found.price);
    let price = price.ok_or_else(|| {
        Problem::conflict("purchasing_disabled", "contact support to add credits")
    })?;
    let total = price.per_credit * rust_decimal::Decimal::from(add.credits.0);
    let says = html! {
        p {
            "Buy " strong { (add.credits) } " credits for "
            strong { (money(total)) " " (price.currency) } "."
        }
        p.faint {
            "You have " (balance.available) " credits now, and will have "
            (Credits(balance.available.0 + add.credits.0))
            ". Photos that wait for credits resume automatically."
        }
    };
    let fields = [
        ("organisation", id.to_string()),
        ("credits", add.credits.0.to_string()),
        ("once", add.once),
        ("price", price.to_string()),
    ];
    let back = format!("/credits?organisation={id}");
    let question = confirm::Question {
        title: "Add credits",
        says,
        yes: Some("Buy"),
        action: "/credits/add",
        back: &back,
        here: "/credits",
    };
    Ok(question.page(&browser, &fields))
}

/// Formats an amount with at least two decimals.
fn money(mut amount: rust_decimal::Decimal) -> rust_decimal::Decimal {
    amount = amount.normalize();
    if amount.scale() < 2 {
        amount.rescale(2);
    }
    amount
}

pub(super) async fn add(
    State(service): State<Service>,
    form: Form<Add>,
) -> Result<Redirect, Problem> {
    let (browser, add) = (form.browser, form.fields);
    add.check(&browser)?;
    let price = add.price.as_deref().unwrap_or_default().parse();
    let price: Price = price.map_err(|error| Problem::invalid("price", error))?;
    let key = format!("page-{}", add.once.chars().take(64).collect::<String>());
    let organisation = add.organisation;
    let addition = Addition {
        organisation,
        kind: TopUpKind::Purchase,
        credits: add.credits,
        note: "",
        idempotency_key: &key,
        price: Some(&price),
        twin: Twin::Waits,
    };
    let credited = service.commands.add_credits(&browser.caller, &addition).await?;
    let said = match (credited.credited, credited.resumed) {
        (false, _) => "before",
        (true, true) => "resumed",
        (true, false) => "added",
    };
    Ok(Redirect::to(&format!("/credits?organisation={organisation}&said={said}")))
}

pub(super) async fn live(
    State(service): State<Service>,
    browser: Browser,
) -> Result<Live, Problem> {
    browser.caller.must_be(MAY_LOOK)?;
    let about = browser.about();
    let about = about.ok_or_else(|| Problem::invalid("organisation", "choose one"))?;
    live::stream(service, &browser.caller, Of::Organisation(about))
}
