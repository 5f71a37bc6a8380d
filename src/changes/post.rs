//! The post office: hands letters to a mail server over SMTP, and says what came of it.
//!
//! It speaks each step itself, because the answer means something else at each: before the address is
//! named, the server is not well; after it, this address or this letter is not wanted.

use std::{error::Error, time::Duration};

use lettre::{
    Message,
    address::Envelope,
    message::{
        Mailbox as Sender, MultiPart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        Error as SmtpError,
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, TlsParameters},
        commands::{Data, Mail as From, Rcpt},
        extension::{ClientId, Extension, MailParameter},
        response::Response,
    },
};

use super::{letters::Letter, mailboxes::Outcome, sentences::tame};
use crate::config::{Line, Mail};

/// A step ends after this time, whatever has come by then.
const STEP_MAX: Duration = Duration::from_secs(10);
/// A letter ends after this time.
pub const LETTER_MAX: Duration = Duration::from_secs(20);
/// How long the server may take to say goodbye.
const QUIT_MAX: Duration = Duration::from_secs(1);

/// Why no letter can be sent.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The sender is no address.
    #[error("mail_from is not an e-mail address ({0}): write photogate <photogate@example.org>")]
    From(#[from] lettre::address::AddressError),
    /// TLS cannot be set up.
    #[error("e-mail cannot be sent over TLS ({0}): are root certificates installed?")]
    Tls(#[from] SmtpError),
}

/// Hands letters to a mail server.
#[derive(Clone)]
pub struct Post {
    mail: Mail,
    from: Sender,
    /// Also of the Message-ID, and of our greeting.
    host: String,
    tls: Option<TlsParameters>,
}

impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Post({:?})", self.mail)
    }
}

/// What an answer means at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is about the server, or about us.
    Server,
    /// It is about the address.
    Address,
    /// It is about the letter.
    Letter,
}

impl Post {
    /// A post office with these settings.
    ///
    /// # Errors
    /// See [`PostError`].
    pub fn new(mail: Mail) -> Result<Self, PostError> {
        let from = mail.from.parse()?;
        let tls = match mail.line {
            Line::Tls | Line::StartTls => Some(TlsParameters::new(mail.host.clone())?),
            Line::Plain => None,
        };
        let pages = url::Url::parse(&mail.pages).ok();
        let host = pages.and_then(|pages| pages.host_str().map(str::to_owned));
        Ok(Self { from, host: host.unwrap_or_else(|| "localhost".into()), tls, mail })
    }

    /// The address of the pages.
    pub fn pages(&self) -> &str {
        &self.mail.pages
    }

    /// A person gets one mail in this time at most.
    pub fn every(&self) -> Duration {
        self.mail.every
    }

    /// Sends a letter, and says what came of it.
    pub async fn send(&self, letter: &Letter) -> Outcome {
        let (envelope, bytes) = match self.put_into_envelope(letter) {
            Ok(put) => put,
            Err(trouble) => return Outcome::Refused(tame(&trouble)),
        };
        match tokio::time::timeout(LETTER_MAX, self.deliver(&envelope, &bytes)).await {
            Ok(Ok(said)) => Outcome::Sent(said),
            Ok(Err(outcome)) => outcome,
            Err(_) => Outcome::Later(too_late(LETTER_MAX)),
        }
    }

    fn put_into_envelope(&self, letter: &Letter) -> Result<(Envelope, Vec<u8>), String> {
        let to: lettre::Address = letter.to.parse().map_err(|error| {
            format!("{} is not an address that mail can be sent to: {error}", letter.to)
        })?;
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(Sender::new(None, to))
            .subject(tame_subject(&letter.subject))
            .message_id(Some(format!("<{}@{}>", letter.id(), self.host)))
            // Nobody's absence note answers it.
            .raw_header(raw("Auto-Submitted", "auto-generated"));
        if let Some(link) = &letter.unsubscribe {
            message = message
                .raw_header(raw("List-Unsubscribe", &format!("<{link}>")))
                .raw_header(raw("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"));
        }
        let parts = MultiPart::alternative_plain_html(letter.text.clone(), letter.html.clone());
        let message = message.multipart(parts).map_err(|error| error.to_string())?;
        Ok((message.envelope().clone(), message.formatted()))
    }

    async fn deliver(&self, envelope: &Envelope, bytes: &[u8]) -> Result<String, Outcome> {
        let hello = ClientId::Domain(self.host.clone());
        let wrapped = self.tls.clone().filter(|_| self.mail.line == Line::Tls);
        let server = (self.mail.host.as_str(), self.mail.port);
        let greeted =
            AsyncSmtpConnection::connect_tokio1(server, Some(STEP_MAX), &hello, wrapped, None);
        let mut line = step(Step::Server, greeted).await?;
        if let (Line::StartTls, Some(tls)) = (self.mail.line, self.tls.clone()) {
            step(Step::Server, line.starttls(tls, &hello)).await?;
        }
        if let Some((user, password)) = &self.mail.login {
            let login = Credentials::new(user.clone(), password.clone());
            let ways = [Mechanism::Plain, Mechanism::Login];
            step(Step::Server, line.auth(&ways, &login)).await?;
        }
        let mut options = Vec::new();
        let is_ascii = |address: &lettre::Address| AsRef::<str>::as_ref(address).is_ascii();
        if !envelope.to().iter().chain(envelope.from()).all(is_ascii) {
            if !line.server_info().supports_feature(Extension::SmtpUtfEight) {
                let says = "the mail server takes no addresses with such letters (SMTPUTF8)";
                return Err(Outcome::Later(says.into()));
            }
            options.push(MailParameter::SmtpUtfEight);
        }
        let from = From::new(envelope.from().cloned(), options);
        step(Step::Server, line.command(from)).await?;
        for to in envelope.to() {
            step(Step::Address, line.command(Rcpt::new(to.clone(), vec![]))).await?;
        }
        step(Step::Letter, line.command(Data)).await?;
        let answer: Response = step(Step::Letter, line.message(bytes)).await?;
        // It has taken the letter, whatever becomes of the goodbye.
        let _ = tokio::time::timeout(QUIT_MAX, line.quit()).await;
        Ok(tame(&format!("{} {}", answer.code(), answer.message().collect::<Vec<_>>().join(" "))))
    }
}

/// Waits for a step, and says what its failure means.
async fn step<T>(
    step: Step,
    answer: impl Future<Output = Result<T, SmtpError>>,
) -> Result<T, Outcome> {
    let later = |trouble| match step {
        Step::Server => Outcome::Server(trouble),
        Step::Address | Step::Letter => Outcome::Later(trouble),
    };
    match tokio::time::timeout(STEP_MAX, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Err(_) => Err(later(too_late(STEP_MAX))),
        Ok(Err(error)) if step == Step::Address && is_no_address(&error) => {
            Err(Outcome::Refused(said(&error)))
        }
        Ok(Err(error)) => Err(later(said(&error))),
    }
}

/// Whether a server says for good that the address does not take mail. What it says of its own rules
/// (5.7) or of us is no word about the address: others would be refused, too.
fn is_no_address(error: &SmtpError) -> bool {
    let code = error.status().map(u16::from);
    let says = error.source().map(ToString::to_string).unwrap_or_default();
    let detail = says.trim_start();
    matches!(code, Some(550..=553 | 556))
        && !["5.3.", "5.4.", "5.5.", "5.6.", "5.7."].iter().any(|ours| detail.starts_with(ours))
}

fn said(error: &SmtpError) -> String {
    let mut bottom: &dyn Error = error;
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    let words = bottom.to_string();
    let code = error.status().map(|code| format!("{code} ")).unwrap_or_default();
    tame(&format!("{code}{words}"))
}

fn too_late(most: Duration) -> String {
    format!("the mail server did not answer within {} seconds", most.as_secs())
}

/// A subject line holds a name and a sentence.
fn tame_subject(subject: &str) -> String {
    subject.chars().map(|one| if one.is_control() { ' ' } else { one }).take(300).collect()
}

fn raw(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}
