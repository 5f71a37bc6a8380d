//! Limits on the size of a request, on the number of requests at once, and on the time of an
//! answer. What one caller may take of it is in `shares.rs`.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{
    BoxError,
    body::{Body, to_bytes},
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::serve::{problem::Problem, shares, uploads};

/// Maximum size of a body: enough for 10,000 keys of the usual length, and for a phone's selfie.
pub(super) const BODY_MAX: usize = 16 << 20;
/// Maximum time for an answer, longer than any healthy request takes.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Maximum time for a body to come, once it is read. Whoever sends it has taken a place.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// Maximum number of requests that are answered or wait for their turn. Others wait for a place.
static AT_ONCE: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1024)));
/// Logins have a concurrency limit of their own and a short time limit, so that strangers cannot
/// starve users.
static LOGINS_AT_ONCE: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(64)));
/// Maximum time for the answer to a login, and for its body to come.
const LOGIN_ANSWER_MAX: Duration = Duration::from_secs(5);
/// Maximum size of the body of a login.
const LOGIN_BODY_MAX: usize = 16 << 10;
/// Uploads have places of their own, because they last as long as a slow line needs. Each may take
/// 100 MiB of the disk.
static UPLOADS_AT_ONCE: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(32)));
/// Maximum time for the answer to an upload, and for its body to come.
const UPLOAD_ANSWER_MAX: Duration = Duration::from_secs(15 * 60);
const UPLOAD_TIME_MAX: Duration = Duration::from_secs(14 * 60);
/// So have those who look for their photos: they are strangers too, and many come at once when an
/// event is over. What one event and one network may take of it is in `visitors.rs`.
static VISITORS_AT_ONCE: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(256)));
/// Maximum time that a request waits for a place, before it gets status 429.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Time that a refusal waits. Whoever asks again at once would otherwise be refused thousands of
/// times a second, and that takes the processor from others.
const REFUSAL_WAIT: Duration = Duration::from_millis(100);

/// Answers a request within the limits. Otherwise the answer is a problem.
pub(super) async fn within(request: Request, next: Next) -> Response {
    let answer = answered(request, next).await.into_response();
    if matches!(answer.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::UNAUTHORIZED) {
        sleep(REFUSAL_WAIT).await;
    }
    answer
}

async fn answered(request: Request, next: Next) -> Result<Response, Problem> {
    let (request, places, most) = if is_login(request.uri().path()) {
        (with_body(request).await?, &LOGINS_AT_ONCE, LOGIN_ANSWER_MAX)
    } else if uploads::is_upload(request.method(), request.uri().path()) {
        let request = request.map(|body| in_time(body, UPLOAD_TIME_MAX));
        (request, &UPLOADS_AT_ONCE, UPLOAD_ANSWER_MAX)
    } else {
        let is_visit = request.uri().path().starts_with("/find/");
        let places = if is_visit { &VISITORS_AT_ONCE } else { &AT_ONCE };
        (request.map(|body| in_time(body, BODY_TIME_MAX)), places, ANSWER_MAX)
    };
    let _place = shares::place(places, Instant::now() + WAIT_MAX).await?;
    timeout(most, shares::in_turn(next.run(request))).await.map_err(|_elapsed| {
        let detail = format!("the request took over {} s: ask for less at once", most.as_secs());
        Problem::unavailable("too_slow", detail)
    })
}

/// Whether strangers may send a password to this path, or use a link in a mail.
fn is_login(path: &str) -> bool {
    path == "/login"
        || ["/login/", "/invitation/", "/mail/"].iter().any(|place| path.starts_with(place))
}

/// Reads the body of a login, before a place is taken: strangers who send half of it must not keep
/// others out.
async fn with_body(request: Request) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    let read = timeout(LOGIN_ANSWER_MAX, to_bytes(body, LOGIN_BODY_MAX)).await;
    let body = read.map_err(|_elapsed| Problem::too_late())?;
    let body = body.map_err(|_| Problem::too_large("this is no login".into()))?;
    Ok(Request::from_parts(parts, Body::from(body)))
}

/// Ends a body with an error if it has not come in time. The time begins when it is first read.
fn in_time(body: Body, most: Duration) -> Body {
    let begin = (Some(body.into_data_stream()), None);
    Body::from_stream(stream::unfold(begin, move |(body, until)| async move {
        let mut body = body?;
        let until = until.unwrap_or_else(|| Instant::now() + most);
        match timeout_at(until, body.next()).await {
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), (Some(body), Some(until)))),
            Ok(Some(Err(error))) => Some((Err(BoxError::from(error)), (None, None))),
            Ok(None) => None,
            Err(_elapsed) => {
                let error = BoxError::from("the body of the request did not come in time");
                Some((Err(error), (None, None)))
            }
        }
    }))
}
