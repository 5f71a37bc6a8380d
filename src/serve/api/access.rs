//! Who may do what, and who did what.

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use sqlx::Connection;
use utoipa::{IntoParams, ToSchema};

use super::{Answer, Page};
use crate::{
    access::{
        self, Caller, Person, Role, Secret, Token,
        audit_log::{self, Deed},
    },
    ids::{OrganisationId, PersonId, TokenId},
    serve::{
        Service,
        input::{Json, Path, Query, limit},
        problem::Problem,
    },
};

const MAY_ADMIT: &[Role] = &[Role::Organiser, Role::Staff];

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

/// A token to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "upload pipeline", "role": "pipeline", "organisation": 1}))]
pub(super) struct NewToken {
    /// What it is for: 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What it may do.
    role: Role,
    /// The only organisation it sees; pipelines and organisers must have one.
    organisation: Option<OrganisationId>,
}

/// A token that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Made {
    /// Its number.
    id: TokenId,
    /// Shown once: keep it.
    secret: Secret,
}

/// Nobody gives away more than they have.
fn may_admit(
    caller: &Caller,
    role: Role,
    organisation: Option<OrganisationId>,
) -> Result<Option<OrganisationId>, Problem> {
    caller.must_be(MAY_ADMIT)?;
    if let Some(organisation) = organisation {
        caller.must_see(organisation)?;
    }
    let theirs = [Role::Pipeline, Role::Organiser, Role::Finance];
    if caller.role != Role::Staff && !theirs.contains(&role) {
        return Err(Problem::forbidden("only staff admits staff and operators"));
    }
    Ok(organisation.or(caller.organisation))
}

/// Makes a token. Its secret is in the answer, and nowhere else.
#[utoipa::path(post, path = "/v1/tokens", tag = "Access", responses((status = 201, body = Made)))]
pub(super) async fn create_token(
    State(service): State<Service>,
    caller: Caller,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, axum::Json<Made>), Problem> {
    let organisation = may_admit(&caller, new.role, new.organisation)?;
    let mut db = service.database.acquire().await?;
    let mut tx = db.begin().await?;
    let (id, secret) =
        access::create_token(&mut tx, &new.name, new.role, organisation, &caller.actor).await?;
    let detail = serde_json::json!({ "name": new.name, "role": new.role });
    audit_log::record(
        &mut tx,
        &caller,
        organisation,
        "token.create",
        &format!("token {id}"),
        detail,
    )
    .await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, axum::Json(Made { id, secret })))
}

/// Revokes a token, and ends the sessions that were begun with it.
#[utoipa::path(delete, path = "/v1/tokens/{token}", tag = "Access", params(("token" = TokenId, Path, description = "Of the token")),
    responses((status = 204, description = "It is of no use any more")))]
pub(super) async fn revoke_token(
    State(service): State<Service>,
    caller: Caller,
    Path(token): Path<TokenId>,
) -> Result<StatusCode, Problem> {
    caller.must_be(MAY_ADMIT)?;
    let mut db = service.database.acquire().await?;
    let mut tx = db.begin().await?;
    let organisation = access::revoke_token(&mut tx, token, caller.organisation)
        .await?
        .ok_or_else(|| Problem::not_found(format!("token {token}")))?;
    audit_log::record(
        &mut tx,
        &caller,
        organisation,
        "token.revoke",
        &format!("token {token}"),
        serde_json::json!({}),
    )
    .await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Somebody who shall log in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "anna@club.example", "password": "correct horse battery", "role": "organiser", "organisation": 1}))]
pub(super) struct NewPerson {
    /// With which they log in.
    email: String,
    /// 12 to 200 characters.
    #[schema(min_length = 12, max_length = 200)]
    password: String,
    /// What they may do.
    role: Role,
    /// The only organisation they see; organisers must have one.
    organisation: Option<OrganisationId>,
}

/// Gives somebody an account for the pages.
#[utoipa::path(post, path = "/v1/people", tag = "Access", responses((status = 201, description = "They can log in"), (status = 409, body = Problem, description = "The address has an account")))]
pub(super) async fn create_person(
    State(service): State<Service>,
    caller: Caller,
    Json(new): Json<NewPerson>,
) -> Result<StatusCode, Problem> {
    let organisation = may_admit(&caller, new.role, new.organisation)?;
    if new.role == Role::Pipeline {
        return Err(Problem::invalid("/role", "a pipeline is a program: make a token for it"));
    }
    let mut db = service.database.acquire().await?;
    let mut tx = db.begin().await?;
    access::create_person(&mut tx, &new.email, &new.password, new.role, organisation).await?;
    let detail = serde_json::json!({ "role": new.role });
    let subject: String = new.email.chars().take(200).collect();
    audit_log::record(&mut tx, &caller, organisation, "person.create", &subject, detail).await?;
    tx.commit().await?;
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

/// What changes about somebody; null stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"disabled": true}))]
pub(super) struct PersonChange {
    /// Whether they are kept from logging in.
    disabled: Option<bool>,
    /// 12 to 200 characters.
    #[schema(min_length = 12, max_length = 200)]
    password: Option<String>,
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
    caller.must_be(MAY_ADMIT)?;
    let missing = || Problem::not_found(format!("person {id}"));
    let mut db = service.database.acquire().await?;
    let mut tx = db.begin().await?;
    let person = access::find_person(&mut tx, &id.to_string()).await?.ok_or_else(missing)?;
    if caller.organisation.is_some_and(|own| person.organisation != Some(own)) {
        return Err(missing());
    }
    may_admit(&caller, person.role, person.organisation)?;
    // Whoever sets a password can log in with it, as somebody else.
    if caller.role != Role::Staff && (change.password.is_some() || change.disabled == Some(false)) {
        return Err(Problem::forbidden(
            "only staff sets passwords of others, or lets somebody in again",
        ));
    }
    if let Some(password) = &change.password {
        access::set_password(&mut tx, id, password).await?;
    }
    if let Some(disabled) = change.disabled {
        access::disable_person(&mut tx, id, disabled).await?;
    }
    let detail = serde_json::json!({ "disabled": change.disabled, "password": change.password.map(|_| "changed") });
    audit_log::record(
        &mut tx,
        &caller,
        person.organisation,
        "person.change",
        &person.email,
        detail,
    )
    .await?;
    let person = access::find_person(&mut tx, &id.to_string()).await?.ok_or_else(missing)?;
    tx.commit().await?;
    Ok(axum::Json(person))
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
