//! Organisations: for staff to make, and for their people to look at.

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Answer;
use crate::{
    access::{Caller, Role},
    catalog::organisations::{self, Organisation, Price},
    commands,
    ids::OrganisationId,
    serve::{
        Service,
        input::{Json, Path},
        problem::Problem,
    },
};

/// All organisations.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct All {
    items: Vec<Organisation>,
}

/// A new organisation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Athletics Club", "time_zone": "Europe/Berlin", "price": "0.05 EUR", "photos_under": "athletics-club/"}))]
pub(super) struct NewOrganisation {
    /// As people call it: 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// Whose months are these, as in `Europe/Berlin`.
    time_zone: String,
    /// What a credit costs, as in `0.05 EUR`; without, nothing can be bought.
    price: Option<String>,
    /// Where its photos are in the store: its people can queue no others. Empty: anywhere, for who has the store alone.
    photos_under: String,
}

/// The organisations.
#[utoipa::path(get, path = "/v1/organisations", tag = "Organisations", responses((status = 200, body = All)))]
pub(super) async fn list(State(service): State<Service>, caller: Caller) -> Answer<All> {
    caller.must_be(&[Role::Staff])?;
    let mut db = service.database.acquire().await?;
    Ok(axum::Json(All { items: organisations::list(&mut db).await? }))
}

fn price(text: &str) -> Result<Price, Problem> {
    text.parse().map_err(|error| Problem::invalid("/price", error))
}

/// Makes an organisation, with an account of 0 credits.
#[utoipa::path(post, path = "/v1/organisations", tag = "Organisations", responses((status = 201, body = Organisation)))]
pub(super) async fn create(
    State(service): State<Service>,
    caller: Caller,
    Json(new): Json<NewOrganisation>,
) -> Result<(StatusCode, axum::Json<Organisation>), Problem> {
    let price = new.price.as_deref().map(price).transpose()?;
    let (name, time_zone, photos_under) = (new.name, new.time_zone, new.photos_under);
    let new = commands::NewOrganisation { name, time_zone, price, photos_under };
    let made = service.commands.create_organisation(&caller, &new).await?;
    Ok((StatusCode::CREATED, axum::Json(made)))
}

/// An organisation.
#[utoipa::path(get, path = "/v1/organisations/{organisation}", tag = "Organisations",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation")), responses((status = 200, body = Organisation)))]
pub(super) async fn show(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
) -> Answer<Organisation> {
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    let found = organisations::find(&mut db, id).await?;
    found.map(axum::Json).ok_or_else(|| Problem::not_found(format!("organisation {id}")))
}

/// What to change; what is left away stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"price": "0.04 EUR"}))]
#[schema(as = OrganisationChange)]
pub(super) struct Change {
    /// What a credit costs, as in `0.05 EUR`; empty: nothing can be bought any more.
    price: Option<String>,
    /// Where its photos are in the store.
    photos_under: Option<String>,
}

/// Changes an organisation.
#[utoipa::path(patch, path = "/v1/organisations/{organisation}", tag = "Organisations",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation")), responses((status = 200, body = Organisation)))]
pub(super) async fn change(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    Json(change): Json<Change>,
) -> Answer<Organisation> {
    let price = change.price.map(|text| match text.as_str() {
        "" => Ok(None),
        text => price(text).map(Some),
    });
    let change = commands::OrganisationChange {
        price: price.transpose()?,
        photos_under: change.photos_under,
    };
    Ok(axum::Json(service.commands.change_organisation(&caller, id, &change).await?))
}
