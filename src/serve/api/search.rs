//! Searches for photos by bib number or by face.

use axum::{body::Bytes, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use crate::serve::reads::{bib_number, by_selfie};
use crate::{
    access::Caller,
    catalog::{
        events,
        search::{self, ByBib, ByFace, SAME_PERSON},
    },
    commands::MAY_SEARCH_FACES,
    ids::EventId,
    serve::{
        Service,
        input::{Path, Query},
        problem::Problem,
    },
};

/// The bib number to search for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Number {
    /// The bib number: letters and digits, at most ten; upper or lower case.
    #[param(example = "A207")]
    number: String,
    /// If true, also finds numbers that begin with `number`.
    #[serde(default)]
    prefix: bool,
}

/// Photos with the bib number, at most 1,000, highest score first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FoundByBib {
    items: Vec<ByBib>,
}

/// Finds the photos of an event on which a bib number was read.
#[utoipa::path(
    get,
    path = "/v1/events/{event}/search/bib",
    operation_id = "search_bib",
    tag = "Photos",
    params(("event" = EventId, Path, description = "The event's number"), Number),
    responses((status = 200, body = FoundByBib)),
)]
pub(super) async fn bib(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Query(asked): Query<Number>,
) -> Answer<FoundByBib> {
    let mut db = service.database.acquire().await?;
    caller.must_see_event(event, events::find(&mut db, event).await?)?;
    let number = bib_number(&asked.number)?;
    let items = search::by_bib(&mut db, event, &number, asked.prefix).await?;
    Ok(axum::Json(FoundByBib { items }))
}

/// How similar the faces must be.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Alike {
    /// The minimum cosine similarity, from -1 to 1; 0.45 if missing. From 0.45 on, two faces are
    /// most likely of one person.
    #[param(minimum = -1.0, maximum = 1.0)]
    score_min: Option<f32>,
}

/// Photos with a face similar to that of the selfie, at most 1,000, most similar first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FoundByFace {
    items: Vec<ByFace>,
}

/// Finds the photos of an event that show the person of a selfie.
///
/// If the selfie has several faces, the largest one is used. The selfie is not kept.
#[utoipa::path(
    post,
    path = "/v1/events/{event}/search/selfie",
    operation_id = "search_selfie",
    tag = "Photos",
    params(("event" = EventId, Path, description = "The event's number"), Alike),
    request_body(
        content = Vec<u8>,
        content_type = "application/octet-stream",
        description = "A photo: JPEG, PNG, WebP, GIF or TIFF",
    ),
    responses(
        (status = 200, body = FoundByFace),
        (status = 409, body = Problem, description = "The event's face search is off"),
    ),
)]
pub(super) async fn selfie(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Query(asked): Query<Alike>,
    photo: Bytes,
) -> Answer<FoundByFace> {
    caller.must_be(MAY_SEARCH_FACES)?;
    let score_min = asked.score_min.unwrap_or(SAME_PERSON);
    if !(-1.0..=1.0).contains(&score_min) {
        return Err(Problem::invalid("score_min", "score_min must be between -1 and 1"));
    }
    by_selfie(&service, &caller, event, photo, score_min)
        .await
        .map(|items| axum::Json(FoundByFace { items }))
}
