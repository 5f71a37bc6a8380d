//! Who may do what, and who did what.

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Answer, Page};
use crate::{
    access::{
        self, Caller, Person, Role, Token,
        audit_log::{self, Deed},
    },
    commands::{CreatedToken, MAY_ADMIT, NewPerson, NewToken, PersonChange},
    ids::{PersonId, TokenId},
    serve::{
        Service,
        input::{Json, Path, Query, limit},
        problem::Problem,
    },
};

/// Tokens, without their secrets.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tokens {
    items: Vec<Token>,
}

/// The tokens, newest first, at most 1,000.
#[utoipa::path(get, path = "/v1/tokens", tag = "Access", responses((status = 200, body = Tokens)))]
pub(super) async fn tokens(State(service): State<Service>, caller: Caller) -> Answer<Tokens> {
    caller.must_be(MAY_ADMIT)?;
    let mut db = service.database.acquire().await?;
    Ok(axum::Json(Tokens { items: access::tokens(&mut db, caller.organisation).await? }))
}

/// Makes a token. Its secret is in the answer, and nowhere else.
#[utoipa::path(post, path = "/v1/tokens", tag = "Access", responses((status = 201, body = CreatedToken)))]
pub(super) async fn create_token(
    State(service): State<Service>,
    caller: Caller,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, axum::Json<CreatedToken>), Problem> {
    let made = service.commands.create_token(&caller, &new).await?;
    Ok((StatusCode::CREATED, axum::Json(made)))
}

/// Revokes a token, and ends the sessions that were begun with it.
#[utoipa::path(delete, path = "/v1/tokens/{token}", tag = "Access", params(("token" = TokenId, Path, description = "Of the token")),
    responses((status = 204, description = "It is of no use any more")))]
pub(super) async fn revoke_token(
    State(service): State<Service>,
    caller: Caller,
    Path(token): Path<TokenId>,
) -> Result<StatusCode, Problem> {
    service.commands.revoke_token(&caller, token).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives somebody an account for the pages.
#[utoipa::path(post, path = "/v1/people", tag = "Access", responses((status = 201, description = "They can log in"), (status = 409, body = Problem, description = "The address has an account")))]
pub(super) async fn create_person(
    State(service): State<Service>,
    caller: Caller,
    Json(new): Json<NewPerson>,
) -> Result<StatusCode, Problem> {
    service.commands.create_person(&caller, &new).await?;
    Ok(StatusCode::CREATED)
}

/// Those with an account.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct People {
    items: Vec<Person>,
}

/// Those with an account for the pages, the newest first, at most 1,000.
#[utoipa::path(get, path = "/v1/people", tag = "Access", responses((status = 200, body = People)))]
pub(super) async fn people(State(service): State<Service>, caller: Caller) -> Answer<People> {
    caller.must_be(MAY_ADMIT)?;
    let mut db = service.database.acquire().await?;
    Ok(axum::Json(People { items: access::people(&mut db, caller.organisation).await? }))
}

/// Keeps somebody from logging in; staff also lets them again, or gives them another password. Their sessions end.
#[utoipa::path(patch, path = "/v1/people/{person}", tag = "Access", params(("person" = PersonId, Path, description = "Of the person")),
    responses((status = 200, body = Person)))]
pub(super) async fn change_person(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<PersonId>,
    Json(change): Json<PersonChange>,
) -> Answer<Person> {
    Ok(axum::Json(service.commands.change_person(&caller, id, &change).await?))
}

/// Which deeds.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// `next` of the page before.
    after: Option<i64>,
    /// Rows, at most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
}

/// Who changed what, newest first.
#[utoipa::path(get, path = "/v1/deeds", tag = "Access", params(Which), responses((status = 200, body = Page<Deed>)))]
pub(super) async fn deeds(
    State(service): State<Service>,
    caller: Caller,
    Query(which): Query<Which>,
) -> Answer<Page<Deed>> {
    caller.must_be(&[Role::Organiser, Role::Operator, Role::Finance, Role::Staff])?;
    let limit = limit(which.limit)?;
    let mut db = service.database.acquire().await?;
    let found = audit_log::list(&mut db, caller.organisation, which.after, limit + 1).await?;
    Ok(axum::Json(Page::of(found, limit, |deed| deed.id.to_string())))
}
