//! The transaction history on the credits page: its filters and its table.

use maud::{Markup, html};
use serde::Deserialize;
use sqlx::PgConnection;

use super::estimate;
use crate::{
    ids::{EventId, OrganisationId},
    ledger::history::{Kind, Movement},
    serve::{
        authentication::Browser,
        pages::{
            layout,
            table::Table,
            table_view::{FILE_MAX, Format, View},
        },
        problem::Problem,
        reads::{HistoryFilter, movements},
    },
};

/// The filters of the history, as the form sends them: fields may be empty.
#[derive(Debug, Default, Deserialize)]
pub(in crate::serve::pages) struct Asked {
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
    pub(super) said: String,
    #[serde(default)]
    pub(super) format: Format,
    #[serde(flatten)]
    pub(super) estimate: estimate::Event,
}

impl Asked {
    /// What the filters ask for; days begin in this time zone.
    pub(super) fn which(&self, zone: &str) -> Result<HistoryFilter, Problem> {
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

    /// Whether less than the newest transactions of all kinds is asked for.
    pub(super) fn narrows(&self) -> bool {
        [&self.kind, &self.event, &self.from, &self.to, &self.after]
            .iter()
            .any(|one| !one.is_empty())
    }

    /// The filters, for the addresses of the table.
    pub(super) fn filters(&self, browser: &Browser) -> Vec<(&'static str, String)> {
        vec![
            browser.filter(),
            ("kind", self.kind.clone()),
            ("event", self.event.clone()),
            ("from", self.from.clone()),
            ("to", self.to.clone()),
        ]
    }
}

/// All rows for a file. The result may have more than `FILE_MAX` rows: then the file is refused.
pub(super) async fn all(
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

const KINDS: [(&str, &str); 7] = [
    ("", "All"),
    ("usage", "Usage"),
    ("purchase", "Purchase"),
    ("admin_grant", "Admin Grant"),
    ("free_credits", "Free Credits"),
    ("refund", "Refund"),
    ("adjustment", "Adjustment"),
];

/// The form with the filters.
pub(super) fn form(asked: &Asked, organisation: OrganisationId) -> Markup {
    html! {
        form.filters method="get" action="/credits#history" {
            input type="hidden" name="organisation" value=(organisation);
            (layout::choice("Type", "kind", &KINDS, &asked.kind))
            label {
                "Event ID"
                input name="event" inputmode="numeric" size="8" value=(asked.event);
            }
            label { "From" input type="date" name="from" value=(asked.from); }
            label { "To" input type="date" name="to" value=(asked.to); }
            button.quiet type="submit" { "Filter" }
        }
    }
}

/// The table of the history.
pub(super) fn table<'a>(view: View<'a>, zone: &'a str) -> Table<'a, Movement> {
    Table::new(view)
        .column(
            "Type",
            |row: &Movement| {
                html! {
                    (row.kind.name())
                    @if let Some(run) = row.run {
                        @let which = if row.kind == Kind::Refund { "/refunds?run=" } else { "/runs/" };
                        " " a.once href={ (which) (run) } { "photos" }
                    }
                }
            },
            |row| row.kind.name().into(),
        )
        .figure(
            "Credits",
            |row| {
                html! {
                    span.good[row.credits.0 > 0].bad[row.credits.0 < 0] {
                        (layout::signed(row.credits))
                    }
                }
            },
            |row| row.credits.0.to_string(),
        )
        .number("Balance", |row| row.balance.0)
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
        .column(
            "Date",
            |row| {
                html! {
                    (layout::instant(row.at, zone))
                    @if row.growing { " " span.chip { "today so far" } }
                }
            },
            |row| row.at.to_rfc3339(),
        )
}
