//! The pages, made on the server: all of them work without scripts, and move with a little of ours.

mod confirm;
mod credits;
mod event;
mod finance;
mod layout;
mod login;
mod queues;
mod settings;

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequest, Request},
    http::{HeaderValue, StatusCode, header},
    middleware::map_response,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{MethodRouter, get, post},
};
use maud::html;
use serde::de::DeserializeOwned;

use super::{Service, caller::Browser, problem::Problem};
use crate::{
    access::{self, Caller, Role},
    ids::OrganisationId,
};

/// A page, or why there is none.
type Page = Result<Html<String>, Problem>;

/// What goes wrong, as a page; whoever is not logged in is asked to.
pub(super) fn trouble(problem: Problem) -> Response {
    if problem.status() == StatusCode::UNAUTHORIZED {
        return Redirect::to("/login").into_response();
    }
    let page = layout::bare(
        problem.title(),
        html! {
            h1 { (problem.title()) }
            p { (problem.detail()) }
            p { a href="/" { "Go to the first page" } }
        },
    );
    (problem.status(), page).into_response()
}

/// Problems of pages are pages.
async fn for_people(response: Response) -> Response {
    match response.extensions().get::<Problem>() {
        Some(problem) => trouble(problem.clone()),
        None => response,
    }
}

/// A form of our own page: the body of a POST that carries the key of its session.
struct Form<T> {
    browser: Browser,
    fields: T,
}

impl<T: DeserializeOwned> FromRequest<Service> for Form<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, service: &Service) -> Result<Self, Problem> {
        #[derive(serde::Deserialize)]
        struct Keyed {
            #[serde(default)]
            form_key: String,
        }
        let (mut parts, body) = request.into_parts();
        let browser = <Browser as axum::extract::FromRequestParts<Service>>::from_request_parts(
            &mut parts, service,
        )
        .await?;
        let bytes = axum::body::Bytes::from_request(Request::from_parts(parts, body), service)
            .await
            .map_err(|rejection| Problem::too_large(rejection.body_text()))?;
        let unreadable = |error: serde_urlencoded::de::Error| Problem::invalid("", error);
        let keyed: Keyed = serde_urlencoded::from_bytes(&bytes).map_err(unreadable)?;
        // Nobody but our own pages knows it: another site can send a form, not this one.
        if keyed.form_key != access::form_key(&browser.session) {
            return Err(Problem::forbidden(
                "this form is not of this session: load the page again",
            ));
        }
        Ok(Self { browser, fields: serde_urlencoded::from_bytes(&bytes).map_err(unreadable)? })
    }
}

/// An address and a password: whoever is not known yet sends no more.
const LOGIN_MAX: usize = 16 << 10;

pub(super) fn routes() -> Router<Service> {
    Router::new()
        .route("/", get(home))
        .route(
            "/login",
            get(login::page).post(login::log_in).layer(DefaultBodyLimit::max(LOGIN_MAX)),
        )
        .route("/logout", post(login::log_out))
        .route("/organisations", get(credits::organisations))
        .route("/credits", get(credits::page))
        .route("/credits.csv", get(credits::csv))
        .route("/credits/add", get(credits::ask).post(credits::add))
        .route("/credits/live", get(credits::live))
        .route("/events", get(event::list).post(event::create))
        .route("/events/{event}", get(event::page))
        .route("/events/{event}/live", get(event::live))
        .route("/events/{event}/run", get(event::ask).post(event::run))
        .route("/events/{event}/retry", get(queues::ask_retry).post(queues::retry))
        .route("/events/{event}/settings", post(settings::save))
        .route("/events/{event}/selfie", post(settings::selfie))
        .route("/events/{event}/hold", post(queues::hold))
        .route("/events/{event}/why", get(queues::why))
        .route("/holds/{hold}/lift", post(queues::lift))
        .route("/photos/{photo}/thumbnail", get(event::thumbnail))
        .route("/queues", get(queues::page))
        .route("/failures", get(queues::failures))
        .route("/workers", get(queues::workers))
        .route("/finance", get(finance::page))
        .route("/refunds", get(finance::refunds))
        .route("/receipts/{photo}", get(finance::receipt))
        .route("/statements", get(finance::statement))
        .route("/statements.csv", get(finance::statement_csv))
        .route(
            "/assets/style.css",
            asset("text/css; charset=utf-8", include_str!("../../assets/style.css")),
        )
        .route(
            "/assets/live.js",
            asset("text/javascript; charset=utf-8", include_str!("../../assets/live.js")),
        )
        .layer(map_response(for_people))
}

fn asset(kind: &'static str, text: &'static str) -> MethodRouter<Service> {
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")];
    get(move || std::future::ready((headers, text)))
}

/// To what each comes for.
async fn home(browser: Browser) -> Redirect {
    Redirect::to(match browser.caller.role {
        Role::Organiser => "/credits",
        Role::Operator | Role::Staff => "/queues",
        Role::Finance => "/finance",
        Role::Pipeline => "/events",
    })
}

/// The organisation a page is about: the caller's own, or the one that is asked for.
fn whose(
    caller: &Caller,
    asked: Option<OrganisationId>,
) -> Result<Option<OrganisationId>, Problem> {
    if let Some(organisation) = asked {
        caller.must_see(organisation)?;
    }
    Ok(asked.or(caller.organisation))
}

/// Rows as a file to save. What a spreadsheet would take for a formula is made plain.
fn csv_file(name: &str, rows: Vec<Vec<String>>) -> Result<Response, Problem> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let written = rows.into_iter().try_for_each(|row| {
        writer.write_record(row.into_iter().map(|cell| match cell.chars().next() {
            Some('=' | '@' | '+' | '-' | '\t' | '\r' | '\n') if cell.parse::<i64>().is_err() => {
                format!("'{cell}")
            }
            _ => cell,
        }))
    });
    let trouble = |error: String| Problem::unavailable("csv", error);
    written.map_err(|error| trouble(error.to_string()))?;
    let bytes = writer.into_inner().map_err(|error| trouble(error.to_string()))?;
    let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""))
        .map_err(|error| trouble(error.to_string()))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8")),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    Ok((headers, bytes).into_response())
}
