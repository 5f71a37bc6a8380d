//! Where photos stand, and what was seen on them.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, Page};
use crate::serve::reads::{bib_number, event_of_photo};
use crate::{
    access::Caller,
    catalog::{
        events,
        photos::{self, Filter, Photo},
    },
    ids::{EventId, PhotoId},
    serve::{
        Service,
        input::{Path, Query, limit},
        problem::Problem,
    },
};

/// Which photos.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Only in this state, for either operation.
    pub(crate) state: Option<photos::State>,
    /// Only with a bib number that begins so.
    pub(crate) bib: Option<String>,
    /// The key of the last photo of the page before.
    pub(crate) after: Option<String>,
    /// Rows, at most.
    #[param(minimum = 1, maximum = 200)]
    pub(crate) limit: Option<i64>,
}

/// The photos of an event, by key.
#[utoipa::path(get, path = "/v1/events/{event}/photos", tag = "Photos", params(("event" = EventId, Path, description = "Of the event"), Which),
    responses((status = 200, body = Page<Photo>)))]
pub(super) async fn list(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Query(which): Query<Which>,
) -> Answer<Page<Photo>> {
    let limit = limit(which.limit)?;
    let bib = which.bib.as_deref().map(bib_number).transpose()?;
    let mut db = service.database.acquire().await?;
    caller.must_see_event(event, events::find(&mut db, event).await?)?;
    let after = which.after.as_deref();
    let filter =
        Filter { state: which.state, bib: bib.as_deref(), photo: None, after, most: limit + 1 };
    let found = photos::list(&mut db, event, filter).await?;
    Ok(axum::Json(Page::of(found, limit, |photo| photo.key.clone())))
}

/// A photo.
#[utoipa::path(get, path = "/v1/photos/{photo}", tag = "Photos", params(("photo" = PhotoId, Path, description = "Of the photo")),
    responses((status = 200, body = Photo)))]
pub(super) async fn show(
    State(service): State<Service>,
    caller: Caller,
    Path(photo): Path<PhotoId>,
) -> Answer<Photo> {
    let mut db = service.database.acquire().await?;
    let event = event_of_photo(&mut db, &caller, photo).await?;
    let filter = Filter { photo: Some(photo), most: 1, ..Filter::default() };
    let found = photos::list(&mut db, event, filter).await?.pop();
    found.map(axum::Json).ok_or_else(|| Problem::not_found(format!("photo {photo}")))
}
