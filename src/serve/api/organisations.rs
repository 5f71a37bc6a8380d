//! Organisations: staff creates and changes them, their own people can read them.

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Answer;
use crate::{
    access::{Caller, Role},
    catalog::organisations::{self, Organisation, Price},
    commands,
    ids::OrganisationId,
    ledger::credits::Credits,
    serve::{
        Service,
        input::{Json, Path, created},
        problem::Problem,
    },
};

/// The list of all organisations.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Organisations)]
pub(super) struct All {
    items: Vec<Organisation>,
}

/// An organisation to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "Athletics Club",
    "time_zone": "Europe/Berlin",
    "price": "0.05 EUR",
    "photos_under": "athletics-club/",
}))]
pub(super) struct NewOrganisation {
    /// The display name, 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// The ID that you have for the organisation: 1 to 200 characters. If one has it already, that
    /// one is returned as it is, and none is created.
    #[schema(min_length = 1, max_length = 200)]
    reference: Option<String>,
    /// The time zone of its months and statements, as `Europe/Berlin`.
    time_zone: String,
    /// The price of one credit, as `0.05 EUR`; if missing, the organisation cannot buy credits.
    price: Option<String>,
    /// The prefix of its photos in the store, as `athletics-club/`: it can queue no other photos.
    /// Empty: wherever no other organisation's photos are. If missing: that for the first organisation,
    /// and a directory with its name for the others.
    photos_under: Option<String>,
}

/// Lists all organisations.
#[utoipa::path(
    get,
    path = "/v1/organisations",
    operation_id = "list_organisations",
    tag = "Organisations",
    responses((status = 200, body = All)),
)]
pub(super) async fn list(State(service): State<Service>, caller: Caller) -> Answer<All> {
    caller.must_be(&[Role::Staff])?;
    let mut db = service.database.acquire().await?;
    Ok(axum::Json(All { items: organisations::list(&mut db).await? }))
}

fn price(text: &str) -> Result<Price, Problem> {
    text.parse().map_err(|error| Problem::invalid("/price", error))
}

/// Creates an organisation with an account of 0 credits. With a `reference`, the same call again
/// finds the organisation.
#[utoipa::path(
    post,
    path = "/v1/organisations",
    operation_id = "create_organisation",
    tag = "Organisations",
    responses(
        (status = 201, body = Organisation),
        (status = 200, body = Organisation, description = "There is one with this reference"),
    ),
)]
pub(super) async fn create(
    State(service): State<Service>,
    caller: Caller,
    Json(new): Json<NewOrganisation>,
) -> Result<(StatusCode, axum::Json<Organisation>), Problem> {
    let price = new.price.as_deref().map(price).transpose()?;
    let new = commands::NewOrganisation {
        name: new.name,
        reference: new.reference,
        time_zone: new.time_zone,
        price,
        photos_under: new.photos_under,
    };
    let made = service.commands.create_organisation(&caller, &new).await?;
    Ok((created(made.is_new), axum::Json(made.value)))
}

/// Shows an organisation and its settings.
#[utoipa::path(
    get,
    path = "/v1/organisations/{organisation}",
    operation_id = "get_organisation",
    tag = "Organisations",
    params(("organisation" = OrganisationId, Path, description = "The organisation's number")),
    responses((status = 200, body = Organisation)),
)]
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

/// The settings to change; settings that are missing stay as they are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"price": "0.04 EUR"}))]
#[schema(as = OrganisationChange)]
pub(super) struct Change {
    /// The display name, 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Whether its people may buy credits. The price stays when this is switched off.
    purchasing: Option<bool>,
    /// Whether it pays by a contract: its people cannot buy, and staff grant what was agreed.
    custom_billing: Option<bool>,
    /// The price of one credit, as `0.05 EUR`; an empty text stops the sale of credits.
    price: Option<String>,
    /// Number of credits that its people can buy in a month without approval.
    purchase_limit: Option<Credits>,
    /// The prefix of its photos in the store, as `athletics-club/`.
    photos_under: Option<String>,
}

/// Changes the settings of an organisation.
#[utoipa::path(
    patch,
    path = "/v1/organisations/{organisation}",
    operation_id = "change_organisation",
    tag = "Organisations",
    params(("organisation" = OrganisationId, Path, description = "The organisation's number")),
    responses((status = 200, body = Organisation)),
)]
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
        name: change.name,
        purchasing: change.purchasing,
        custom_billing: change.custom_billing,
        price: price.transpose()?,
        purchase_limit: change.purchase_limit,
        photos_under: change.photos_under,
    };
    Ok(axum::Json(service.commands.change_organisation(&caller, id, &change).await?))
}
