//! Photos, found by a number or by a face.

use axum::{body::Bytes, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use crate::serve::reads::{bib_number, by_selfie};
use crate::{
    access::{Caller, Role},
    catalog::{
        events,
        search::{self, ByBib, ByFace, SAME_PERSON},
    },
    ids::EventId,
    serve::{
        Service,
        input::{Path, Query},
        problem::Problem,
    },
};

/// Which number.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Number {
    /// As people write it: letters and digits.
    #[param(example = "A207")]
    number: String,
    /// Also the numbers that begin so.
    #[serde(default)]
    prefix: bool,
}

/// Photos with a number, at most 1,000; the surest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FoundByBib {
    items: Vec<ByBib>,
}

/// The photos of an event with a bib number.
#[utoipa::path(get, path = "/v1/events/{event}/search/bib", tag = "Photos", params(("event" = EventId, Path, description = "Of the event"), Number),
    responses((status = 200, body = FoundByBib)))]
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

/// How alike.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Alike {
    /// The least cosine of two faces; from 0.45 on they are most likely one person's.
    #[param(minimum = -1.0, maximum = 1.0)]
    score_min: Option<f32>,
}

/// Photos with a face like that of the selfie, at most 1,000; most alike first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FoundByFace {
    items: Vec<ByFace>,
}

/// The photos of an event with the face that is nearest on a selfie. The selfie is not kept.
#[utoipa::path(post, path = "/v1/events/{event}/search/selfie", tag = "Photos", params(("event" = EventId, Path, description = "Of the event"), Alike),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "A JPEG, PNG, WebP, GIF or TIFF"),
    responses((status = 200, body = FoundByFace), (status = 409, body = Problem, description = "The event's face search is off")))]
pub(super) async fn selfie(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Query(asked): Query<Alike>,
    photo: Bytes,
) -> Answer<FoundByFace> {
    caller.must_be(&[Role::Organiser, Role::Pipeline, Role::Staff])?;
    let score_min = asked.score_min.unwrap_or(SAME_PERSON);
    if !(-1.0..=1.0).contains(&score_min) {
        return Err(Problem::invalid("score_min", "score_min is between -1 and 1"));
    }
    by_selfie(&service, &caller, event, photo, score_min)
        .await
        .map(|items| axum::Json(FoundByFace { items }))
}
