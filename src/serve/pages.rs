//! The pages for people, rendered on the server. They work without scripts; a small script of ours
//! updates live numbers.

mod account;
mod alerts;
mod archives;
mod audit_log;
mod auto_top_up;
mod browse;
mod bulk;
mod confirm;
mod correct;
mod credits;
mod erase;
mod event;
mod events;
mod failures;
mod finance;
mod find;
mod finder;
mod invitation;
mod journey;
mod layout;
mod login;
mod login_code;
mod mail;
mod new_event;
mod organisation;
mod organisations;
mod original;
mod paces;
mod people;
mod photo;
mod photos;
mod process_photos;
mod pulse;
mod purchase;
mod purchases;
mod qr_code;
mod quality;
mod queues;
mod reason;
mod receipts;
mod refunds;
mod runs;
mod schedules;
mod second_factor;
mod selfie;
mod settings;
mod spending;
mod standing;
mod statements;
mod table;
mod table_view;
mod timeline;
mod tokens;
mod upload;
mod webhooks;
mod why;
mod workers;

use axum::{
    Router,
    extract::{FromRequest, Request, State},
    http::{Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{MethodRouter, get, post},
};
use maud::html;
use serde::de::DeserializeOwned;

use super::{Service, authentication::Browser, middleware, problem::Problem};
use crate::access::{self, Role};

/// The result of a handler: a page or a problem.
type Page = Result<Html<String>, Problem>;

/// The result of a handler with a table: a page, the table as a CSV file, or a problem.
type PageOrFile = Result<Response, Problem>;

/// Renders a problem as a page. Whoever is logged in keeps the navigation.
pub(super) fn trouble(problem: &Problem, browser: Option<&Browser>) -> Response {
    let content = html! {
        h1 { (problem.title()) }
        p { (sentence(problem.detail())) }
        @for wrong in problem.errors().iter().filter(|wrong| !wrong.pointer().is_empty()) {
            p { "Wrong field: " code { (wrong.pointer()) } }
        }
        p { "Go back to correct it, or " a href="/" { "go to the start page" } "." }
    };
    let page = match browser {
        Some(browser) => layout::page(browser, "", problem.title(), None, content),
        None => layout::bare(problem.title(), content),
    };
    (problem.status(), page).into_response()
}

/// A problem's detail as a sentence: programs read it in lower case, and without a full stop.
fn sentence(detail: &str) -> String {
    let mut rest = detail.chars();
    let first: String = rest.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if detail.ends_with(['.', '!', '?']) || detail.is_empty() { "" } else { "." };
    format!("{first}{}{end}", rest.as_str())
}

/// Turns problems into pages. Without a session, or with one whose login is not complete, redirects
/// to the login page, which leads back to the page that was asked for.
async fn for_people(State(service): State<Service>, request: Request, next: Next) -> Response {
    let wanted = (request.method() == Method::GET).then(|| request.uri().to_string());
    let headers = request.headers().clone();
    let response = next.run(request).await;
    match response.extensions().get::<Problem>() {
        Some(problem)
            if problem.status() == StatusCode::UNAUTHORIZED || problem.goes_on_at().is_some() =>
        {
            let page = problem.goes_on_at().unwrap_or("/login");
            let mut to = url::form_urlencoded::Serializer::new(String::new());
            if let Some(wanted) = wanted.filter(|wanted| wanted != "/") {
                to.append_pair("to", &wanted);
            }
            let to = to.finish();
            let query = if to.is_empty() { String::new() } else { format!("?{to}") };
            Redirect::to(&format!("{page}{query}")).into_response()
        }
        // Nobody is looked up for the sake of a page where there are too many requests, or trouble.
        Some(problem)
            if problem.status().is_client_error()
                && problem.status() != StatusCode::TOO_MANY_REQUESTS =>
        {
            trouble(problem, Browser::of(&headers, &service).await.as_ref())
        }
        Some(problem) => trouble(problem, None),
        None => response,
    }
}

/// The body of a POST from a form of our own pages. It must carry the form key of its session.
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
        // Only our own pages know the form key, so forms of other sites are refused (CSRF).
        if keyed.form_key != access::form_key(&browser.session) {
            return Err(Problem::forbidden(
                "the form belongs to another session: load the page again",
            ));
        }
        Ok(Self { browser, fields: serde_urlencoded::from_bytes(&bytes).map_err(unreadable)? })
    }
}

pub(super) fn routes(service: &Service) -> Router<Service> {
    Router::new()
        .route("/", get(home))
        .route("/login", get(login::page).post(login::log_in))
        .route("/login/code", get(login_code::page).post(login_code::log_in))
        .route("/logout", post(login::log_out))
        .route("/invitation/{secret}", get(invitation::page).post(invitation::choose))
        .route("/account", get(account::page))
        .route("/account/time-zone", post(account::set_time_zone))
        .route("/account/password", post(account::change_password))
        .route("/account/mail", get(mail::own).post(mail::set_own))
        .route("/mail/{ticket}/confirm", get(mail::ask_confirm).post(mail::confirm))
        .route("/mail/{ticket}/unsubscribe", get(mail::ask_unsubscribe).post(mail::unsubscribe))
        .route("/account/second-factor", get(second_factor::page))
        .route("/account/second-factor/begin", post(second_factor::start))
        .route("/account/second-factor/confirm", post(second_factor::finish))
        .route("/account/sessions/end", post(account::end_other_sessions))
        .route("/account/sessions/{session}/end", post(account::end_session))
        .route("/credits", get(credits::page))
        .route("/credits/add", get(purchase::ask).post(purchase::add))
        .route("/credits/auto-top-up", get(auto_top_up::ask).post(auto_top_up::set))
        .route("/credits/auto-top-up/off", post(auto_top_up::switch_off))
        .route("/credits/live", get(credits::live))
        .route("/spending", get(spending::page))
        .route("/spending/order", get(spending::ask_order).post(spending::set_order))
        .route("/purchases", get(purchases::page))
        .route("/payments/{payment}/settle", post(purchases::settle))
        .route("/purchases/{request}/approve", get(purchases::ask_approve).post(purchases::approve))
        .route("/purchases/{request}/refuse", get(purchases::ask_refuse).post(purchases::refuse))
        .route("/events", get(events::page).post(new_event::create))
        .route("/events/new", get(new_event::page))
        .route("/events/{event}", get(event::page))
        .route("/events/{event}/live", get(event::live))
        .route("/events/{event}/run", get(process_photos::ask).post(process_photos::run))
        .route("/events/{event}/browse", get(browse::page))
        .route("/events/{event}/upload", upload::form_route())
        .route("/events/{event}/retry", get(failures::ask_retry).post(failures::retry))
        .route("/events/{event}/settings", post(settings::save))
        .route("/events/{event}/selfie", post(selfie::find))
        .route("/events/{event}/restore", post(archives::restore))
        .route("/events/{event}/erase", post(erase::erase))
        .route("/events/{event}/finder", post(finder::set))
        .route("/events/{event}/undo", post(runs::undo))
        .route("/runs/{run}", get(credits::run::page))
        .route("/runs/{run}/cancel", post(runs::cancel))
        .route("/runs/{run}/first", post(runs::first))
        .route("/events/{event}/budget", post(spending::set_budget))
        .route("/events/{event}/pace", post(paces::set_event))
        .route("/events/{event}/quality", get(quality::page))
        .route("/events/{event}/schedules", get(schedules::page).post(schedules::create))
        .route("/events/{event}/schedules/new", get(schedules::ask))
        .route("/schedules/{schedule}/move", post(schedules::change))
        .route("/schedules/{schedule}/cancel", get(schedules::ask_cancel).post(schedules::cancel))
        .route("/events/{event}/timeline", get(timeline::page))
        .route("/events/{event}/why", get(why::page))
        .route("/photos/{photo}", get(photo::page))
        .route("/photos/{photo}/correct", get(correct::page))
        .route("/photos/{photo}/numbers", post(correct::save_numbers))
        .route("/photos/{photo}/numbers/take-back", post(correct::take_numbers_back))
        .route("/photos/{photo}/turn", post(correct::save_turn))
        .route("/photos/{photo}/turn/take-back", post(correct::take_turn_back))
        .route("/photos/{photo}/thumbnail", get(photos::thumbnail))
        .route("/photos/{photo}/original", get(original::file))
        .route("/queues", get(queues::page))
        .route("/queues/bulk", get(bulk::ask).post(bulk::apply))
        .route("/queues/undo", post(bulk::undo))
        .route("/failures", get(failures::page))
        .route("/workers", get(workers::page))
        .route("/archives", get(archives::page))
        .route("/finance", get(finance::page))
        .route("/finance/months", get(finance::months::page))
        .route("/refunds", get(refunds::page))
        .route("/receipts", get(receipts::find))
        .route("/receipts/{photo}", get(receipts::page))
        .route("/statements", get(statements::page))
        .route("/alerts", get(alerts::page).post(alerts::add))
        .route("/alerts/{alert}/remove", post(alerts::remove))
        .route("/webhooks", get(webhooks::page).post(webhooks::add))
        .route("/webhooks/{webhook}", get(webhooks::show).post(webhooks::save))
        .route("/webhooks/{webhook}/enable", post(webhooks::enable))
        .route("/webhooks/{webhook}/ping", post(webhooks::ping))
        .route("/webhooks/{webhook}/rotate", post(webhooks::rotate))
        .route("/webhooks/{webhook}/replay", post(webhooks::replay))
        .route("/webhooks/{webhook}/remove", get(webhooks::ask_remove).post(webhooks::remove))
        .merge(set_up())
        .route("/audit-log", get(audit_log::page))
        .route(
            "/assets/style.css",
            asset("text/css; charset=utf-8", include_str!("../../assets/style.css")),
        )
        .route("/robots.txt", asset("text/plain; charset=utf-8", ROBOTS))
        .route("/assets/live.js", asset(SCRIPT, include_str!("../../assets/live.js")))
        .route("/assets/idiomorph.js", asset(SCRIPT, include_str!("../../assets/idiomorph.js")))
        .route("/assets/upload.js", asset(SCRIPT, include_str!("../../assets/upload.js")))
        // Within `for_people`, so that a panic is answered with a page too.
        .layer(middleware::caught())
        .layer(from_fn_with_state(service.clone(), for_people))
        .merge(find::routes())
        // A script calls this: it reads problems as programs do.
        .route("/events/{event}/files/{name}", get(upload::show).put(upload::put))
}

/// The finders are for people who have their address, and not for search engines.
const ROBOTS: &str = "User-agent: *\nDisallow: /find/\n";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The pages of organisations, and of who has access to them.
fn set_up() -> Router<Service> {
    Router::new()
        .route("/organisations", get(organisations::page).post(organisation::create))
        .route("/organisations/new", get(organisation::ask_new))
        .route("/organisations/{organisation}", get(organisation::page))
        .route(
            "/organisations/{organisation}/credits",
            get(organisation::ask_grant).post(organisation::book_grant),
        )
        .route("/organisations/{organisation}/settings", post(organisation::save))
        .route("/organisations/{organisation}/pace", post(paces::set_organisation))
        .route("/people", get(people::page))
        .route("/people/invite", post(people::invite))
        .route("/people/invitations/{invitation}/withdraw", post(people::withdraw))
        .route("/people/{person}/disable", get(people::ask_disable).post(people::disable))
        .route("/people/{person}/enable", post(people::enable))
        .route("/people/{person}/mail", get(mail::of_person).post(mail::set))
        .route("/people/{person}/password", post(people::password_link))
        .route("/people/{person}/second-factor", post(people::reset_second_factor))
        .route("/tokens", get(tokens::page).post(tokens::create))
        .route("/tokens/{token}/revoke", get(tokens::ask_revoke).post(tokens::revoke))
}

fn asset(kind: &'static str, text: &'static str) -> MethodRouter<Service> {
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")];
    get(move || std::future::ready((headers, text)))
}

/// Redirects to the start page of the caller's role.
async fn home(browser: Browser) -> Redirect {
    Redirect::to(match browser.caller.role {
        Role::Organiser => "/credits",
        Role::Operator => "/queues",
        Role::Staff => "/organisations",
        Role::Finance => "/finance",
        Role::Pipeline => "/events",
    })
}
