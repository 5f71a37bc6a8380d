//! The finder of an event: athletes look for their photos, by bib number or by a selfie. They have
//! no account, so the page has no session, no cookie, and nothing of the event but thumbnails.
//!
//! Searches are POSTs: a bib number in an address would stand in the logs of proxies, and in the
//! history of a browser that others use. The address of the page is secret too, so it is in no log
//! (middleware/request.rs), and no other site gets it as the referrer (middleware/headers.rs).

mod view;

use std::net::SocketAddr;

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, Multipart, Request, State, multipart::MultipartError},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::Deserialize;
use tracing::Instrument;

use super::{middleware, photos::small};
use crate::{
    catalog::{
        finders::{self, Opened},
        photos,
        search::{self, ByFace, FOUND_MAX, SelfieError},
        start_list,
    },
    ids::PhotoId,
    serve::{
        Service,
        input::Path,
        problem::Problem,
        visitors::{Taken, Visit, Wants, arrive, nothing},
    },
};
use view::{Asked, Found};

/// Maximum size of the form with a number.
const FORM_MAX: usize = 1 << 10;
/// How long a browser keeps a thumbnail: while its person looks. No proxy keeps it.
const CACHE: &str = "private, max-age=600";

pub(super) fn routes() -> Router<Service> {
    Router::new()
        .route("/find/{key}", get(page).post(by_number))
        // Whoever loads the page with the results again by its address begins anew.
        .route("/find/{key}/selfie", post(by_selfie).get(begin_anew))
        .route("/find/{key}/photos/{photo}", get(thumbnail))
        .layer(middleware::caught())
        .layer(from_fn(for_visitors))
}

/// Nothing below /find/ is listed by search engines, and problems are told in a page for people who
/// know nothing of this service.
async fn for_visitors(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let mut response = match response.extensions().get::<Problem>() {
        Some(problem) => {
            let wait = response.headers().get(header::RETRY_AFTER).cloned();
            let seconds = wait.as_ref().and_then(|wait| wait.to_str().ok()).unwrap_or_default();
            let mut page =
                (problem.status(), view::trouble(problem.status(), seconds)).into_response();
            page.headers_mut().extend(wait.map(|wait| (header::RETRY_AFTER, wait)));
            page
        }
        None => response,
    };
    let robots = HeaderName::from_static("x-robots-tag");
    response.headers_mut().insert(robots, HeaderValue::from_static("noindex, nofollow"));
    response
}

/// The address, the network and the key of a visitor.
type Comes = (State<Service>, ConnectInfo<SocketAddr>, Path<String>, HeaderMap);

async fn visit((service, peer, key, headers): &Comes, wants: Wants) -> Result<Visit, Problem> {
    arrive(service, *peer, headers, wants)?.enter(service, &key.0).await
}

/// The page, before anything is searched.
async fn page(comes: Comes) -> Result<Html<String>, Problem> {
    let visit = visit(&comes, Wants::Page).await?;
    Ok(shown(&comes, &visit.open, Asked::Nothing))
}

async fn begin_anew(comes: Comes) -> Result<Redirect, Problem> {
    visit(&comes, Wants::Page).await?;
    let (_, _, Path(key), _) = &comes;
    Ok(Redirect::to(&format!("/find/{key}")))
}

fn shown((service, _, Path(key), _): &Comes, open: &Opened, asked: Asked) -> Html<String> {
    view::page(&format!("/find/{key}"), open, service.config.support.as_ref(), asked)
}

/// The page again, with what was wrong.
fn wrong(comes: &Comes, open: &Opened, what: &'static str) -> Response {
    let page = shown(comes, open, Asked::Wrong(what));
    (StatusCode::UNPROCESSABLE_ENTITY, page).into_response()
}

/// The page again: it says that its photos are archived.
fn archived(comes: &Comes, open: &Opened) -> Response {
    (StatusCode::CONFLICT, shown(comes, open, Asked::Nothing)).into_response()
}

#[derive(Deserialize)]
struct Number {
    #[serde(default)]
    bib: String,
}

/// Searches by exactly this number: who begins to type one must not see the photos of others.
async fn by_number(comes: Comes, body: Body) -> Result<Response, Problem> {
    let (State(service), peer, Path(key), headers) = &comes;
    let arrived = arrive(service, *peer, headers, Wants::Number)?;
    let body = to_bytes(body, FORM_MAX).await.map_err(Problem::malformed)?;
    let visit = arrived.enter(service, key).await?;
    let open = &visit.open;
    if open.archived {
        return Ok(archived(&comes, open));
    }
    let form: Number = serde_urlencoded::from_bytes(&body).map_err(Problem::malformed)?;
    let Some(number) = start_list::number(&form.bib) else {
        return Ok(wrong(&comes, open, "A bib number has at most ten letters and digits."));
    };
    let mut db = service.database.acquire().await?;
    let found = search::by_bib(&mut db, open.event, &number, false).await?;
    let photos: Vec<_> = found.iter().map(|one| one.photo).collect();
    let pictures = finders::pictures(&mut db, open.event, &photos).await?;
    let (sure, unsure) = pictures
        .into_iter()
        .partition(|picture| found.iter().any(|one| one.photo == picture.photo && one.sure));
    let found = Found { is_all: found.len() < FOUND_MAX, sure, unsure };
    Ok(shown(&comes, open, Asked::Number(number, found)).into_response())
}

/// What a visitor has sent with a selfie.
#[derive(Default)]
struct Sent {
    photo: Bytes,
    agreed: bool,
}

impl Sent {
    async fn read(mut parts: Multipart) -> Result<Self, Problem> {
        let unreadable = |error: MultipartError| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(error.body_text()),
            _ => Problem::malformed(error.body_text()),
        };
        let mut sent = Self::default();
        while let Some(part) = parts.next_field().await.map_err(unreadable)? {
            match part.name() {
                Some("selfie") => sent.photo = part.bytes().await.map_err(unreadable)?,
                Some("consent") => sent.agreed = part.bytes().await.map_err(unreadable)? == "yes",
                _ => {}
            }
        }
        Ok(sent)
    }
}

/// Searches by a selfie, which is not kept.
async fn by_selfie(comes: Comes, parts: Multipart) -> Result<Response, Problem> {
    let visit = visit(&comes, Wants::Selfie).await?;
    let open = &visit.open;
    // As if there were no such page: the form is not there either.
    if !open.face_search {
        return Err(nothing());
    }
    if open.archived {
        return Ok(archived(&comes, open));
    }
    let sent = Sent::read(parts).await?;
    if !sent.agreed {
        let what = "Tick the box first: without your consent, the photo is not compared.";
        return Ok(wrong(&comes, open, what));
    }
    if sent.photo.is_empty() {
        return Ok(wrong(&comes, open, "Choose a photo of your face."));
    }
    let eyes = comes.0.visitors.take_eyes(open.event).await?;
    let found = match look(&comes.0, &visit, sent.photo, eyes).await? {
        Ok(found) => found,
        Err(what) => return Ok(wrong(&comes, open, what)),
    };
    let photos: Vec<_> = found.iter().map(|one| one.photo).collect();
    let mut db = comes.0.database.acquire().await?;
    let sure = finders::pictures(&mut db, open.event, &photos).await?;
    let found = Found { is_all: found.len() < FOUND_MAX, sure, unsure: Vec::new() };
    Ok(shown(&comes, open, Asked::Selfie(found)).into_response())
}

/// Looks at a selfie, and searches; or says what is wrong with the photo. It goes on when the
/// visitor has gone: otherwise each who goes would cost a child.
async fn look(
    service: &Service,
    visit: &Visit,
    photo: Bytes,
    eyes: Taken,
) -> Result<Result<Vec<ByFace>, &'static str>, Problem> {
    let (service, key, of) = (service.clone(), visit.key.clone(), visit.open.organisation);
    let looking = async move {
        let _eyes = eyes;
        let pool = service.eyes().await.map_err(SelfieError::from)?;
        let face = match search::selfie(pool, of, photo.to_vec()).await {
            Ok(face) => face,
            Err(error @ SelfieError::Pool(_)) => return Err(error.into()),
            Err(SelfieError::NoFace) => {
                return Ok(Err(
                    "No face was found on the photo: take one from the front, in good light.",
                ));
            }
            Err(SelfieError::TooSmall) => {
                return Ok(Err("The face on the photo is too small: take it from closer."));
            }
            Err(SelfieError::Photo(_) | SelfieError::Crashed(_)) => {
                return Ok(Err("This file cannot be read as a photo: choose a JPEG or PNG."));
            }
        };
        Ok(Ok(service.commands.search_face_as_visitor(&key, &face).await?))
    };
    tokio::spawn(looking.in_current_span()).await.map_err(|_| Problem::broken())?
}

/// A thumbnail of a photo of this event.
async fn thumbnail(
    State(service): State<Service>,
    peer: ConnectInfo<SocketAddr>,
    Path((key, photo)): Path<(String, PhotoId)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let visit = arrive(&service, peer, &headers, Wants::Picture)?.enter(&service, &key).await?;
    let event = {
        let _door = service.visitors.door().await?;
        photos::event_of(&mut *service.database.acquire().await?, photo).await?
    };
    if event != Some(visit.open.event) {
        return Err(nothing());
    }
    small(&service, photo, CACHE).await
}
