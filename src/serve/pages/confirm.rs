//! The page that asks before an action that costs credits or deletes data. It says what the action
//! will do; loading the page changes nothing, only its button does.

use axum::response::Html;
use maud::{Markup, html};

use super::layout;
use crate::serve::authentication::Browser;

/// A page that asks for confirmation.
pub(super) struct Question<'a> {
    pub(super) title: &'a str,
    pub(super) says: Markup,
    /// The name of the button. `None`: there is nothing to do, and the page only leads back.
    pub(super) yes: Option<&'a str>,
    /// The address to which the button posts.
    pub(super) action: &'a str,
    /// The address of "Cancel" and "Back".
    pub(super) back: &'a str,
    /// The address that is marked in the navigation.
    pub(super) here: &'a str,
}

impl Question<'_> {
    /// Renders the page. Its button sends `fields`.
    pub(super) fn page(&self, browser: &Browser, fields: &[(&str, String)]) -> Html<String> {
        let content = html! {
            h1 { (self.title) }
            div.panel {
                (self.says)
                @match self.yes {
                    Some(yes) => form method="post" action=(self.action) {
                        (layout::key(browser))
                        @for (name, value) in fields {
                            input type="hidden" name=(name) value=(value);
                        }
                        div.row {
                            button type="submit" { (yes) }
                            a.button.quiet href=(self.back) { "Cancel" }
                        }
                    },
                    None => a.button.quiet href=(self.back) { "Back" },
                }
            }
        };
        layout::page(browser, self.here, self.title, None, content)
    }
}
