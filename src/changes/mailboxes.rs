//! Mailboxes: what people hear by e-mail, and the mails that wait for them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgConnection, types::Json};
use utoipa::ToSchema;

use super::{Type, outcome::Outcome};
use crate::{
    ids::{OrganisationId, PersonId},
    queue::claim::{Incarnation, interval},
};

/// What a person can be told of.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    sqlx::Type,
    clap::ValueEnum,
    ToSchema,
)]
#[sqlx(type_name = "mail_topic", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
#[schema(as = MailTopic)]
pub enum Topic {
    /// Events are paused, go on, or are done.
    Events,
    /// Runs are done, cancelled, or taken back.
    Runs,
    /// Events are held, go on, or are deleted.
    Holds,
    /// Alerts are raised, or over.
    Alerts,
    /// Credits came in, or an automatic top-up has stopped.
    Credits,
    /// Purchases wait, or were decided; payments are kept. Unsubscribing does not end this: money
    /// waits for somebody.
    Purchases,
    /// Webhooks are disabled.
    Technical,
}

impl Topic {
    /// All topics.
    pub const ALL: [Self; 7] = [
        Self::Events,
        Self::Runs,
        Self::Holds,
        Self::Alerts,
        Self::Credits,
        Self::Purchases,
        Self::Technical,
    ];
    /// What comes although a person unsubscribed, until somebody sets their topics.
    pub const ESSENTIAL: [Self; 1] = [Self::Purchases];

    /// The stable name.
    pub fn code(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Runs => "runs",
            Self::Holds => "holds",
            Self::Alerts => "alerts",
            Self::Credits => "credits",
            Self::Purchases => "purchases",
            Self::Technical => "technical",
        }
    }

    /// What it means, for people.
    pub fn says(self) -> &'static str {
        match self {
            Self::Events => "an event is paused for want of credits, goes on, or is done",
            Self::Runs => "a run is done, cancelled, or taken back",
            Self::Holds => "somebody holds an event, the hold ends, or an event is deleted",
            Self::Alerts => "an alert is raised, or over",
            Self::Credits => "credits come in, or an automatic top-up has stopped",
            Self::Purchases => "a purchase waits for approval or payment, or was decided",
            Self::Technical => "a webhook is disabled",
        }
    }

    /// What somebody of an organisation can hear, or (`None`) the staff of photogate.
    pub fn of(organisation: Option<OrganisationId>) -> Vec<Self> {
        let is_of_events = |topic: &Self| matches!(topic, Self::Events | Self::Runs | Self::Holds);
        Self::ALL
            .into_iter()
            .filter(|topic| organisation.is_some() || !is_of_events(topic))
            .collect()
    }
}

/// What a person hears by e-mail, and how that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Mailbox {
    /// The number of the person.
    pub person: PersonId,
    /// The person's e-mail address.
    pub email: String,
    /// The organisation whose changes are told; null: the person runs photogate.
    pub organisation: Option<OrganisationId>,
    /// What the person is told of; an empty list: nothing.
    pub topics: Vec<Topic>,
    /// Who set this last.
    pub set_by: String,
    /// When this was set last.
    pub set_at: DateTime<Utc>,
    /// When it was tried last to send a mail that asks the person whether they want this.
    pub asked_at: Option<DateTime<Utc>>,
    /// When the person said yes; null: nothing is told yet.
    pub confirmed_at: Option<DateTime<Utc>>,
    /// When the last mail was sent that says what happened.
    pub sent_at: Option<DateTime<Utc>>,
    /// Since when something waits to be sent; null: nothing waits.
    pub waits_since: Option<DateTime<Utc>>,
    /// Why the last mail did not arrive.
    pub trouble: Option<String>,
    /// After trouble, nothing is sent until then.
    pub rests_until: Option<DateTime<Utc>>,
    /// Since when nothing is sent, because the mail server says that there is no such address.
    pub stopped_at: Option<DateTime<Utc>>,
}

/// The mailboxes of an organisation's people (`None`: of all people), or that of one person. Newest
/// people first; people who never had topics have none.
///
/// # Errors
/// An error of the database.
pub async fn list(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    person: Option<PersonId>,
) -> sqlx::Result<Vec<Mailbox>> {
    sqlx::query_as!(
        Mailbox,
        r#"SELECT person_id AS "person: PersonId", p.email,
                  p.organisation_id AS "organisation: OrganisationId",
                  m.topics AS "topics: Vec<Topic>", m.set_by, m.set_at,
                  m.confirm_sent_at AS asked_at, m.confirmed_at, m.sent_at, m.waits_since, m.trouble,
                  m.rests_until, m.stopped_at
           FROM mailbox m JOIN person p USING (person_id)
           WHERE ($1::bigint IS NULL OR p.organisation_id = $1)
               AND ($2::bigint IS NULL OR person_id = $2) AND p.disabled_at IS NULL
           ORDER BY person_id DESC LIMIT 1000"#,
        organisation.map(|organisation| organisation.0),
        person.map(|person| person.0)
    )
    .fetch_all(db)
    .await
}

/// Sets what a person hears. True: a mail asks the person first.
///
/// # Errors
/// An error of the database; with the code `database::LIMIT_REACHED` if the address was asked too
/// often, and `database::BAD_ARGUMENT` if the person has chosen less themselves.
pub async fn set(
    db: &mut PgConnection,
    person: PersonId,
    topics: &[Topic],
    actor: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT set_mailbox($1, $2, $3) AS "asks!""#,
        person.0,
        topics as &[Topic],
        actor
    )
    .fetch_one(db)
    .await
}

/// What a link in a mail does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The owner of the address wants e-mail.
    Confirm,
    /// The owner wants none.
    Unsubscribe,
}

impl What {
    fn code(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Unsubscribe => "unsubscribe",
        }
    }
}

/// The secret end of a link in a mail: whose mailbox, and what lets its reader change it.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    person: PersonId,
    token: String,
}

impl Ticket {
    /// Reads it from an address.
    pub fn read(text: &str) -> Option<Self> {
        let (person, token) = text.split_once('-')?;
        let is_token = token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_token.then_some(Self { person: person.parse().ok()?, token: token.to_owned() })
    }

    /// As it stands in an address.
    pub fn shown(&self) -> String {
        format!("{}-{}", self.person, self.token)
    }

    /// Whose mailbox it is about, if it is good.
    pub fn person(&self) -> PersonId {
        self.person
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ticket({})", self.person)
    }
}

/// Whether a link is good.
///
/// # Errors
/// An error of the database.
pub async fn is_good(db: &mut PgConnection, ticket: &Ticket, what: What) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT is_mail_link($1, $2, $3) AS "good!""#,
        ticket.person.0,
        what.code(),
        ticket.token
    )
    .fetch_one(db)
    .await
}

/// The owner of the address says yes. False: they have said it before.
///
/// # Errors
/// An error of the database, also if the link is not good.
pub async fn confirm(db: &mut PgConnection, ticket: &Ticket) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT confirm_mailbox($1, $2) AS "new!""#,
        ticket.person.0,
        ticket.token
    )
    .fetch_one(db)
    .await
}

/// Ends all that is not essential. Returns what is left, and whether something has ended.
///
/// # Errors
/// An error of the database, also if the link is not good.
pub async fn unsubscribe(
    db: &mut PgConnection,
    ticket: &Ticket,
) -> sqlx::Result<(Vec<Topic>, bool)> {
    let row = sqlx::query!(
        r#"SELECT r_topics AS "topics!: Vec<Topic>", r_changed AS "changed!"
           FROM unsubscribe_mailbox($1, $2, $3)"#,
        ticket.person.0,
        ticket.token,
        &Topic::ESSENTIAL as &[Topic]
    )
    .fetch_one(db)
    .await?;
    Ok((row.topics, row.changed))
}

/// A change that a mail says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Told {
    /// Its number.
    pub position: i64,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: Type,
    /// What it happened to.
    pub subject: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The details.
    pub data: Value,
    /// The name of its event; told to the staff, of its organisation.
    pub name: Option<String>,
}

/// A mail to send: this worker has the mailbox under a lease.
#[derive(Debug, Clone)]
pub struct Due {
    /// Whose mailbox.
    pub person: PersonId,
    /// Which mail to it. It is the fence against late workers.
    pub attempt: i32,
    /// The address.
    pub email: String,
    /// The name of the organisation; `None`: photogate itself.
    pub organisation: Option<String>,
    /// Its time zone.
    pub zone: String,
    /// What the person hears.
    pub topics: Vec<Topic>,
    /// Who has set that, by their address; `None`: a program, whose name is not for people's mail.
    pub set_by: Option<String>,
    /// The link with which the person says yes; `None`: they have.
    pub confirm: Option<Ticket>,
    /// The link that ends it.
    pub unsubscribe: Ticket,
    /// The server refused what the last mail said: this one says no words of others.
    pub is_bare: bool,
    /// Older changes of the organisation that were deleted before they could be told.
    pub skipped: i64,
    /// Changes that the mail has no place for.
    pub more: i64,
    /// What happened.
    pub changes: Vec<Told>,
}

/// Takes mails that are due, at most `most`, under a lease: to addresses that fail, or to others.
///
/// # Errors
/// An error of the database.
pub async fn take(
    db: &mut PgConnection,
    me: Incarnation,
    failing: bool,
    most: usize,
    lease: Duration,
    every: Duration,
) -> sqlx::Result<Vec<Due>> {
    let rows = sqlx::query!(
        r#"SELECT r_person AS "person!: PersonId", r_attempt AS "attempt!", r_email AS "email!",
                  r_name AS name, r_zone AS zone, r_topics AS "topics!: Vec<Topic>",
                  r_set_by AS set_by, r_confirm AS confirm, r_unsubscribe AS "unsubscribe!",
                  r_is_bare AS "is_bare!", r_skipped AS "skipped!", r_more AS "more!",
                  r_changes AS "changes!: Json<Vec<Told>>"
           FROM take_mails($1, $2, $3, $4, $5)"#,
        me.key(),
        failing,
        i32::try_from(most).unwrap_or(i32::MAX),
        interval(lease),
        interval(every)
    )
    .fetch_all(db)
    .await?;
    let due = rows.into_iter().map(|row| Due {
        person: row.person,
        attempt: row.attempt,
        email: row.email,
        organisation: row.name,
        zone: row.zone.unwrap_or_else(|| "UTC".into()),
        topics: row.topics,
        set_by: row.set_by,
        confirm: row.confirm.map(|token| Ticket { person: row.person, token }),
        unsubscribe: Ticket { person: row.person, token: row.unsubscribe },
        is_bare: row.is_bare,
        skipped: row.skipped,
        more: row.more,
        changes: row.changes.0,
    });
    Ok(due.collect())
}

/// Notes what came of a mail. True if nothing is sent to the address any more.
///
/// # Errors
/// An error of the database.
pub async fn end(
    db: &mut PgConnection,
    due: &Due,
    outcome: &Outcome,
    pause: Duration,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT end_mail($1, $2, $3, $4, $5) AS "stopped!""#,
        due.person.0,
        due.attempt,
        outcome.code(),
        outcome.said(),
        interval(pause)
    )
    .fetch_one(db)
    .await
}

/// For how many seconds the mail has waited that waits longest; 0 if none waits.
///
/// # Errors
/// An error of the database.
pub async fn seconds_waiting(db: &mut PgConnection) -> sqlx::Result<f64> {
    sqlx::query_scalar!(r#"SELECT mail_waits_seconds() AS "seconds!""#).fetch_one(db).await
}

/// The mail server's trouble: since when, and what it said.
///
/// # Errors
/// An error of the database.
pub async fn server_trouble(
    db: &mut PgConnection,
) -> sqlx::Result<Option<(DateTime<Utc>, String)>> {
    let row = sqlx::query!(
        r#"SELECT failing_since AS "since!", coalesce(trouble, '') AS "trouble!"
           FROM mail_server WHERE failing_since IS NOT NULL"#
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.since, row.trouble)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_read_as_it_was_written_and_nothing_else_is_one() {
        let text = format!("7-{}", "0a".repeat(32));
        assert_eq!(Ticket::read(&text).unwrap().shown(), text);
        for text in ["", "7", "7-", "x-00", &format!("7-{}", "g".repeat(64)), &text[..40]] {
            assert_eq!(Ticket::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_topic_has_one_name_everywhere() {
        for topic in Topic::ALL {
            assert_eq!(serde_json::to_value(topic).unwrap(), topic.code());
        }
    }
}
