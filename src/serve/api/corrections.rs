//! Corrections of what was found on a photo.

use axum::{extract::State, http::StatusCode};

use super::{Answer, photos::one};
use crate::{
    access::Caller,
    catalog::photos::Photo,
    commands::{CorrectNumbers, CorrectTurn},
    ids::PhotoId,
    serve::{
        Service,
        input::{Json, Path},
        problem::Problem,
        turning::correct_turn,
    },
};

/// Corrects the bib numbers of a photo.
///
/// The body names all numbers that a person sees on it. They count until somebody corrects them
/// again, or takes the correction back; no run of the models replaces them. It costs nothing.
#[utoipa::path(
    put,
    path = "/v1/photos/{photo}/bibs",
    operation_id = "correct_numbers",
    tag = "Photos",
    params(("photo" = PhotoId, Path, description = "The photo's ID, a UUID")),
    responses((status = 200, body = Photo)),
)]
pub(super) async fn numbers(
    State(service): State<Service>,
    caller: Caller,
    Path(photo): Path<PhotoId>,
    Json(new): Json<CorrectNumbers>,
) -> Answer<Photo> {
    service.commands.correct_numbers(&caller, photo, &new).await?;
    one(&service, &caller, photo).await
}

/// Takes the correction of a photo's bib numbers back.
///
/// What the models have found counts again. Without a correction, nothing changes.
#[utoipa::path(
    delete,
    path = "/v1/photos/{photo}/bibs/correction",
    operation_id = "take_back_numbers",
    tag = "Photos",
    params(("photo" = PhotoId, Path, description = "The photo's ID, a UUID")),
    responses((status = 204, description = "There is no correction any more")),
)]
pub(super) async fn take_numbers_back(
    State(service): State<Service>,
    caller: Caller,
    Path(photo): Path<PhotoId>,
) -> Result<StatusCode, Problem> {
    service.commands.take_numbers_back(&caller, photo).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Corrects the turn of a photo, and writes the upright copy into the store.
///
/// It counts until somebody corrects it again, or takes the correction back; no run of AI Rotation
/// replaces it. The original stays as it is. It costs nothing.
#[utoipa::path(
    put,
    path = "/v1/photos/{photo}/turn",
    operation_id = "correct_turn",
    tag = "Photos",
    params(("photo" = PhotoId, Path, description = "The photo's ID, a UUID")),
    responses(
        (status = 200, body = Photo),
        (status = 409, body = Problem, description = "The store does not have the original"),
    ),
)]
pub(super) async fn turn(
    State(service): State<Service>,
    caller: Caller,
    Path(photo): Path<PhotoId>,
    Json(new): Json<CorrectTurn>,
) -> Answer<Photo> {
    correct_turn(&service, &caller, photo, new).await?;
    one(&service, &caller, photo).await
}

/// Takes the correction of a photo's turn back.
///
/// What AI Rotation has found counts again. Without a correction, nothing changes.
#[utoipa::path(
    delete,
    path = "/v1/photos/{photo}/turn/correction",
    operation_id = "take_back_turn",
    tag = "Photos",
    params(("photo" = PhotoId, Path, description = "The photo's ID, a UUID")),
    responses((status = 204, description = "There is no correction any more")),
)]
pub(super) async fn take_turn_back(
    State(service): State<Service>,
    caller: Caller,
    Path(photo): Path<PhotoId>,
) -> Result<StatusCode, Problem> {
    service.commands.take_turn_back(&caller, photo).await?;
    Ok(StatusCode::NO_CONTENT)
}
