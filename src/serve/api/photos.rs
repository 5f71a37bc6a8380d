//! The state of photos, and what was found on them.

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

/// Filters for photos.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Only photos that are in this state, for either operation.
    pub(crate) state: Option<photos::State>,
    /// Only photos with a bib number that begins with this text.
    pub(crate) bib: Option<String>,
    /// True: only photos with a bib number that is not sure.
    #[serde(default)]
    pub(crate) unsure: bool,
    /// `next` of the previous page, a photo's key; without it, the first page.
    pub(crate) after: Option<String>,
    /// Maximum number of photos; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    pub(crate) limit: Option<i64>,
}

/// Lists the photos of an event, sorted by key.
#[utoipa::path(
    get,
    path = "/v1/events/{event}/photos",
    operation_id = "list_photos",
    tag = "Photos",
    params(("event" = EventId, Path, description = "The event's number"), Which),
    responses((status = 200, body = Page<Photo>)),
)]
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
    let filter = Filter {
        state: which.state,
        bib: bib.as_deref(),
        unsure: which.unsure,
        photo: None,
        after,
        most: limit + 1,
    };
    let found = photos::list(&mut db, event, filter).await?;
    Ok(axum::Json(Page::of(found, limit, |photo| photo.key.clone())))
}

/// Shows a photo: its states, and what was found on it.
#[utoipa::path(
    get,
    path = "/v1/photos/{photo}",
    operation_id = "get_photo",
    tag = "Photos",
    params(("photo" = PhotoId, Path, description = "The photo's ID, a UUID")),
    responses((status = 200, body = Photo)),
)]
pub(super) async fn show(
    State(service): State<Service>,
    caller: Caller,
    Path(photo): Path<PhotoId>,
) -> Answer<Photo> {
    one(&service, &caller, photo).await
}

/// A photo as it is now.
pub(super) async fn one(service: &Service, caller: &Caller, photo: PhotoId) -> Answer<Photo> {
    let mut db = service.database.acquire().await?;
    let event = event_of_photo(&mut db, caller, photo).await?;
    let filter = Filter { photo: Some(photo), most: 1, ..Filter::default() };
    let found = photos::list(&mut db, event, filter).await?.pop();
    found.map(axum::Json).ok_or_else(|| Problem::not_found(format!("photo {photo}")))
}
