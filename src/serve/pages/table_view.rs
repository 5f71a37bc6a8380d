//! Which rows of a table are shown: filters, order, page, or the whole table as a file. The query
//! string holds all of it.

use maud::{Markup, html};
use serde::Deserialize;

/// The form in which a table is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    #[default]
    Page,
    Csv,
}

/// The number of rows on a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pages(pub(super) usize);

impl Pages {
    /// The number of rows to read: for a page one more than it shows, which tells whether there is
    /// a next page; for a file one more than it may have.
    pub(super) fn rows(self, format: Format) -> i64 {
        match format {
            Format::Page => i64::try_from(self.0 + 1).unwrap_or(i64::MAX),
            Format::Csv => FILE_MAX + 1,
        }
    }

    /// Cuts the rows to a page. Also returns the cursor of the next page, if there is one.
    pub(super) fn of<T>(
        self,
        mut rows: Vec<T>,
        place: impl Fn(&T) -> String,
    ) -> (Vec<T>, Option<String>) {
        let more = rows.len() > self.0;
        rows.truncate(self.0);
        let next = rows.last().filter(|_| more).map(place);
        (rows, next)
    }
}

/// Maximum number of rows of a file.
pub(super) const FILE_MAX: i64 = 100_000;

/// The address of a table, with its filters and order.
#[derive(Debug, Default)]
pub(super) struct View<'a> {
    pub(super) path: &'a str,
    pub(super) filters: Vec<(&'a str, String)>,
    /// The code of the column that it is sorted by; may be empty.
    pub(super) sort: &'a str,
}

impl View<'_> {
    /// The address of the table with its filters and these parameters.
    pub(super) fn address(&self, more: &[(&str, &str)]) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in self.filters.iter().filter(|(_, value)| !value.is_empty()) {
            query.append_pair(name, value);
        }
        for (name, value) in more.iter().filter(|(_, value)| !value.is_empty()) {
            query.append_pair(name, value);
        }
        format!("{}?{}", self.path, query.finish())
    }

    /// The address of the table with its filters and order.
    pub(super) fn here(&self) -> String {
        self.address(&[("sort", self.sort)])
    }

    /// The links to the next page and to the CSV file.
    pub(super) fn ways(&self, next: Option<&String>) -> Markup {
        html! {
            div.row.ways {
                @if let Some(next) = next {
                    @let after = self.address(&[("sort", self.sort), ("after", next)]);
                    a.button.quiet rel="next" href=(after) { "Next page" }
                }
                a download href=(self.address(&[("sort", self.sort), ("format", "csv")])) { "CSV" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_what_is_seen() {
        let filters = vec![("state", "held".into()), ("name", String::new())];
        let view = View { path: "/queues", filters, sort: "since" };
        assert_eq!(view.address(&[("sort", "waiting")]), "/queues?state=held&sort=waiting");
    }
}
