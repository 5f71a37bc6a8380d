//! Tables that are shown on a page and sent as a CSV file, from the same columns.

use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::{
    layout,
    table_view::{FILE_MAX, View},
};
use crate::{
    ledger::credits::Credits,
    serve::{files, problem::Problem},
    spreadsheet,
};

type OnPage<'a, T> = Box<dyn Fn(&T) -> Markup + Send + 'a>;
type RowId<'a, T> = Box<dyn Fn(&T) -> String + Send + 'a>;
type InFile<'a, T> = Box<dyn Fn(&T) -> String + Send + 'a>;

struct Column<'a, T> {
    name: &'a str,
    is_number: bool,
    /// The code with which the table is sorted by this column. `None`: it cannot be.
    sort: Option<&'a str>,
    on_page: Option<OnPage<'a, T>>,
    in_file: Option<InFile<'a, T>>,
}

/// A table with rows of type `T`.
pub(super) struct Table<'a, T> {
    view: View<'a>,
    columns: Vec<Column<'a, T>>,
    /// The classes of the table.
    looks: &'a str,
    /// The `id` of a row, so that it is known again when the page is renewed.
    row_id: Option<RowId<'a, T>>,
}

impl<'a, T> Table<'a, T> {
    pub(super) fn new(view: View<'a>) -> Self {
        Self { view, columns: Vec::new(), looks: "cards-on-phone", row_id: None }
    }

    /// Sets the classes of the table: `dense` for low rows, `cards-on-phone` for rows that are cards
    /// where the screen is narrow.
    pub(super) fn looks(self, looks: &'a str) -> Self {
        Self { looks, ..self }
    }

    /// Gives each row an `id` of its own.
    pub(super) fn rows_are(self, id: impl Fn(&T) -> String + Send + 'a) -> Self {
        Self { row_id: Some(Box::new(id)), ..self }
    }

    /// Adds a column that only a page has.
    pub(super) fn tool(self, name: &'a str, on_page: impl Fn(&T) -> Markup + Send + 'a) -> Self {
        self.with(name, false, Some(Box::new(on_page)), None)
    }

    fn with(
        mut self,
        name: &'a str,
        is_number: bool,
        on_page: Option<OnPage<'a, T>>,
        in_file: Option<InFile<'a, T>>,
    ) -> Self {
        self.columns.push(Column { name, is_number, sort: None, on_page, in_file });
        self
    }

    /// Adds a column with markup on a page and plain text in a file.
    pub(super) fn column(
        self,
        name: &'a str,
        on_page: impl Fn(&T) -> Markup + Send + 'a,
        in_file: impl Fn(&T) -> String + Send + 'a,
    ) -> Self {
        self.with(name, false, Some(Box::new(on_page)), Some(Box::new(in_file)))
    }

    /// Adds a column with the same text on a page and in a file.
    pub(super) fn text(
        self,
        name: &'a str,
        text: impl Fn(&T) -> String + Clone + Send + 'a,
    ) -> Self {
        let shown = text.clone();
        self.column(name, move |row| html! { (shown(row)) }, text)
    }

    /// Adds a column of numbers. A page shows them in groups of three digits.
    pub(super) fn number(
        self,
        name: &'a str,
        number: impl Fn(&T) -> i64 + Clone + Send + 'a,
    ) -> Self {
        let shown = number.clone();
        self.figure(
            name,
            move |row| html! { (Credits(shown(row))) },
            move |row| number(row).to_string(),
        )
    }

    /// Adds a column of numbers that have markup on a page.
    pub(super) fn figure(
        self,
        name: &'a str,
        on_page: impl Fn(&T) -> Markup + Send + 'a,
        in_file: impl Fn(&T) -> String + Send + 'a,
    ) -> Self {
        self.with(name, true, Some(Box::new(on_page)), Some(Box::new(in_file)))
    }

    /// Adds a column of instants: on a page in this time zone, in a file in UTC (RFC 3339).
    pub(super) fn instant(
        self,
        name: &'a str,
        zone: &'a str,
        at: impl Fn(&T) -> Option<DateTime<Utc>> + Clone + Send + 'a,
    ) -> Self {
        let shown = at.clone();
        self.column(
            name,
            move |row| {
                html! { @match shown(row) {
                    Some(at) => (layout::instant(at, zone)),
                    None => "—",
                } }
            },
            move |row| at(row).map(|at| at.to_rfc3339()).unwrap_or_default(),
        )
    }

    /// As [`Table::instant`], but narrower on a page.
    pub(super) fn moment(
        self,
        name: &'a str,
        zone: &'a str,
        at: impl Fn(&T) -> Option<DateTime<Utc>> + Clone + Send + 'a,
    ) -> Self {
        let shown = at.clone();
        self.column(
            name,
            move |row| {
                html! { @match shown(row) {
                    Some(at) => (layout::moment(at, zone)),
                    None => "—",
                } }
            },
            move |row| at(row).map(|at| at.to_rfc3339()).unwrap_or_default(),
        )
    }

    /// Adds a column of links and buttons, which a file does not have.
    pub(super) fn actions(self, on_page: impl Fn(&T) -> Markup + Send + 'a) -> Self {
        self.tool("Actions", on_page)
    }

    /// Adds a column of text. If `is_known`, all rows have the same value, and only a file has the
    /// column.
    pub(super) fn unless(
        self,
        is_known: bool,
        name: &'a str,
        text: impl Fn(&T) -> String + Clone + Send + 'a,
    ) -> Self {
        if is_known { self.only_in_file(name, text) } else { self.text(name, text) }
    }

    /// Adds a column that only a file has.
    pub(super) fn only_in_file(
        self,
        name: &'a str,
        in_file: impl Fn(&T) -> String + Send + 'a,
    ) -> Self {
        self.with(name, false, None, Some(Box::new(in_file)))
    }

    /// Makes the last column sortable, with this code.
    pub(super) fn sorts(mut self, by: &'a str) -> Self {
        if let Some(column) = self.columns.last_mut() {
            column.sort = Some(by);
        }
        self
    }

    /// Renders the table and its links. Without rows, renders the text `empty` instead.
    pub(super) fn on_page(&self, rows: &[T], empty: &str, next: Option<&String>) -> Markup {
        let shown: Vec<_> = self
            .columns
            .iter()
            .filter_map(|column| Some((column, column.on_page.as_ref()?)))
            .collect();
        if rows.is_empty() {
            return html! { p.faint { (empty) } };
        }
        // A page may have several tables, and each needs a name of its own.
        let names: Vec<_> = shown.iter().take(2).map(|(column, _)| column.name).collect();
        html! {
            div.scroll tabindex="0" role="region" aria-label={ "Table: " (names.join(", ")) } { table class=(self.looks) {
                thead { tr { @for (column, _) in &shown { (self.head(column)) } } }
                tbody { @for row in rows { tr id=[self.row_id.as_ref().map(|id| id(row))] {
                    @for (column, cell) in &shown {
                        td.number[column.is_number] data-label=(column.name) { (cell(row)) }
                    }
                } } }
            } }
            (self.view.ways(next))
        }
    }

    fn head(&self, column: &Column<'_, T>) -> Markup {
        let sorted = column.sort == Some(self.view.sort);
        html! {
            th.number[column.is_number] scope="col" aria-sort=[sorted.then_some("other")] {
                @match column.sort {
                    Some(_) if sorted => { (column.name) " " span aria-hidden="true" { "•" } },
                    Some(by) => a href=(self.view.address(&[("sort", by)])) { (column.name) },
                    None if column.in_file.is_none() => span.hidden { (column.name) },
                    None => (column.name),
                }
            }
        }
    }

    /// Sends the rows as a CSV file. Cells that a spreadsheet would read as formulas get a leading
    /// apostrophe.
    pub(super) fn as_file(&self, name: &str, rows: &[T]) -> Result<Response, Problem> {
        if i64::try_from(rows.len()).map_or(true, |rows| rows > FILE_MAX) {
            return Err(Problem::too_large(format!(
                "the file would have more than {FILE_MAX} rows: set more filters"
            )));
        }
        let columns: Vec<_> = self
            .columns
            .iter()
            .filter_map(|column| Some((column.name, column.in_file.as_ref()?)))
            .collect();
        let mut writer = csv::Writer::from_writer(Vec::new());
        let names = columns.iter().map(|(name, _)| name.to_lowercase().replace([' ', '/'], "_"));
        let written = writer.write_record(names).and_then(|()| {
            rows.iter().try_for_each(|row| {
                writer.write_record(columns.iter().map(|(_, cell)| spreadsheet::plain(cell(row))))
            })
        });
        let trouble = |error: String| Problem::unavailable("csv", error);
        written.map_err(|error| trouble(error.to_string()))?;
        let bytes = writer.into_inner().map_err(|error| trouble(error.to_string()))?;
        files::download(&format!("{name}.csv"), files::CSV, bytes)
    }
}
