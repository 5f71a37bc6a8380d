//! Whether a password is easy to guess. The lists of common passwords, names and words come with
//! `zxcvbn`.

use zxcvbn::{Score, zxcvbn};

/// Parts of an address that are shorter are in too many good passwords.
const PART_MIN: usize = 4;

/// Says why a password is easy to guess for somebody who knows the e-mail address. `None`: it is
/// not.
pub(super) fn weakness(password: &str, email: &str) -> Option<String> {
    let name = email.split('@').next().unwrap_or_default();
    for word in [name, "photogate"] {
        let plain = letters(word);
        if plain.chars().count() >= PART_MIN && letters(password).contains(&plain) {
            return Some(format!("It contains “{word}”."));
        }
    }
    // What it costs to judge grows fast with the length.
    let password: String = password.chars().take(40).collect();
    let known: Vec<_> = email.split(|one: char| !one.is_alphanumeric()).collect();
    let guesses = zxcvbn(&password, &[&known[..], &["photogate"]].concat());
    if guesses.score() >= Score::Three {
        return None;
    }
    let warning = guesses.feedback().and_then(zxcvbn::feedback::Feedback::warning);
    Some(warning.map_or_else(|| "It takes few guesses.".into(), |warning| warning.to_string()))
}

/// A text without what stands between its letters and digits, in lower case.
fn letters(text: &str) -> String {
    text.to_lowercase().chars().filter(|one| one.is_alphanumeric()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_guessed_first_is_refused_and_words_that_do_not_belong_together_are_not() {
        for weak in [
            "password1234",
            "Passw0rd!2024",
            "iloveyou12345",
            "qwertyuiop[]",
            "qwertyuiop123",
            "1qaz2wsx3edc",
            "123456789012",
            "abcabcabcabcabc",
            "aaaaaaaaaaaaaaaa",
            "anna.miller and I",
            "at photogate we trust",
            "annamiller2024",
        ] {
            assert!(weakness(weak, "anna.miller@club.example").is_some(), "{weak}");
        }
        for good in ["correct horse battery", "a new horse, a new battery", "demo-4f1c9a7be02d"] {
            assert_eq!(weakness(good, "anna.miller@club.example"), None, "{good}");
        }
    }

    #[test]
    fn short_parts_of_an_address_are_no_reason() {
        assert_eq!(weakness("seven thick quilts", "qui@club.example"), None);
    }
}
