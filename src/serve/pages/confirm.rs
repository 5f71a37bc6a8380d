//! Whatever costs is asked once more, with what it will do: by a page that may be loaded again, whose button does it.

use axum::response::Html;
use maud::{Markup, html};

use super::layout;
use crate::serve::caller::Browser;

/// A question, and the button that sends these fields.
pub(super) fn page(
    browser: &Browser,
    title: &str,
    says: Markup,
    action: &str,
    back: &str,
    fields: &[(&str, String)],
    yes: &str,
) -> Html<String> {
    layout::page(
        browser,
        back,
        title,
        None,
        html! {
            h1 { (title) }
            div.panel role="alertdialog" aria-label=(title) {
                (says)
                form method="post" action=(action) {
                    (layout::key(browser))
                    @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
                    div.row { button type="submit" autofocus { (yes) } a.button.quiet href=(back) { "Cancel" } }
                }
            }
        },
    )
}
