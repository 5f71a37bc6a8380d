//! Limits on the size of a request, on the number of requests at once, and on the time of an
//! answer.

use std::time::Duration;

use axum::{extract::Request, http::Uri, middleware::Next, response::Response};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::serve::problem::Problem;

/// Maximum size of a body: enough for 10,000 keys of the usual length, and for a phone's selfie.
pub(super) const BODY_MAX: usize = 16 << 20;
/// Maximum time for an answer, longer than any healthy request takes.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Maximum number of requests that are answered at once. Others wait for a place.
static AT_ONCE: Semaphore = Semaphore::const_new(512);
/// Logins have a concurrency limit of their own and a short time limit, so that strangers cannot
/// starve users.
static LOGINS_AT_ONCE: Semaphore = Semaphore::const_new(64);
/// Maximum time for the answer to a login.
const LOGIN_ANSWER_MAX: Duration = Duration::from_secs(5);
/// Files and statements read many rows. Only so many run at once, so that small requests do not
/// wait for them.
static REPORTS_AT_ONCE: Semaphore = Semaphore::const_new(4);
/// Maximum time that a request waits for a place, before it gets status 429.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Reports take longer, so they also wait longer for each other.
const REPORT_WAIT_MAX: Duration = Duration::from_secs(10);

/// Answers a request within the limits. Otherwise the answer is a problem.
pub(super) async fn within(request: Request, next: Next) -> Result<Response, Problem> {
    let is_login = request.uri().path() == "/login";
    let (places, most) =
        if is_login { (&LOGINS_AT_ONCE, LOGIN_ANSWER_MAX) } else { (&AT_ONCE, ANSWER_MAX) };
    // Taken first: a request that waits for a report's place must not occupy another place.
    let _report = if !is_login && is_report(request.uri()) {
        Some(place(&REPORTS_AT_ONCE, REPORT_WAIT_MAX).await?)
    } else {
        None
    };
    let _place = place(places, WAIT_MAX).await?;
    timeout(most, next.run(request)).await.map_err(|_elapsed| {
        let detail = format!("the request took over {} s: ask for less at once", most.as_secs());
        Problem::unavailable("too_slow", detail)
    })
}

/// Takes a place, and waits for it if all are taken.
async fn place(
    places: &'static Semaphore,
    most: Duration,
) -> Result<SemaphorePermit<'static>, Problem> {
    let taken = timeout(most, places.acquire()).await.ok().and_then(Result::ok);
    taken.ok_or_else(|| Problem::too_many("the service is busy: try again in a minute"))
}

fn is_report(uri: &Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    uri.path().contains("/statements")
        || url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "format")
}
