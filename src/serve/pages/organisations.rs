//! The list of organisations, for callers who see several. Staff begin here: it says what waits for
//! somebody, and leads to the page of each organisation. For others, choosing one leads back to the
//! page they came from.

use axum::{
    extract::State,
    response::{IntoResponse, Redirect},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    PageOrFile, layout,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    access::Role,
    catalog::organisations::overview::{self, Overview, Sort, Standing, Which},
    changes::alerts,
    commands::MAY_CHANGE_ORGANISATIONS,
    ids::OrganisationId,
    ledger::{credits::Credits, past_checks},
    serve::{Service, authentication::Browser, input::Query},
};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// A part of the name, or the organisation's number.
    #[serde(default)]
    name: String,
    /// The page to return to with the chosen organisation.
    #[serde(default)]
    to: String,
    /// `credits`: only those whose photos wait for credits.
    #[serde(default)]
    needs: String,
    #[serde(default)]
    sort: Sort,
    #[serde(default)]
    format: Format,
}

/// Organisations on the page; to find more, people search.
const PAGES: Pages = Pages(200);

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(&[Role::Operator, Role::Finance, Role::Staff])?;
    let name = asked.name.trim();
    let needs_credits = asked.needs == "credits";
    let which =
        Which { own: browser.caller.organisation, text: name, needs_credits, sort: asked.sort };
    let mut db = service.database.acquire().await?;
    let found = overview::list(&mut db, which, PAGES.rows(asked.format)).await?;
    let may_change = MAY_CHANGE_ORGANISATIONS.contains(&browser.caller.role);
    let to = destination(&browser, &asked.to, may_change);
    let leads = |id: OrganisationId| match to {
        Some(to) => format!("{to}?organisation={id}"),
        None => format!("/organisations/{id}"),
    };
    if let ([only], false) = (found.as_slice(), name.is_empty() || asked.format == Format::Csv) {
        return Ok(Redirect::to(&leads(only.id)).into_response());
    }
    let view = View {
        path: "/organisations",
        filters: vec![
            ("name", asked.name.clone()),
            ("to", asked.to.clone()),
            ("needs", asked.needs.clone()),
        ],
        sort: asked.sort.code(),
    };
    let table = table(view, &leads);
    if asked.format == Format::Csv {
        return table.as_file("organisations", &found);
    }
    let (found, more) = PAGES.of(found, |found| found.id.to_string());
    let content = html! {
        div.row.apart {
            h1 { "Organisations" }
            @if may_change { a.button href="/organisations/new" { "New organisation" } }
        }
        @if may_change { (to_do(&mut db).await?) }
        form.filters method="get" action="/organisations" {
            input type="hidden" name="to" value=(asked.to);
            label { "Name or ID" input type="search" name="name" value=(asked.name); }
            @let needs = [("", "all organisations"), ("credits", "photos wait for credits")];
            (layout::choice("Show", "needs", &needs, &asked.needs))
            button.quiet type="submit" { "Search" }
        }
        @if more.is_some() {
            p.faint { "These are the first " (found.len()) ". Search by name to find others." }
        }
        (table.on_page(&found, nothing(name, needs_credits), None))
    };
    Ok(layout::page(&browser, "/organisations", "Organisations", None, content).into_response())
}

fn nothing(name: &str, needs_credits: bool) -> &'static str {
    match (name.is_empty(), needs_credits) {
        (true, false) => "There are no organisations yet.",
        (true, true) => "No organisation has photos that wait for credits.",
        (false, _) => "No organisation has this name or ID.",
    }
}

/// The page of the navigation that the caller comes from: no redirects to other sites. `None`: the
/// page of the organisation itself.
fn destination(browser: &Browser, to: &str, may_change: bool) -> Option<&'static str> {
    let asked = layout::place(&browser.caller, to).filter(|path| *path != "/organisations");
    asked.or((!may_change).then_some("/credits"))
}

fn table<'a>(
    view: View<'a>,
    leads: &'a (impl Fn(OrganisationId) -> String + Send + Sync),
) -> Table<'a, Overview> {
    Table::new(view)
        .column(
            "Organisation",
            |found: &Overview| html! { a href=(leads(found.id)) { (found.name) } },
            |found| found.name.clone(),
        )
        .sorts("name")
        .text("ID", |found| found.id.to_string())
        .sorts("id")
        .figure(
            "Available",
            |found| html! { span.bad[found.needs_credits()] { (found.available) } },
            |found| found.available.0.to_string(),
        )
        .sorts("balance")
        .figure(
            "Photos waiting",
            |found| {
                html! {
                    @if found.waiting > 0 { (Credits(found.waiting)) } @else { "—" }
                    @if found.needs_credits() { " " span.chip.bad { "no credits" } }
                    @else if found.waiting > 0 && found.waiting_free == 0 { " " span.chip.warn { "held" } }
                }
            },
            |found| found.waiting.to_string(),
        )
        .text("Cost per credit", |found| {
            found.price.as_ref().map_or("no price".into(), ToString::to_string)
        })
        .column("Purchasing", |found| html! { (buys(found)) }, |found| buys(found).into())
        .text("Time zone", |found| found.time_zone.clone())
        .only_in_file("Photos under", |found| found.photos_under.clone())
        .actions(|found| {
            html! {
                a href={ "/events?organisation=" (found.id) }
                    aria-label={ "Events of " (found.name) } { "Events" }
            }
        })
}

/// How its people get credits.
fn buys(found: &Overview) -> &'static str {
    match (found.custom_billing, found.purchasing, found.price.is_some()) {
        (true, ..) => "custom billing",
        (false, false, _) => "disabled",
        (false, true, false) => "no price yet",
        (false, true, true) => "on",
    }
}

/// What waits for somebody of the staff, as links. It is quiet where nothing does.
async fn to_do(db: &mut sqlx::PgConnection) -> sqlx::Result<Markup> {
    let standing = overview::standing(db).await?;
    let raised = alerts::list(db, Some(OrganisationId::STAFF), None).await?;
    let checked = past_checks::latest(db, 1).await?.pop();
    let Standing { organisations, without_credits, photos, approvals, payments } = standing;
    Ok(html! {
        (super::alerts::raised(&raised))
        nav.tasks aria-label="What waits for you" {
            (stands("/organisations", organisations, "organisations", false))
            (stands("/organisations?needs=credits", without_credits, "without credits", true))
            (stands("/queues?state=no_credits", photos, "photos wait for them", true))
            (stands("/purchases", approvals, "purchases to approve", true))
            (stands("/purchases", payments, "payments to deal with", true))
            a.wrong[checked.as_ref().is_some_and(|last| last.violations > 0)] href="/finance" {
                @match &checked {
                    Some(last) if last.violations > 0 => { b { (Credits(last.violations)) } "rows are wrong in the books" },
                    Some(_) => { b { "✓" } "the books balance" },
                    None => { b { "—" } "the books were not checked yet" },
                }
            }
        }
    })
}

fn stands(to: &str, count: i64, what: &str, waits: bool) -> Markup {
    html! { a.waits[waits && count > 0] href=(to) { b { (Credits(count)) } (what) } }
}
