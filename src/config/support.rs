//! Whom the pages name to people who need help.

use serde::{Deserialize, Serialize};

/// An e-mail address, or the `https://` address of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Support(String);

impl Support {
    /// The address of a link to it.
    pub fn href(&self) -> String {
        if self.0.starts_with("https://") { self.0.clone() } else { format!("mailto:{}", self.0) }
    }
}

impl TryFrom<String> for Support {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_page = url::Url::parse(&text).is_ok_and(|url| url.scheme() == "https");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
        let is_mailbox = text.split_once('@').is_some_and(|(who, host)| {
            host.contains('.')
                && [who, host].iter().all(|part| !part.is_empty() && part.chars().all(is_plain))
        });
        if (is_page || is_mailbox) && text.len() <= 500 {
            return Ok(Self(text));
        }
        Err(format!(
            "support must be an e-mail address, or the address of a page that begins with \
             https://; it is {text}"
        ))
    }
}

impl From<Support> for String {
    fn from(support: Support) -> Self {
        support.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_a_mailbox_or_a_page() {
        let href = |text: &str| Support::try_from(text.to_owned()).map(|support| support.href());
        assert_eq!(href("help@club.example"), Ok("mailto:help@club.example".into()));
        assert_eq!(href("https://club.example/help"), Ok("https://club.example/help".into()));
        for text in [
            "",
            "help",
            "javascript:alert(1)",
            "http://club.example",
            "a b@c.example",
            "@c.example",
            "a@b",
        ] {
            assert!(href(text).is_err(), "{text}");
        }
    }
}
