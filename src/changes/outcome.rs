//! What can come of a mail.

/// What came of a mail. `end_mail` in SQL says what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server took it, and said this.
    Sent(String),
    /// The server has all of it, and did not say that it takes it: it may be delivered.
    Unanswered(String),
    /// The server is not well: it cannot be reached, hangs, or takes no mail from photogate.
    Server(String),
    /// The same, but said when the address was named: perhaps only this one is the reason.
    Busy(String),
    /// It does not take this mail now.
    Later(String),
    /// It does not want what the mail says.
    Letter(String),
    /// It says no, and not whether that is about the address.
    Doubtful(String),
    /// It says that there is no such address.
    Refused(String),
    /// No server takes mail to that: it was not asked.
    Unfit(String),
}

impl Outcome {
    /// As SQL names it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Sent(_) => "sent",
            Self::Unanswered(_) => "unanswered",
            Self::Server(_) => "server",
            Self::Busy(_) => "busy",
            Self::Later(_) => "later",
            Self::Letter(_) => "letter",
            Self::Doubtful(_) => "doubtful",
            Self::Refused(_) => "refused",
            Self::Unfit(_) => "unfit",
        }
    }

    /// What the server said, or why it said nothing.
    pub fn said(&self) -> &str {
        match self {
            Self::Sent(said)
            | Self::Unanswered(said)
            | Self::Server(said)
            | Self::Busy(said)
            | Self::Later(said)
            | Self::Letter(said)
            | Self::Doubtful(said)
            | Self::Refused(said)
            | Self::Unfit(said) => said,
        }
    }
}
