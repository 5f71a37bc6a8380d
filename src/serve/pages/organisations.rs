//! The list of organisations, for callers who see several. Choosing one leads back to the page they
//! came from.

use axum::{
    extract::State,
    response::{IntoResponse, Redirect},
};
use maud::html;
use serde::{Deserialize, Serialize};

use super::{
    PageOrFile, layout,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    access::Role,
    catalog::organisations::{self, Organisation},
    serve::{Service, authentication::Browser, input::Query},
};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sort {
    #[default]
    Name,
    Id,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// A part of the name, or the organisation's number.
    #[serde(default)]
    name: String,
    /// The page to return to with the chosen organisation.
    #[serde(default)]
    to: String,
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
    let own = browser.caller.organisation;
    let name = asked.name.trim();
    let most = PAGES.rows(asked.format);
    let mut db = service.database.acquire().await?;
    let found = organisations::search(&mut db, own, name, asked.sort == Sort::Name, most).await?;
    // Only to pages of the navigation: no redirects to other sites.
    let to = layout::place(&browser.caller, &asked.to)
        .filter(|path| *path != "/organisations")
        .unwrap_or("/credits");
    if let ([only], false) = (found.as_slice(), name.is_empty() || asked.format == Format::Csv) {
        let to = Redirect::to(&format!("{to}?organisation={}", only.id));
        return Ok(to.into_response());
    }
    let view = View {
        path: "/organisations",
        filters: vec![("name", asked.name.clone()), ("to", asked.to.clone())],
        sort: if asked.sort == Sort::Name { "name" } else { "id" },
    };
    let table = Table::new(view)
        .column(
            "Organisation",
            |found: &Organisation| {
                html! {
                    a href={ (to) "?organisation=" (found.id) } { (found.name) }
                }
            },
            |found| found.name.clone(),
        )
        .sorts("name")
        .text("ID", |found| found.id.to_string())
        .sorts("id")
        .text("Time zone", |found| found.time_zone.clone())
        .text("Cost per credit", |found| {
            found.price.as_ref().map_or("not for sale".into(), ToString::to_string)
        })
        .actions(|found| html! { a href={ "/events?organisation=" (found.id) } { "Events" } });
    if asked.format == Format::Csv {
        return table.as_file("organisations", &found);
    }
    let (found, more) = PAGES.of(found, |found| found.id.to_string());
    let content = html! {
        h1 { "Organisations" }
        form.filters method="get" action="/organisations" {
            input type="hidden" name="to" value=(asked.to);
            label { "Name or ID" input type="search" name="name" value=(asked.name); }
            button.quiet type="submit" { "Search" }
        }
        @if more.is_some() {
            p.faint { "These are the first " (found.len()) ". Search by name to find others." }
        }
        (table.on_page(&found, "No organisation has this name or ID.", None))
    };
    Ok(layout::page(&browser, "/organisations", "Organisations", None, content).into_response())
}
