//! The credits page: the balance, usage, and history.

mod history;
pub(super) mod run;
mod usage;

use axum::{
    extract::State,
    response::{IntoResponse, Redirect},
};
use maud::{Markup, html};

use self::history::Asked;
use super::{
    PageOrFile, auto_top_up, layout, purchase,
    table_view::{Format, View},
};
use crate::{
    access::Role,
    catalog::organisations::Price,
    changes::alerts,
    commands::MAY_BUY,
    ledger::credits::{Balance, Credits},
    queue::totals,
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
    let automatic = auto_top_up::section(&mut db, organisation, &browser).await?;
    let found = movements(&mut db, id, &which).await?;
    let may_buy = organisation.price.is_some() && MAY_BUY.contains(&browser.caller.role);
    let content = html! {
        h1 { "Credits" @if browser.caller.organisation.is_none() { " · " (organisation.name) } }
        (layout::said(&asked.said))
        (super::alerts::raised(&raised))
        div.row.apart {
            (standing(&balance, usage::lasts(&balance, totals.rate, &used, zone)))
            @if may_buy { (purchase::form(id)) }
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
        p { a href={ "/spending?organisation=" (id) } { "Which photos get the credits?" } }
        @if let Some(price) = &organisation.price { (cost(price)) }
        (automatic)
        h2 { "Monthly Usage Summary" }
        div.cards { @for (month, days) in &used { (usage::card(month, days)) } }
        h2 id="history" { "Transaction History" }
        (history::form(&asked, id))
        (table.on_page(
            &found.items,
            "No transactions match. Add credits and queue photos, or choose another filter.",
            found.next.as_ref(),
        ))
    };
    let stream = Some(format!("/credits/live?organisation={id}"));
    Ok(layout::page(&browser, "/credits", "Credits", stream, content).into_response())
}

/// The balance: what is available, what is reserved, and how long it lasts.
fn standing(balance: &Balance, lasts: Option<String>) -> Markup {
    html! {
        div {
            div.faint { "Available Credits" }
            div.big data-live="available" { (balance.available) }
            div.faint {
                span data-live="reserved" { (balance.reserved) }
                " reserved for photos in progress"
                @if let Some(lasts) = lasts { " · lasts " (lasts) }
            }
            div.faint { "Shared by all events. Credits never expire." }
        }
    }
}

fn cost(price: &Price) -> Markup {
    html! {
        details {
            summary { "Cost per credit ••••• (show or hide)" }
            p {
                "One credit costs " strong { (price) }
                ". A photo costs one credit for each operation."
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
