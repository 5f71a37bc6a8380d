//! Why a credit was refunded, in words: what happened, and what somebody can do about it. Codes are
//! for programs.

use maud::{Markup, html};

use crate::{access::Role, queue::failures};

/// What happened, as a short sentence.
pub(super) fn what(code: &str) -> String {
    match meaning(code) {
        Some((what, _)) => what.to_owned(),
        // A worker of somebody else has codes of its own.
        None => {
            let words = code.replace('_', " ");
            let mut letters = words.chars();
            let first = letters.next().map(|first| first.to_uppercase().to_string());
            first.unwrap_or_default() + letters.as_str()
        }
    }
}

/// What happened, and below it what to do.
pub(super) fn says(code: &str) -> Markup {
    html! {
        (what(code))
        @if let Some((_, advice)) = meaning(code) { div.faint { (sentence(advice)) } }
    }
}

/// More about it, which only helps whoever knows the machines or the photos.
pub(super) fn detail(role: Role, detail: Option<&str>) -> Markup {
    let is_shown = match role {
        Role::Operator | Role::Staff | Role::Organiser => true,
        Role::Finance | Role::Pipeline => false,
    };
    html! {
        @if let (true, Some(detail)) = (is_shown, detail) {
            details { summary { "Detail" } span.faint { (detail) } }
        }
    }
}

/// What happened, and what to do.
fn meaning(code: &str) -> Option<(&'static str, &'static str)> {
    let text = failures::meaning(code);
    match text.split_once(": ") {
        Some(parts) => Some(parts),
        None if text.is_empty() => None,
        None => Some((text.trim_end_matches('.'), "")),
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_said_in_words() {
        assert_eq!(what("corrupt"), "The file is corrupt");
        assert_eq!(what("color_profile_odd"), "Color profile odd");
        assert!(says("corrupt").into_string().contains("Upload it again, then retry."));
    }
}
