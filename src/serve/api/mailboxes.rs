//! Mailboxes: what people hear by e-mail.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use crate::{
    access::Caller,
    changes::mailboxes::{self, Mailbox},
    commands::{MAY_ADMIT, MailboxChange},
    ids::{OrganisationId, PersonId},
    serve::{
        Service,
        input::{Json, Path, Query},
        problem::Problem,
    },
};

/// Whose mailboxes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listed {
    /// Only those of people of this organisation (its number).
    organisation: Option<OrganisationId>,
}

/// All mailboxes that were asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Mailboxes {
    /// The mailboxes; people who never had topics have none.
    items: Vec<Mailbox>,
    /// Whether the service can send e-mail (the setting `smtp_url`). If not, all of it waits.
    set_up: bool,
}

/// Lists what people hear by e-mail, and how that goes.
#[utoipa::path(
    get,
    path = "/v1/mailboxes",
    operation_id = "list_mailboxes",
    tag = "Changes",
    params(Listed),
    responses((status = 200, body = Mailboxes)),
)]
pub(super) async fn list(
    State(service): State<Service>,
    caller: Caller,
    Query(asked): Query<Listed>,
) -> Answer<Mailboxes> {
    caller.must_be(MAY_ADMIT)?;
    if let Some(organisation) = asked.organisation {
        caller.must_see(organisation)?;
    }
    let organisation = asked.organisation.or(caller.organisation);
    let mut db = service.database.acquire().await?;
    let items = mailboxes::list(&mut db, organisation, None).await?;
    Ok(axum::Json(Mailboxes { items, set_up: service.config.smtp_url.is_some() }))
}

/// Sets what a person hears by e-mail; nothing with an empty list.
///
/// The first time, a mail asks the owner of the address whether they want it, with a link that works
/// for 7 days. An address is asked once a day at most, and three times at most; an organisation asks 50
/// a day. To what a person has chosen themselves, also by unsubscribing, others cannot add (422). If
/// the mail server has refused the address (`stopped_at`), this call tries it again. Organisers and
/// staff set the e-mail of people; everybody sets their own on the page of their account.
#[utoipa::path(
    put,
    path = "/v1/people/{person}/mailbox",
    operation_id = "set_mailbox",
    tag = "Changes",
    params(("person" = PersonId, Path, description = "The number of the person")),
    responses(
        (status = 200, body = Mailbox),
        (status = 409, body = Problem, description = "The address was asked three times, or refused today"),
    ),
)]
pub(super) async fn set(
    State(service): State<Service>,
    caller: Caller,
    Path(person): Path<PersonId>,
    Json(change): Json<MailboxChange>,
) -> Answer<Mailbox> {
    Ok(axum::Json(service.commands.set_mailbox(&caller, person, &change).await?))
}
