//! Tokens, people and the audit log.

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, Page};
use crate::{
    access::{self, Caller, Invitation, Link, Person, Role, Token, audit_log::AuditEntry},
    commands::{CreatedToken, MAY_ADMIT, NewPerson, NewToken, PersonChange},
    ids::{InvitationId, PersonId, TokenId},
    serve::{
        Service,
        input::{Json, Path, Query, limit},
        problem::Problem,
    },
};

/// Which page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// `next` of the previous page; without it, the first page.
    after: Option<i64>,
    /// Maximum number of rows; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
}

/// Lists the tokens that the caller may see, newest first, without their secrets.
#[utoipa::path(
    get,
    path = "/v1/tokens",
    operation_id = "list_tokens",
    tag = "Access",
    params(Which),
    responses((status = 200, body = Page<Token>)),
)]
pub(super) async fn tokens(
    State(service): State<Service>,
    caller: Caller,
    Query(which): Query<Which>,
) -> Answer<Page<Token>> {
    caller.must_be(MAY_ADMIT)?;
    let limit = limit(which.limit)?;
    let mut db = service.database.acquire().await?;
    let found = access::tokens(&mut db, caller.organisation, which.after, limit + 1).await?;
    Ok(axum::Json(Page::of(found, limit, |token| token.id.to_string())))
}

/// Creates a token. Its secret is in this answer only; it cannot be read again.
#[utoipa::path(
    post,
    path = "/v1/tokens",
    operation_id = "create_token",
    tag = "Access",
    responses(
        (status = 201, body = CreatedToken),
        (status = 409, body = Problem, description = "The organisation has 100 valid tokens"),
    ),
)]
pub(super) async fn create_token(
    State(service): State<Service>,
    caller: Caller,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, axum::Json<CreatedToken>), Problem> {
    let made = service.commands.create_token(&caller, &new).await?;
    Ok((StatusCode::CREATED, axum::Json(made)))
}

/// Revokes a token, and ends the sessions that logged in with it.
#[utoipa::path(
    delete,
    path = "/v1/tokens/{token}",
    operation_id = "revoke_token",
    tag = "Access",
    params(("token" = TokenId, Path, description = "The token's number")),
    responses((status = 204, description = "The token is revoked")),
)]
pub(super) async fn revoke_token(
    State(service): State<Service>,
    caller: Caller,
    Path(token): Path<TokenId>,
) -> Result<StatusCode, Problem> {
    service.commands.revoke_token(&caller, token).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Invites a person: makes a link with which they choose a password, and then log in to the pages.
///
/// Hand the link over yourself; no e-mail is sent. It works once, for 7 days. The answer is the same
/// whether the address has an account in another organisation or not; if it has, the link does not
/// work.
#[utoipa::path(
    post,
    path = "/v1/people",
    operation_id = "invite_person",
    tag = "Access",
    responses(
        (status = 201, body = Link),
        (
            status = 409,
            body = Problem,
            description = "This e-mail address has an account that the caller sees (`known`), or \
                           the organisation has 1,000 people (`too_many_people`)",
        ),
    ),
)]
pub(super) async fn invite(
    State(service): State<Service>,
    caller: Caller,
    Json(new): Json<NewPerson>,
) -> Result<(StatusCode, axum::Json<Link>), Problem> {
    Ok((StatusCode::CREATED, axum::Json(service.commands.invite(&caller, &new).await?)))
}

/// Makes a link with which a person chooses a new password, because they forgot theirs.
///
/// Only staff can. The link works once, for 7 days; an earlier one does not work any more.
#[utoipa::path(
    post,
    path = "/v1/people/{person}/password-link",
    operation_id = "create_password_link",
    tag = "Access",
    params(("person" = PersonId, Path, description = "The person's number")),
    responses(
        (status = 201, body = Link),
        (status = 409, body = Problem, description = "The account is disabled (`disabled`)"),
    ),
)]
pub(super) async fn password_link(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<PersonId>,
) -> Result<(StatusCode, axum::Json<Link>), Problem> {
    Ok((StatusCode::CREATED, axum::Json(service.commands.password_link(&caller, id).await?)))
}

/// Removes the second factor of a person who has lost the app and the recovery codes.
///
/// Only staff can. The person's sessions end. Make a link for a new password too, unless you are
/// sure who asks: now the password alone lets somebody in, who then sets up the next second factor.
#[utoipa::path(
    delete,
    path = "/v1/people/{person}/second-factor",
    operation_id = "reset_second_factor",
    tag = "Access",
    params(("person" = PersonId, Path, description = "The person's number")),
    responses((status = 204, description = "The person has no second factor any more")),
)]
pub(super) async fn reset_second_factor(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<PersonId>,
) -> Result<StatusCode, Problem> {
    service.commands.reset_second_factor(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the links that can still be used, newest first, without their secrets.
#[utoipa::path(
    get,
    path = "/v1/invitations",
    operation_id = "list_invitations",
    tag = "Access",
    params(Which),
    responses((status = 200, body = Page<Invitation>)),
)]
pub(super) async fn invitations(
    State(service): State<Service>,
    caller: Caller,
    Query(which): Query<Which>,
) -> Answer<Page<Invitation>> {
    caller.must_be(MAY_ADMIT)?;
    let limit = limit(which.limit)?;
    let mut db = service.database.acquire().await?;
    let found = access::invitations(&mut db, caller.organisation, which.after, limit + 1).await?;
    Ok(axum::Json(Page::of(found, limit, |invitation| invitation.id.to_string())))
}

/// Withdraws a link: it does not work any more.
#[utoipa::path(
    delete,
    path = "/v1/invitations/{invitation}",
    operation_id = "withdraw_invitation",
    tag = "Access",
    params(("invitation" = InvitationId, Path, description = "The invitation's number")),
    responses((status = 204, description = "The link is withdrawn")),
)]
pub(super) async fn withdraw_invitation(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<InvitationId>,
) -> Result<StatusCode, Problem> {
    service.commands.withdraw_invitation(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the people with an account for the pages, newest first.
#[utoipa::path(
    get,
    path = "/v1/people",
    operation_id = "list_people",
    tag = "Access",
    params(Which),
    responses((status = 200, body = Page<Person>)),
)]
pub(super) async fn people(
    State(service): State<Service>,
    caller: Caller,
    Query(which): Query<Which>,
) -> Answer<Page<Person>> {
    caller.must_be(MAY_ADMIT)?;
    let limit = limit(which.limit)?;
    let mut db = service.database.acquire().await?;
    let found = access::people(&mut db, caller.organisation, which.after, limit + 1).await?;
    Ok(axum::Json(Page::of(found, limit, |person| person.id.to_string())))
}

/// Disables an account, and ends its sessions.
///
/// The links that the person made for others do not work any more. Staff may also enable an account
/// again.
#[utoipa::path(
    patch,
    path = "/v1/people/{person}",
    operation_id = "change_person",
    tag = "Access",
    params(("person" = PersonId, Path, description = "The person's number")),
    responses((status = 200, body = Person)),
)]
pub(super) async fn change_person(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<PersonId>,
    Json(change): Json<PersonChange>,
) -> Answer<Person> {
    Ok(axum::Json(service.commands.change_person(&caller, id, &change).await?))
}

/// Lists the entries of the audit log: who changed what, newest first.
#[utoipa::path(
    get,
    path = "/v1/audit-log",
    operation_id = "read_audit_log",
    tag = "Access",
    params(Which),
    responses((status = 200, body = Page<AuditEntry>)),
)]
pub(super) async fn audit_log(
    State(service): State<Service>,
    caller: Caller,
    Query(which): Query<Which>,
) -> Answer<Page<AuditEntry>> {
    caller.must_be(&[Role::Organiser, Role::Operator, Role::Finance, Role::Staff])?;
    let limit = limit(which.limit)?;
    let mut db = service.database.acquire().await?;
    let found =
        crate::access::audit_log::list(&mut db, caller.organisation, which.after, limit + 1)
            .await?;
    Ok(axum::Json(Page::of(found, limit, |entry| entry.id.to_string())))
}
