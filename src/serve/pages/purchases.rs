//! The page of purchases that wait for approval or payment, with the payments that finance must deal
//! with, and the questions before one is approved or refused.

use axum::{
    extract::State,
    response::{IntoResponse, Redirect},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Form, Page, PageOrFile, confirm, layout,
    login::Nothing,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    access::Role,
    commands::{MAY_BUY, MAY_GRANT, MAY_SEE_PURCHASES},
    ids::{PaymentId, PurchaseId},
    ledger::{
        payments::{self, Payment},
        purchases::{self, Filter, PurchaseRequest, State as Decided, WaitsFor},
    },
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
    let organisation = browser.about();
    let filter = Filter { organisation, below: asked.after, ..Filter::default() };
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
    let filter = payments::Filter { organisation, open: true, ..payments::Filter::default() };
    let kept = payments::list(&mut db, filter, KEPT_MAX).await?;
    let (found, next) = PAGES.of(found, |row| row.id.to_string());
    let content = html! {
        h1 { "Approvals" }
        (layout::said(&asked.said))
        p.faint {
            "Purchases above an organisation's limit of the month wait here until staff approve "
            "them, and purchases that must be paid until they are paid. A purchase that nobody "
            "decides or pays expires after 14 days."
        }
        (table.on_page(&found, "No purchase has needed an approval or a payment.", next.as_ref()))
        @if !kept.is_empty() { (payments_kept(&kept, &browser)) }
    };
    Ok(layout::page(&browser, "/purchases", "Approvals", None, content).into_response())
}

fn cost(request: &PurchaseRequest) -> String {
    format!("{} {}", request.amount, request.price.currency)
}

/// What became of a request, and by whom.
fn state(request: &PurchaseRequest, zone: &str) -> Markup {
    html! {
        @match request.waits_for {
            Some(what) => {
                "waits for " (what.name()) " until " (layout::instant(request.expires_at, zone))
            },
            None => (request.state.name()),
        }
        @if let Some(address) = &request.pay_at { " " a href=(address) { "Pay" } }
        @if let (Some(by), Decided::Approved | Decided::Refused) =
            (&request.decided_by, request.state) { div.faint { "by " (by) } }
        @if let (Some(by), Decided::Unpaid | Decided::Paid) =
            (&request.approved_by, request.state) { div.faint { "approved by " (by) } }
    }
}

/// Payments that finance looks at, on one page.
const KEPT_MAX: i64 = 100;

/// The payments that did not become credits: somebody gets money back, or credits.
fn payments_kept(kept: &[Payment], browser: &Browser) -> Markup {
    let may_settle = MAY_GRANT.contains(&browser.caller.role);
    html! {
        h2 { "Payments for finance" }
        p.faint {
            "These payments have arrived and did not become credits. Finance pays them back at the "
            "provider, or staff add the credits."
        }
        div.scroll tabindex="0" role="region" aria-label="Payments for finance" { table.cards-on-phone {
            thead { tr {
                th { "Received" } th { "Provider" } th { "Reference" } th { "Purchase" }
                th.number { "Amount" } th { "Reason" } @if may_settle { th { "Dealt with" } }
            } }
            tbody { @for payment in kept { tr {
                td data-label="Received" { (layout::instant(payment.received_at, browser.zone())) }
                td data-label="Provider" { (payment.provider) }
                td data-label="Reference" { (payment.reference) }
                td data-label="Purchase" { (payment.purchase) }
                td.number data-label="Amount" { (payment.amount) " (smallest units of " (payment.currency) ")" }
                td data-label="Reason" { @if let Some(why) = payment.kept { (why.says()) } }
                @if may_settle { td data-label="Dealt with" {
                    form.row method="post" action={ "/payments/" (payment.id) "/settle" } {
                        (layout::key(browser))
                        label { "What was done" input name="note" maxlength="1000" required; }
                        button.quiet type="submit" { "Dealt with" }
                    }
                } }
            } } }
        } }
    }
}

fn actions(request: &PurchaseRequest, role: Role) -> Markup {
    let what = format!("{} credits for {}", request.credits, request.organisation_name);
    html! {
        @if let Some(waits_for) = request.waits_for {
            @if waits_for == WaitsFor::Approval && MAY_GRANT.contains(&role) {
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
    let approves = action == "approve";
    let pending = match request.waits_for {
        Some(WaitsFor::Approval) => true,
        Some(WaitsFor::Payment) => !approves,
        None => false,
    };
    let pays = payments::provider(&mut db).await?.is_some();
    let says = html! {
        p {
            strong { (request.organisation_name) } " wants to buy "
            strong { (request.credits) } " credits for " strong { (cost(&request)) }
            " (" (request.price) " a credit). " (request.actor) " asked for it"
            @if !request.note.is_empty() { ": “" (request.note) "”" } "."
        }
        @if pending {
            @if approves && pays {
                p.faint { "It can be paid then. The credits are added when the payment has arrived." }
            } @else if approves {
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
    let request = service.commands.approve_purchase(&form.browser.caller, id).await?;
    let unpaid = request.waits_for == Some(WaitsFor::Payment);
    let said = if unpaid { "approved_unpaid" } else { "approved" };
    Ok(Redirect::to(&format!("/purchases?said={said}")))
}

pub(super) async fn refuse(
    State(service): State<Service>,
    Path(id): Path<PurchaseId>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    service.commands.refuse_purchase(&form.browser.caller, id).await?;
    Ok(Redirect::to("/purchases?said=refused"))
}

#[derive(Debug, Deserialize)]
pub(super) struct Settled {
    note: String,
}

pub(super) async fn settle(
    State(service): State<Service>,
    Path(payment): Path<PaymentId>,
    form: Form<Settled>,
) -> Result<Redirect, Problem> {
    let (caller, note) = (form.browser.caller, form.fields.note);
    service.commands.settle_payment(&caller, payment, &note).await?;
    Ok(Redirect::to("/purchases?said=saved"))
}
