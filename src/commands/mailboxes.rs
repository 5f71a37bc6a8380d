//! Sets what people hear by e-mail, and does what the links in mails say.

use serde::Deserialize;
use serde_json::json;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{CommandError, Commands, access::MAY_ADMIT};
use crate::{
    access::{self, Caller, Denied, Person, audit_log},
    changes::mailboxes::{self, Mailbox, Ticket, Topic, What},
    ids::PersonId,
};

/// What a person is to hear.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "topics": ["events", "credits"] }))]
pub struct MailboxChange {
    /// The topics; an empty list: the person gets no e-mail.
    #[schema(max_items = 20)]
    pub topics: Vec<Topic>,
}

impl Commands {
    /// Sets what a person hears by e-mail. The first time, a mail asks the person. An address that
    /// was refused is tried again.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_mailbox(
        &self,
        caller: &Caller,
        id: PersonId,
        change: &MailboxChange,
    ) -> Result<Mailbox, CommandError> {
        caller.must_be(MAY_ADMIT)?;
        let person = self.person_to_mail(caller, id).await?;
        self.set_topics(caller, &person, change).await
    }

    /// Sets what the caller hears by e-mail.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_own_mailbox(
        &self,
        caller: &Caller,
        change: &MailboxChange,
    ) -> Result<Mailbox, CommandError> {
        let person = self.person_of(caller).await?;
        self.set_topics(caller, &person, change).await
    }

    /// A person whose e-mail the caller may set.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn person_to_mail(
        &self,
        caller: &Caller,
        id: PersonId,
    ) -> Result<Person, CommandError> {
        caller.must_be(MAY_ADMIT)?;
        let mut db = self.database.acquire().await?;
        let person = access::find_person(&mut db, &id.to_string()).await?;
        let is_theirs = |person: &Person| {
            person.id == id
                && person.disabled_at.is_none()
                && (caller.organisation.is_none() || caller.organisation == person.organisation)
        };
        let missing = || CommandError::NotFound(format!("person {id} who can log in"));
        person.filter(is_theirs).ok_or_else(missing)
    }

    async fn set_topics(
        &self,
        caller: &Caller,
        person: &Person,
        change: &MailboxChange,
    ) -> Result<Mailbox, CommandError> {
        let mut topics = change.topics.clone();
        topics.sort_unstable();
        topics.dedup();
        let theirs = Topic::of(person.organisation);
        if let Some(other) = topics.iter().find(|topic| !theirs.contains(topic)) {
            let theirs: Vec<_> = theirs.iter().map(|topic| topic.code()).collect();
            let detail = format!(
                "{} does not hear {}: choose from {}",
                person.email,
                other.code(),
                theirs.join(", ")
            );
            return Err(CommandError::invalid("/topics", detail));
        }
        let mut tx = self.database.begin().await?;
        let asks = mailboxes::set(&mut tx, person.id, &topics, &caller.actor).await?;
        let detail = json!({ "topics": topics, "asks": asks });
        let (whose, action) = (person.organisation, "mailbox.set");
        audit_log::record(&mut tx, caller, whose, action, &person.email, detail).await?;
        let mailbox = mailboxes::list(&mut tx, None, Some(person.id)).await?.pop();
        let missing = || CommandError::NotFound(format!("person {} who can log in", person.id));
        let mailbox = mailbox.ok_or_else(missing)?;
        tx.commit().await?;
        Ok(mailbox)
    }

    /// The person whom a link in a mail is about. The link alone lets its reader do what it says.
    ///
    /// # Errors
    /// [`CommandError::NotFound`] if it is not good.
    pub async fn reader_of(&self, ticket: &Ticket, what: What) -> Result<Person, CommandError> {
        reader(&mut *self.database.acquire().await?, ticket, what).await
    }

    /// The owner of an address says that they want e-mail.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn confirm_mailbox(&self, ticket: &Ticket) -> Result<Person, CommandError> {
        let mut tx = self.database.begin().await?;
        let person = reader(&mut tx, ticket, What::Confirm).await?;
        if mailboxes::confirm(&mut tx, ticket).await? {
            record(&mut tx, &person, "mailbox.confirm", json!({})).await?;
        }
        tx.commit().await?;
        Ok(person)
    }

    /// The owner of an address wants no more e-mail. Returns what still comes, because it is
    /// essential.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn unsubscribe(&self, ticket: &Ticket) -> Result<Vec<Topic>, CommandError> {
        let mut tx = self.database.begin().await?;
        let person = reader(&mut tx, ticket, What::Unsubscribe).await?;
        let (left, changed) = mailboxes::unsubscribe(&mut tx, ticket).await?;
        if changed {
            record(&mut tx, &person, "mailbox.unsubscribe", json!({ "topics": left })).await?;
        }
        tx.commit().await?;
        Ok(left)
    }
}

async fn reader(
    db: &mut PgConnection,
    ticket: &Ticket,
    what: What,
) -> Result<Person, CommandError> {
    let missing = || {
        let link = match what {
            What::Confirm => "link like this, or it is older than 7 days",
            What::Unsubscribe => "link like this",
        };
        CommandError::Denied(Denied::NotFound(link.into()))
    };
    if !mailboxes::is_good(db, ticket, what).await? {
        return Err(missing());
    }
    let person = access::find_person(db, &ticket.person().to_string()).await?;
    person.ok_or_else(missing)
}

async fn record(
    tx: &mut PgConnection,
    person: &Person,
    action: &str,
    detail: serde_json::Value,
) -> Result<(), CommandError> {
    let actor = person.email.clone();
    let caller = Caller { actor, role: person.role, organisation: person.organisation };
    audit_log::record(tx, &caller, person.organisation, action, &person.email, detail).await?;
    Ok(())
}
