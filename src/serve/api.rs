//! The HTTP API, version 1. The OpenAPI document is made from the attributes of the handlers.

mod access;
mod alerts;
mod auto_top_up;
pub(super) mod books;
mod changes;
mod corrections;
pub(super) mod credits;
mod docs;
mod document;
mod events;
pub(super) mod failures;
mod finders;
mod mailboxes;
mod months;
mod organisations;
mod payments;
pub(super) mod photos;
mod purchases;
mod quality;
mod schedules;
mod timeline;
pub(super) mod uploads;
pub(super) mod queues;
pub(super) mod runs;
pub(super) mod search;
mod spending;
pub(super) mod top_ups;
mod webhook_calls;
mod webhooks;
mod why;

use axum::Router;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Service, live, problem::Problem, reads::Page};

pub(super) use docs::routes as documents;

/// The result of a handler: a JSON answer or a problem.
type Answer<T> = Result<axum::Json<T>, Problem>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "photogate",
        description = "Background jobs for event photos, paid with credits. Errors are \
                       `application/problem+json`; programs must branch on `code` only. The guide \
                       is on `/docs`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    paths(super::payments::report),
    components(schemas(
        crate::ledger::refunds::By,
        crate::queue::status::Sort,
        super::live::Standing,
    )),
    tags(
        (name = "Runs", description = "Queue photos, and follow the runs"),
        (name = "Events", description = "Events and their settings"),
        (name = "Photos", description = "The state of photos, and what was found on them"),
        (name = "Credits", description = "An organisation's credits, top-ups and history"),
        (name = "Spending", description = "Which events get the credits, and how many"),
        (name = "Queues", description = "Queues, holds, failures and workers"),
        (name = "Changes", description = "What happened, as a feed to read and as calls of webhooks"),
        (name = "Webhook calls", description = "What photogate sends to your webhooks"),
        (name = "Books", description = "Receipts, refunds and checks of the books, for finance"),
        (name = "Organisations", description = "Organisations and their settings"),
        (name = "Access", description = "Who may do what, and who did what"),
    )
)]
struct Head;

fn described() -> OpenApiRouter<Service> {
    OpenApiRouter::with_openapi(Head::openapi())
        .routes(routes!(runs::create))
        .routes(routes!(runs::show))
        .routes(routes!(runs::photos))
        .routes(routes!(runs::cancel))
        .routes(routes!(runs::first))
        .routes(routes!(schedules::create))
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::change, schedules::cancel))
        .routes(routes!(events::list, events::create))
        .routes(routes!(events::show, events::change, events::delete))
        .routes(routes!(events::start_list))
        .routes(routes!(finders::show, finders::set))
        .routes(routes!(events::erasures, events::erase))
        .routes(routes!(uploads::show, uploads::put))
        .routes(routes!(live::event))
        .routes(routes!(photos::list))
        .routes(routes!(photos::show))
        .routes(routes!(corrections::numbers))
        .routes(routes!(corrections::take_numbers_back))
        .routes(routes!(corrections::turn))
        .routes(routes!(corrections::take_turn_back))
        .routes(routes!(search::bib))
        .routes(routes!(search::selfie))
        .routes(routes!(changes::list))
        .routes(routes!(changes::change))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::add))
        .routes(routes!(alerts::remove))
        .routes(routes!(mailboxes::list))
        .routes(routes!(mailboxes::set))
        .routes(routes!(webhooks::list))
        .routes(routes!(webhooks::add))
        .routes(routes!(webhooks::change, webhooks::remove))
        .routes(routes!(webhooks::rotate))
        .routes(routes!(webhooks::ping))
        .routes(routes!(webhooks::deliveries))
        .routes(routes!(webhooks::replay))
        .routes(routes!(organisations::list, organisations::create))
        .routes(routes!(organisations::show, organisations::change))
        .routes(routes!(live::organisation))
        .routes(routes!(credits::balance))
        .routes(routes!(auto_top_up::show, auto_top_up::set, auto_top_up::switch_off))
        .routes(routes!(top_ups::purchase))
        .routes(routes!(purchases::list))
        .routes(routes!(purchases::approve))
        .routes(routes!(purchases::refuse))
        .routes(routes!(payments::list))
        .routes(routes!(payments::settle))
        .routes(routes!(top_ups::grant))
        .routes(routes!(top_ups::adjust))
        .routes(routes!(credits::history))
        .routes(routes!(credits::months))
        .routes(routes!(credits::days))
        .routes(routes!(credits::statement))
        .routes(routes!(credits::statement_as_csv))
        .routes(routes!(credits::statement_as_pdf))
        .routes(routes!(months::show))
        .routes(routes!(months::as_csv))
        .routes(routes!(spending::show))
        .routes(routes!(spending::set_order))
        .routes(routes!(spending::set_budget, spending::remove_budget))
        .routes(routes!(spending::set_event_pace))
        .routes(routes!(spending::set_organisation_pace))
        .routes(routes!(queues::list))
        .routes(routes!(queues::totals))
        .routes(routes!(queues::bulk))
        .routes(routes!(queues::undo_bulk))
        .routes(routes!(queues::workers))
        .routes(routes!(queues::hold))
        .routes(routes!(queues::lift))
        .routes(routes!(failures::list))
        .routes(routes!(failures::retry))
        .routes(routes!(queues::skip))
        .routes(routes!(queues::restore))
        .routes(routes!(queues::undoable))
        .routes(routes!(queues::undo))
        .routes(routes!(quality::of_event))
        .routes(routes!(timeline::of_event))
        .routes(routes!(why::event))
        .routes(routes!(why::organisation))
        .routes(routes!(why::photo))
        .routes(routes!(books::receipt))
        .routes(routes!(books::refunds))
        .routes(routes!(books::refunded_photos))
        .routes(routes!(books::reconciliations, books::reconcile))
        .routes(routes!(access::tokens, access::create_token))
        .routes(routes!(access::revoke_token))
        .routes(routes!(access::people, access::invite))
        .routes(routes!(access::change_person))
        .routes(routes!(access::password_link))
        .routes(routes!(access::reset_second_factor))
        .routes(routes!(access::invitations))
        .routes(routes!(access::withdraw_invitation))
        .routes(routes!(access::audit_log))
}

/// The routes of the API, and the OpenAPI document that describes them.
pub(super) fn routes() -> (Router<Service>, utoipa::openapi::OpenApi) {
    let (router, document) = described().split_for_parts();
    (router, document::completed(document))
}

/// The OpenAPI 3.1 document of the API.
pub fn document() -> utoipa::openapi::OpenApi {
    routes().1
}
