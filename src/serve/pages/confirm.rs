//! Whatever costs or destroys is asked once more, with what it will do: by a page that may be loaded again, whose button does it.

use axum::response::Html;
use maud::{Markup, html};

use super::layout;
use crate::serve::caller::Browser;

/// A question.
pub(super) struct Question<'a> {
    pub(super) title: &'a str,
    pub(super) says: Markup,
    /// The button's name; without, there is nothing to do but to go back.
    pub(super) yes: Option<&'a str>,
    /// What does it.
    pub(super) action: &'a str,
    /// Where from.
    pub(super) back: &'a str,
    /// The place in the navigation.
    pub(super) here: &'a str,
}

impl Question<'_> {
    /// The question, and the button that sends these fields.
    pub(super) fn page(&self, browser: &Browser, fields: &[(&str, String)]) -> Html<String> {
        let content = html! {
            h1 { (self.title) }
            div.panel {
                (self.says)
                @match self.yes {
                    Some(yes) => form method="post" action=(self.action) {
                        (layout::key(browser))
                        @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
                        div.row { button type="submit" { (yes) } a.button.quiet href=(self.back) { "Cancel" } }
                    },
                    None => a.button.quiet href=(self.back) { "Back" },
                }
            }
        };
        layout::page(browser, self.here, self.title, None, content)
    }
}
