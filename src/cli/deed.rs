//! What the command line changes stands in the audit trail too.

use sqlx::PgConnection;

use crate::{
    access::{Caller, Role, audit_log},
    catalog::events,
    ids::{EventId, OrganisationId},
};

/// Writes down a deed; `tx` is the transaction of the change.
pub(super) async fn record(
    tx: &mut PgConnection,
    actor: &str,
    organisation: Option<OrganisationId>,
    action: &str,
    subject: &str,
    detail: serde_json::Value,
) -> sqlx::Result<()> {
    let caller = Caller { actor: actor.to_owned(), role: Role::Staff, organisation: None };
    audit_log::record(tx, &caller, organisation, action, subject, detail).await
}

/// The same of an event.
pub(super) async fn of_event(
    tx: &mut PgConnection,
    actor: &str,
    event: EventId,
    action: &str,
    detail: serde_json::Value,
) -> sqlx::Result<()> {
    let organisation = events::find(tx, event).await?.map(|event| event.organisation);
    record(tx, actor, organisation, action, &format!("event {event}"), detail).await
}
