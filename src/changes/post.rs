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

use super::{letters::Letter, outcome::Outcome, sentences::tame};
use crate::config::{Line, Mail};

/// A step ends after this time, whatever has come by then.
const STEP_MAX: Duration = Duration::from_secs(10);
/// An address of the server is tried for so long, and then its next one.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// All steps before the address is named end after this time.
const OPEN_MAX: Duration = Duration::from_secs(20);
/// How long the server may think about the whole letter. It may look for viruses, and has the letter:
/// whoever gives up earlier sends it twice (RFC 5321, 4.5.3.2.6).
const THINK_MAX: Duration = Duration::from_secs(300);
/// How long the server may take to say goodbye.
const QUIT_MAX: Duration = Duration::from_secs(1);
/// A letter ends after this time.
pub const LETTER_MAX: Duration = Duration::from_secs(
    OPEN_MAX.as_secs() + 2 * STEP_MAX.as_secs() + THINK_MAX.as_secs() + QUIT_MAX.as_secs(),
);

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
    /// It is about the letter, and the server has all of it.
    End,
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
            Err(trouble) => return Outcome::Unfit(tame(&trouble)),
        };
        let opened = tokio::time::timeout(OPEN_MAX, self.open(&envelope)).await;
        let sent = match opened {
            Ok(Ok(line)) => hand_over(line, &envelope, &bytes).await,
            Ok(Err(outcome)) => return outcome,
            Err(_) => return Outcome::Server(too_late(OPEN_MAX)),
        };
        sent.map_or_else(|outcome| outcome, Outcome::Sent)
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

    /// All steps before the address is named.
    async fn open(&self, envelope: &Envelope) -> Result<AsyncSmtpConnection, Outcome> {
        let hello = ClientId::Domain(self.host.clone());
        let wrapped = self.tls.clone().filter(|_| self.mail.line == Line::Tls);
        let server = (self.mail.host.as_str(), self.mail.port);
        let greeted =
            AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT_MAX), &hello, wrapped, None);
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
        Ok(line)
    }
}

/// Names the address, and hands the letter over.
async fn hand_over(
    mut line: AsyncSmtpConnection,
    envelope: &Envelope,
    bytes: &[u8],
) -> Result<String, Outcome> {
    for to in envelope.to() {
        step(Step::Address, line.command(Rcpt::new(to.clone(), vec![]))).await?;
    }
    step(Step::Letter, line.command(Data)).await?;
    let answer: Response = step(Step::End, line.message(bytes)).await?;
    // It has taken the letter, whatever becomes of the goodbye.
    let _ = tokio::time::timeout(QUIT_MAX, line.quit()).await;
    Ok(tame(&format!("{} {}", answer.code(), answer.message().collect::<Vec<_>>().join(" "))))
}

/// Waits for a step, and says what its failure means.
async fn step<T>(
    step: Step,
    answer: impl Future<Output = Result<T, SmtpError>>,
) -> Result<T, Outcome> {
    let most = if step == Step::End { THINK_MAX } else { STEP_MAX };
    match tokio::time::timeout(most, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            let code = error.status().map(u16::from);
            let says = error.source().map(ToString::to_string).unwrap_or_default();
            Err(meaning(step, code, &says)(said(&error)))
        }
        Err(_) => Err(meaning(step, None, "")(too_late(most))),
    }
}

/// What a failure means at a step: the code of the answer, and its words; `None`: there was no answer.
fn meaning(step: Step, code: Option<u16>, says: &str) -> fn(String) -> Outcome {
    let detail = enhanced(says);
    let is_of_server = code == Some(421) || detail.is_some_and(|detail| detail.starts_with("4.3."));
    match (step, code) {
        (Step::Server, _) => Outcome::Server,
        _ if is_of_server => Outcome::Busy,
        (Step::Address, Some(550..=559)) if detail.is_some_and(is_no_address) => Outcome::Refused,
        // A server that takes nothing from us may say just that.
        (Step::Address, Some(550..=553)) if detail.is_none() => Outcome::Doubtful,
        (Step::Letter | Step::End, Some(500..=599)) => Outcome::Letter,
        (Step::End, None) => Outcome::Unanswered,
        (Step::Address | Step::Letter | Step::End, _) => Outcome::Later,
    }
}

/// The enhanced code of an answer, as `5.1.1` (RFC 3463).
fn enhanced(says: &str) -> Option<&str> {
    let first = says.split_whitespace().next()?;
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|one| one.is_ascii_digit());
    (first.split('.').count() == 3 && first.split('.').all(is_number)).then_some(first)
}

/// Whether an enhanced code says that the address does not take mail. 5.1.7 and 5.1.8 are about the
/// sender, and what a server says of its rules (5.7) or of us is no word about the address.
fn is_no_address(detail: &str) -> bool {
    detail == "5.2.1" || detail.starts_with("5.1.") && !matches!(detail, "5.1.7" | "5.1.8")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_means_what_it_says_at_its_step() {
        for (step, code, says, means) in [
            (Step::Server, Some(550), "5.1.1 who are you", "server"),
            (Step::Server, None, "", "server"),
            (Step::Address, None, "", "later"),
            (Step::Address, Some(421), "4.7.0 too many", "busy"),
            (Step::Address, Some(451), "4.3.0 the disk is full", "busy"),
            (Step::Address, Some(450), "4.2.0 greylisted", "later"),
            (Step::Address, Some(550), "5.1.1 nobody of that name", "refused"),
            (Step::Address, Some(556), "5.1.10 takes no mail", "refused"),
            (Step::Address, Some(550), "5.2.1 disabled", "refused"),
            (Step::Address, Some(553), "5.1.8 the sender's domain does not exist", "later"),
            (Step::Address, Some(554), "5.7.1 relay denied", "later"),
            (Step::Address, Some(550), "relay not permitted", "doubtful"),
            (Step::Address, Some(550), "1.2.x is no code", "doubtful"),
            (Step::Letter, Some(554), "no valid recipients", "letter"),
            (Step::End, Some(552), "5.7.0 spam", "letter"),
            (Step::End, Some(451), "4.3.0 queue file write error", "busy"),
            (Step::End, Some(451), "4.7.1 later", "later"),
            (Step::End, None, "", "unanswered"),
        ] {
            let outcome = meaning(step, code, says)(String::new());
            assert_eq!(outcome.code(), means, "{step:?} {code:?} {says}");
        }
    }
}
