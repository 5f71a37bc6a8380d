//! Whatever costs or cannot be undone is asked once more, with what it will do.

use axum::response::Html;
use maud::{Markup, html};

use super::layout;
use crate::serve::caller::Browser;

/// A question: the same form again, with `confirmed` in it.
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
                    input type="hidden" name="confirmed" value="yes";
                    div.row { button type="submit" autofocus { (yes) } a.button.quiet href=(back) { "Cancel" } }
                }
            }
        },
    )
}
