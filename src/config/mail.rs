//! How e-mail is sent: the settings `smtp_url`, `mail_from` and `public_url`, checked together.

use std::{borrow::Cow, fmt, time::Duration};

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::Config;

/// How e-mail is sent.
#[derive(Clone)]
pub struct Mail {
    /// The host of the mail server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is secured.
    pub line: Line,
    /// The name and password of photogate there.
    pub login: Option<(String, String)>,
    /// The sender, as in the setting.
    pub from: String,
    /// The address of the pages, without a slash at its end.
    pub pages: String,
    /// A person gets one e-mail in this time at most.
    pub every: Duration,
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mail({}:{}, {:?})", self.host, self.port, self.line)
    }
}

/// How the connection to the mail server is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// TLS from the first byte.
    Tls,
    /// TLS after STARTTLS. Without it, nothing is sent.
    StartTls,
    /// Not at all: the server is on this machine, or the setting says so.
    Plain,
}

/// Why e-mail cannot be sent with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// The address is not that of a mail server.
    #[error(
        "smtp_url must be smtps://user:password@host, or smtp://user:password@host for STARTTLS; \
         without TLS write ?tls=none at its end"
    )]
    Server,
    /// Only one of name and password is there.
    #[error("smtp_url needs a name and a password, or neither")]
    Login,
    /// The sender is missing, or no address.
    #[error("mail_from must be an e-mail address, as photogate <photogate@example.org>")]
    From,
    /// The address of the pages is missing, or none.
    #[error(
        "public_url must be the address of the pages, as https://photogate.example.org: links in \
         e-mail lead there"
    )]
    Pages,
}

impl Mail {
    pub(super) fn of(config: &Config) -> Result<Option<Self>, MailError> {
        let pages = config.public_url.as_deref().map(pages).transpose()?;
        let Some(address) = &config.smtp_url else { return Ok(None) };
        let url = Url::parse(address).map_err(|_| MailError::Server)?;
        let (host, is_here) = match url.host().ok_or(MailError::Server)? {
            Host::Ipv4(ip) => (ip.to_string(), ip.is_loopback()),
            Host::Ipv6(ip) => (ip.to_string(), ip.is_loopback()),
            // The host of a scheme that is not of the web is not looked at more closely.
            Host::Domain(name) => {
                let ip = name.parse::<std::net::Ipv4Addr>();
                (name.to_owned(), name == "localhost" || ip.is_ok_and(|ip| ip.is_loopback()))
            }
        };
        let tls = url.query_pairs().find(|(name, _)| name == "tls").map(|(_, value)| value);
        let (line, port) = match (url.scheme(), tls.as_deref()) {
            ("smtps", None) => (Line::Tls, 465),
            ("smtp", Some("none")) => (Line::Plain, 25),
            ("smtp", None) if is_here => (Line::Plain, 25),
            ("smtp", None | Some("required")) => (Line::StartTls, 587),
            _ => return Err(MailError::Server),
        };
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8();
            text.map(Cow::into_owned).map_err(|_| MailError::Login)
        };
        let login = match (url.username(), url.password()) {
            ("", None) => None,
            (user, Some(password)) if !user.is_empty() => {
                Some((decoded(user)?, decoded(password)?))
            }
            _ => return Err(MailError::Login),
        };
        let from = config.mail_from.clone().ok_or(MailError::From)?;
        if !from.contains('@') || from.contains(char::is_control) {
            return Err(MailError::From);
        }
        Ok(Some(Self {
            host,
            port: url.port().unwrap_or(port),
            line,
            login,
            from,
            pages: pages.ok_or(MailError::Pages)?,
            every: Duration::from_secs(config.mail_every_seconds),
        }))
    }
}

fn pages(address: &str) -> Result<String, MailError> {
    let url = Url::parse(address).map_err(|_| MailError::Pages)?;
    let is_good = matches!(url.scheme(), "https" | "http")
        && url.host().is_some()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty();
    if is_good { Ok(url.as_str().trim_end_matches('/').to_owned()) } else { Err(MailError::Pages) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(smtp_url: &str) -> Result<Mail, MailError> {
        let config = Config {
            smtp_url: Some(smtp_url.into()),
            mail_from: Some("photogate <mail@example.org>".into()),
            public_url: Some("https://photogate.example.org/".into()),
            ..Config::default()
        };
        config.mail().map(|mail| mail.expect("it is set up"))
    }

    #[test]
    fn nothing_is_sent_in_the_clear_but_on_this_machine_or_where_the_setting_says_so() {
        for (address, line, port) in [
            ("smtps://mail.example.org", Line::Tls, 465),
            ("smtp://mail.example.org", Line::StartTls, 587),
            ("smtp://mail.example.org:25?tls=required", Line::StartTls, 25),
            ("smtp://127.0.0.1?tls=required", Line::StartTls, 587),
            ("smtp://127.0.0.1", Line::Plain, 25),
            ("smtp://[::1]:2525", Line::Plain, 2525),
            ("smtp://localhost", Line::Plain, 25),
            ("smtp://10.0.0.1?tls=none", Line::Plain, 25),
            ("smtp://10.0.0.1", Line::StartTls, 587),
            ("smtp://127.0.0.1.example.org", Line::StartTls, 587),
        ] {
            let mail = of(address).unwrap();
            assert_eq!((mail.line, mail.port), (line, port), "{address}");
            assert_eq!(mail.pages, "https://photogate.example.org");
        }
        for address in
            ["mail.example.org", "https://mail.example.org", "smtp://h?tls=opportunistic"]
        {
            assert_eq!(of(address).unwrap_err(), MailError::Server, "{address}");
        }
    }

    #[test]
    fn a_password_may_have_any_character_and_is_not_shown() {
        let mail = of("smtps://a%40b:p%2Fw%20%C3%A4@mail.example.org").unwrap();
        assert_eq!(mail.login, Some(("a@b".into(), "p/w ä".into())));
        assert!(!format!("{mail:?}").contains("p/w"));
        assert_eq!(of("smtps://anna@mail.example.org").unwrap_err(), MailError::Login);
    }

    #[test]
    fn what_belongs_together_is_set_together() {
        let whole = Config {
            smtp_url: Some("smtp://localhost".into()),
            mail_from: Some("mail@example.org".into()),
            public_url: Some("https://photogate.example.org".into()),
            ..Config::default()
        };
        assert!(whole.mail().is_ok_and(|mail| mail.is_some()));
        let without_sender = Config { mail_from: None, ..whole.clone() };
        assert_eq!(without_sender.mail().unwrap_err(), MailError::From);
        let without_pages = Config { public_url: None, ..whole.clone() };
        assert_eq!(without_pages.mail().unwrap_err(), MailError::Pages);
        let nothing = Config { smtp_url: None, mail_from: None, ..whole };
        assert!(nothing.mail().is_ok_and(|mail| mail.is_none()));
    }
}
