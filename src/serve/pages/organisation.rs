//! The page of one organisation, for staff: its balance, what it may buy, its people and tokens, and
//! the credits that staff add.

mod grants;
mod new;
mod settings;

use axum::{extract::State, response::Html};
use maud::{Markup, html};
use serde::Deserialize;
use sqlx::PgConnection;

pub(super) use grants::{ask as ask_grant, book as book_grant};
pub(super) use new::{ask as ask_new, create};
pub(super) use settings::save;

use super::{Page, layout, paces, people, tokens};
use crate::{
    access::{self, Invitation, Person, Token},
    catalog::organisations::{self, Organisation},
    changes::alerts::{self, Alert},
    commands::MAY_CHANGE_ORGANISATIONS,
    ids::OrganisationId,
    ledger::{
        credits::{Balance, Credits},
        purchases::{self, Filter, PurchaseRequest},
        spending::{self, Spending},
    },
    queue::totals::{self, Totals},
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
        problem::Problem,
        reads::balance_of,
    },
};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    said: String,
}

/// Rows of people, tokens and purchases on the page; their own pages have all.
const ROWS: i64 = 10;

/// All that the page shows.
struct Shown {
    organisation: Organisation,
    balance: Balance,
    totals: Totals,
    left: Credits,
    purchases: Vec<PurchaseRequest>,
    spending: Option<Spending>,
    raised: Vec<Alert>,
    people: Vec<Person>,
    links: Vec<Invitation>,
    tokens: Vec<Token>,
}

impl Shown {
    async fn read(db: &mut PgConnection, organisation: Organisation) -> Result<Self, Problem> {
        let id = organisation.id;
        let waiting = Filter { organisation: Some(id), waiting: true, ..Filter::default() };
        Ok(Self {
            organisation,
            balance: balance_of(db, id).await?,
            totals: totals::totals(db, Some(id)).await?,
            left: purchases::left(db, id).await?,
            purchases: purchases::list(db, waiting, ROWS).await?,
            spending: spending::read(db, id, None).await?,
            raised: alerts::list(db, Some(id), None).await?,
            people: access::people(db, Some(id), None, ROWS).await?,
            links: access::invitations(db, Some(id), None, ROWS).await?,
            tokens: access::tokens(db, Some(id), None, ROWS).await?,
        })
    }
}

/// Reads the organisation, which the page is about from then on. Only staff see its page.
async fn about(
    service: &Service,
    browser: &mut Browser,
    id: OrganisationId,
) -> Result<Organisation, Problem> {
    browser.caller.must_be(MAY_CHANGE_ORGANISATIONS)?;
    browser.caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    let found = organisations::find(&mut db, id).await?;
    browser.organisation.clone_from(&found);
    found.ok_or_else(|| Problem::not_found(format!("organisation {id}")))
}

pub(super) async fn page(
    State(service): State<Service>,
    mut browser: Browser,
    Path(id): Path<OrganisationId>,
    Query(asked): Query<Asked>,
) -> Page {
    let organisation = about(&service, &mut browser, id).await?;
    let shown = {
        let mut db = service.database.acquire().await?;
        Shown::read(&mut db, organisation).await?
    };
    Ok(render(&browser, &shown, &asked.said))
}

fn render(browser: &Browser, shown: &Shown, said: &str) -> Html<String> {
    let organisation = &shown.organisation;
    let content = html! {
        p.crumbs { a href="/organisations" { "Organisations" } }
        h1 { (organisation.name) }
        p.faint { (identity(organisation)) }
        (notice(said, organisation))
        (super::alerts::raised(&shown.raised))
        (standing(shown))
        (ways(organisation.id))
        @if !shown.purchases.is_empty() { (waiting(&shown.purchases)) }
        @if shown.people.is_empty() && shown.tokens.is_empty() { (first_steps()) }
        h2 id="credits" { "Add or correct credits" }
        (grants::form(organisation.id, &browser.caller))
        h2 id="settings" { "Settings" }
        (settings::form(browser, organisation, shown.left))
        @if let Some(spending) = &shown.spending {
            h2 id="pace" { "Pace" }
            (paces::of_organisation(spending, browser, &format!("/organisations/{}", organisation.id)))
        }
        h2 id="people" { "People" }
        (people::short(browser, &shown.people, &shown.links))
        h2 id="tokens" { "Tokens of programs" }
        (tokens::short(browser, &shown.tokens))
    };
    layout::page(browser, "/organisations", &organisation.name, None, content)
}

fn identity(organisation: &Organisation) -> String {
    let reference = organisation.reference.as_deref();
    let own = reference.filter(|reference| !reference.starts_with(new::BY_A_FORM));
    let own = own.map(|reference| format!(" · your ID {reference}")).unwrap_or_default();
    let zone = &organisation.time_zone;
    format!("Organisation {}{own} · months of {zone}", organisation.id)
}

/// What the last action did.
fn notice(said: &str, organisation: &Organisation) -> Markup {
    let says = match said {
        "created" => format!("{} was created. {}", organisation.name, photos(organisation)),
        "was_there" => "This organisation was created before. Nothing changed.".to_owned(),
        "booked" => "The credits were booked.".to_owned(),
        "booked_before" => "These credits were booked before. Nothing changed.".to_owned(),
        other => return layout::said(other),
    };
    html! { p.notice.good role="status" { (says) } }
}

fn photos(organisation: &Organisation) -> String {
    match organisation.photos_under.as_str() {
        "" => "Its photos are wherever no other organisation's are in the store.".to_owned(),
        under => format!("Its photos are below {under} in the store."),
    }
}

fn standing(shown: &Shown) -> Markup {
    let (balance, totals) = (&shown.balance, &shown.totals);
    let short = totals.no_credits > 0 && balance.available.0 == 0;
    html! {
        div.strip {
            div { "Available" b.bad[short] { (balance.available) } }
            div { "Reserved" b { (balance.reserved) } }
            div { "Spent" b { (balance.spent) } }
            div { "Photos waiting" b { (Credits(totals.waiting)) } }
            @if totals.waiting_held > 0 { div { "of them held" b.warn { (Credits(totals.waiting_held)) } } }
            div { "Can be bought this month" b {
                @if shown.organisation.sells_at().is_some() { (shown.left) } @else { "—" }
            } }
        }
        @if short {
            p.notice.bad { "Its photos wait for credits. They resume when credits are added." }
        }
    }
}

/// The other pages, with this organisation chosen.
fn ways(id: OrganisationId) -> Markup {
    html! {
        nav.chips aria-label="Pages of this organisation" {
            @for (path, name) in [
                ("/credits", "Credits"), ("/spending", "Spending"), ("/events", "Events"),
                ("/queues", "Queues"), ("/failures", "Failures"), ("/refunds", "Refunds"),
                ("/statements", "Statements"), ("/purchases", "Approvals"), ("/alerts", "Alerts"),
                ("/webhooks", "Webhooks"), ("/audit-log", "Audit log"),
            ] {
                a.chip href={ (path) "?organisation=" (id) } { (name) }
            }
        }
    }
}

fn waiting(purchases: &[PurchaseRequest]) -> Markup {
    html! {
        h2 { "Purchases that wait" }
        ul.plain { @for one in purchases { li {
            strong { (one.credits) } " credits for " (one.amount) " " (one.price.currency)
            ", asked for by " (one.actor)
            @if let Some(what) = one.waits_for { ", waits for " (what.name()) ". " }
            a href={ "/purchases?organisation=" (one.organisation) } { "Decide" }
        } } }
    }
}

fn first_steps() -> Markup {
    html! {
        div.panel {
            strong { "Next" }
            ol {
                li { a href="#credits" { "Grant credits to try it with" } ", or set a price below." }
                li { a href="#people" { "Invite an organiser" }
                    ": organisers buy credits, queue photos and invite their colleagues." }
                li { a href="#tokens" { "Make a token" } " for the program that uploads photos." }
            }
        }
    }
}
