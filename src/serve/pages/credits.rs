//! The credits page: the balance, usage, and history.

mod chart;
mod estimate;
mod history;
pub(super) mod run;
mod usage;

use axum::{
    extract::State,
    response::{IntoResponse, Redirect},
};
use chrono::{TimeDelta, Utc};
use maud::{Markup, html};

use self::{history::Asked, usage::Lasts};
use super::{
    PageOrFile, auto_top_up, layout, purchase,
    table_view::{Format, View},
};
use crate::{
    access::Role,
    catalog::organisations::{Organisation, Price},
    changes::alerts,
    commands::MAY_BUY,
    config::Support,
    ledger::{
        credits::{Balance, Credits},
        days,
    },
    queue::totals::{self, Totals},
    serve::{
        Service,
        authentication::Browser,
        input::{LIMIT_MAX, Query},
        live::{self, Live, Of},
        problem::Problem,
        reads::{balance_of, movements},
    },
};

/// The roles that see an account.
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
    let table = history::table(view, zone);
    let mut which = asked.which(zone)?;
    let mut db = service.database.acquire().await?;
    if asked.format == Format::Csv {
        which.limit = Some(LIMIT_MAX);
        let all = history::all(&mut db, id, which).await?;
        return table.as_file(&format!("credits-{id}"), &all);
    }
    let balance = balance_of(&mut db, id).await?;
    let totals = totals::totals(&mut db, Some(id)).await?;
    let raised = alerts::list(&mut db, Some(id), None).await?;
    let used = usage::latest(&mut db, id).await?;
    let today = Utc::now().with_timezone(&layout::zone(&organisation.time_zone)).date_naive();
    let first = today - TimeDelta::days(chart::BEFORE.into());
    let days = days::days(&mut db, id, first, chart::BEFORE + 1).await?;
    let lasts = Lasts::of(&balance, totals.rate, &days);
    let automatic = auto_top_up::section(&mut db, organisation, &browser).await?;
    let found = movements(&mut db, id, &which).await?;
    let may_buy = organisation.sells_at().is_some() && MAY_BUY.contains(&browser.caller.role);
    let support = service.config.support.as_ref();
    let content = html! {
        h1 { "Credits" @if browser.caller.organisation.is_none() { " · " (organisation.name) } }
        (layout::said(&asked.said))
        (super::alerts::raised(&raised))
        section.card.balance aria-label="Balance" {
            (standing(&balance, &totals, lasts.as_ref().map(|lasts| lasts.says(today))))
            div.do {
                @if may_buy { (purchase::form(id)) } @else { (no_purchases(organisation, support)) }
                @if let Some(price) = &organisation.price { (cost(price)) }
            }
            p.faint {
                "Credits are shared by all events. They never expire, cannot be transferred to "
                "another organisation, and are generally not refundable. The credit of a photo that "
                "fails comes back by itself."
            }
        }
        (chart::draw(&days, lasts.as_ref()))
        p.row {
            a href={ "/spending?organisation=" (id) } { "Which photos get the credits?" }
        }
        (estimate::section(&asked.estimate, organisation, &balance, may_buy))
        (automatic)
        h2 { "Monthly Usage Summary" }
        div.cards.months tabindex="0" role="region" aria-label="Months" { @for (month, days) in &used { (usage::card(month, days)) } }
        section.history aria-label="Transaction History" {
            h2 id="history" { "Transaction History" }
            // On a phone the page is short; whoever has filtered or turned the page wants to see them.
            label.on-phone {
                input type="checkbox" id="transactions" checked[asked.narrows()]; "Show the transactions"
            }
            (history::form(&asked, id))
            (table.on_page(
                &found.items,
                "No transactions match. Add credits and queue photos, or choose another filter.",
                found.next.as_ref(),
            ))
        }
        (help(support))
    };
    let stream = Some(format!("/credits/live?organisation={id}"));
    Ok(layout::page(&browser, "/credits", "Credits", stream, content).into_response())
}

/// The balance: what is available, what is reserved, how long it lasts, and what is queued.
fn standing(balance: &Balance, totals: &Totals, lasts: Option<String>) -> Markup {
    let queued = Credits(totals.waiting - totals.waiting_held);
    let after = Credits(balance.available.0 - queued.0);
    html! {
        div {
            div.faint { "Available Credits" }
            div.big.bad[balance.available.0 == 0] data-live="available" { (balance.available) }
            div.faint {
                span data-live="reserved" { (balance.reserved) }
                " reserved for photos in progress"
            }
            @if let Some(lasts) = lasts { p { (lasts) } }
            @if queued.0 > 0 && after.0 >= 0 {
                p { (queued) " photos are queued. After them, " (after) " credits are left." }
            } @else if queued.0 > 0 {
                p.warn {
                    (queued) " photos wait, and " strong { (Credits(-after.0)) }
                    " credits are missing for them. They resume automatically when credits are added."
                }
            }
        }
    }
}

/// The price of a credit, which is only shown to whoever wants to see it.
fn cost(price: &Price) -> Markup {
    html! {
        details.cost {
            summary { "Cost per credit: " span.veiled { "•••• " span.do { "Show" } }
                span.unveiled { (price) " " span.do { "Hide" } } }
            p.faint { "A photo costs one credit for each operation." }
        }
    }
}

/// Why nothing can be bought here, and whom to ask.
fn no_purchases(organisation: &Organisation, support: Option<&Support>) -> Markup {
    html! {
        p.notice {
            @if organisation.custom_billing { "This organisation has custom billing. " }
            @else if organisation.sells_at().is_none() {
                "Purchasing is disabled for this organisation. "
            } @else { "Your role cannot buy credits. " }
            (contact(support)) " to add credits."
        }
    }
}

/// "Contact Support", with its address if the settings have one.
fn contact(support: Option<&Support>) -> Markup {
    html! {
        @match support {
            Some(support) => a href=(support.href()) { "Contact Support" },
            None => "Contact Support",
        }
    }
}

fn help(support: Option<&Support>) -> Markup {
    html! {
        section.card aria-label="Help" {
            h2 { "Need Help?" }
            p { "Questions about credits, prices or refunds? We are happy to help." }
            div.row {
                @if let Some(support) = support {
                    a.button href=(support.href()) { "Contact Support" }
                }
                a.button.quiet href="/events" { "Manage Events" }
            }
        }
    }
}

pub(super) async fn live(
    State(service): State<Service>,
    browser: Browser,
) -> Result<Live, Problem> {
    browser.caller.must_be(MAY_LOOK)?;
    let about = browser.about();
    let about = about.ok_or_else(|| Problem::invalid("organisation", "choose one"))?;
    live::stream(service, browser.authenticated(), Of::Organisation(about))
}
