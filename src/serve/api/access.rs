//! Tokens, people and the audit log.

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, Page};
use crate::{
    access::{self, Caller, Person, Role, Token, audit_log::AuditEntry},
    commands::{CreatedToken, MAY_ADMIT, NewPerson, NewToken, PersonChange},
    ids::{PersonId, TokenId},
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

/// Creates an account with which a person can log in to the pages.
#[utoipa::path(
    post,
    path = "/v1/people",
    tag = "Access",
    responses(
        (status = 201, description = "The account was created; the person can log in"),
        (status = 409, body = Problem, description = "This e-mail address has an account already"),
    ),
)]
pub(super) async fn create_person(
    State(service): State<Service>,
    caller: Caller,
    Json(new): Json<NewPerson>,
) -> Result<StatusCode, Problem> {
    service.commands.create_person(&caller, &new).await?;
    Ok(StatusCode::CREATED)
}

/// Lists the people with an account for the pages, newest first.
#[utoipa::path(
    get,
    path = "/v1/people",
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
/// Staff may also enable an account again, or set a new password.
#[utoipa::path(
    patch,
    path = "/v1/people/{person}",
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
