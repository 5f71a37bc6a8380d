//! The page of purchases above the limit of the month, and the questions before one is approved or
//! refused.

use axum::{
    extract::State,
    response::{IntoResponse, Redirect},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Form, Page, PageOrFile, confirm, layout,
    login::Nothing,
    purchase::money,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    access::Role,
    commands::{MAY_BUY, MAY_GRANT, MAY_SEE_PURCHASES},
    ids::PurchaseId,
    ledger::purchases::{self, Filter, PurchaseRequest, State as Decided},
    serve::{Service, authentication::Browser, input::Path, input::Query, problem::Problem},
};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    after: Option<i64>,
    #[serde(default)]
    said: String,
    #[serde(default)]
    format: Format,
}

const PAGES: Pages = Pages(50);

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(MAY_SEE_PURCHASES)?;
    let filter = Filter { organisation: browser.about(), state: None, below: asked.after };
    let mut db = service.database.acquire().await?;
    let found = purchases::list(&mut db, filter, PAGES.rows(asked.format)).await?;
    let role = browser.caller.role;
    let view = View { path: "/purchases", filters: vec![browser.filter()], sort: "" };
    let table = Table::new(view)
        .instant("Asked", browser.zone(), |row: &PurchaseRequest| Some(row.asked_at))
        .unless(browser.about().is_some(), "Organisation", |row| row.organisation_name.clone())
        .number("Credits", |row| row.credits.0)
        .text("Cost", cost)
        .text("Who", |row| row.actor.clone())
        .text("Note", |row| row.note.clone())
        .column("State", |row| state(row, browser.zone()), |row| row.state.name().into())
        .only_in_file("Decided by", |row| row.decided_by.clone().unwrap_or_default())
        .actions(|row| actions(row, role));
    if asked.format == Format::Csv {
        return table.as_file("purchases", &found);
    }
    let (found, next) = PAGES.of(found, |row| row.id.to_string());
    let content = html! {
        h1 { "Approvals" }
        (layout::said(&asked.said))
        p.faint {
            "Purchases above an organisation's limit of the month wait here until staff approve "
            "them. A purchase that nobody decides expires after 14 days."
        }
        (table.on_page(&found, "No purchase has needed an approval.", next.as_ref()))
    };
    Ok(layout::page(&browser, "/purchases", "Approvals", None, content).into_response())
}

fn cost(request: &PurchaseRequest) -> String {
    let total = request.price.per_credit * rust_decimal::Decimal::from(request.credits.0);
    format!("{} {}", money(total), request.price.currency)
}

/// What became of a request, and by whom.
fn state(request: &PurchaseRequest, zone: &str) -> Markup {
    html! {
        @match request.state {
            Decided::Pending => { "waits until " (layout::instant(request.expires_at, zone)) },
            Decided::Approved | Decided::Refused | Decided::Expired => (request.state.name()),
        }
        @if let (Some(by), Decided::Approved | Decided::Refused) =
            (&request.decided_by, request.state) { div.faint { "by " (by) } }
    }
}

fn actions(request: &PurchaseRequest, role: Role) -> Markup {
    let what = format!("{} credits for {}", request.credits, request.organisation_name);
    html! {
        @if request.state == Decided::Pending {
            @if MAY_GRANT.contains(&role) {
                a href={ "/purchases/" (request.id) "/approve" }
                    aria-label={ "Approve " (what) } { "Approve" } " "
            }
            @if MAY_BUY.contains(&role) {
                a href={ "/purchases/" (request.id) "/refuse" }
                    aria-label={ (refusal(role)) " " (what) } { (refusal(role)) }
            }
        }
    }
}

/// An organisation withdraws what staff refuse.
fn refusal(role: Role) -> &'static str {
    match role {
        Role::Organiser => "Withdraw",
        Role::Pipeline | Role::Operator | Role::Finance | Role::Staff => "Refuse",
    }
}

pub(super) async fn ask_approve(
    State(service): State<Service>,
    browser: Browser,
    Path(id): Path<PurchaseId>,
) -> Page {
    browser.caller.must_be(MAY_GRANT)?;
    ask(service, browser, id, "Approve the purchase?", "Approve", "approve").await
}

pub(super) async fn ask_refuse(
    State(service): State<Service>,
    browser: Browser,
    Path(id): Path<PurchaseId>,
) -> Page {
    browser.caller.must_be(MAY_BUY)?;
    let yes = refusal(browser.caller.role);
    let title = format!("{yes} the purchase?");
    ask(service, browser, id, &title, yes, "refuse").await
}

async fn ask(
    service: Service,
    browser: Browser,
    id: PurchaseId,
    title: &str,
    yes: &str,
    action: &str,
) -> Page {
    let mut db = service.database.acquire().await?;
    let request = purchases::find(&mut db, id).await?;
    let request = request
        .filter(|request| browser.caller.must_see(request.organisation).is_ok())
        .ok_or_else(|| Problem::not_found(format!("purchase request {id}")))?;
    let pending = request.state == Decided::Pending;
    let says = html! {
        p {
            strong { (request.organisation_name) } " wants to buy "
            strong { (request.credits) } " credits for " strong { (cost(&request)) }
            " (" (request.price) " a credit). " (request.actor) " asked for it"
            @if !request.note.is_empty() { ": “" (request.note) "”" } "."
        }
        @if pending {
            @if action == "approve" {
                p.faint {
                    "The credits are added at once, and photos that wait for them resume. "
                    "They are invoiced like any purchase."
                }
            }
        } @else {
            p.notice { "Nothing is left to decide: it is " (request.state.name()) "." }
        }
    };
    let question = confirm::Question {
        title,
        says,
        yes: pending.then_some(yes),
        action: &format!("/purchases/{id}/{action}"),
        back: "/purchases",
        here: "/purchases",
    };
    Ok(question.page(&browser, &[]))
}

pub(super) async fn approve(
    State(service): State<Service>,
    Path(id): Path<PurchaseId>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    service.commands.approve_purchase(&form.browser.caller, id).await?;
    Ok(Redirect::to("/purchases?said=approved"))
}

pub(super) async fn refuse(
    State(service): State<Service>,
    Path(id): Path<PurchaseId>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    service.commands.refuse_purchase(&form.browser.caller, id).await?;
    Ok(Redirect::to("/purchases?said=refused"))
}
