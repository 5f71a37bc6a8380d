//! What each error of the library, and each request that cannot be read, is as a problem.

use axum::{
    extract::rejection::{JsonRejection, PathRejection, QueryRejection},
    http::StatusCode,
};

use super::Problem;
use crate::{
    access::{AccessError, Denied},
    catalog::{
        archive::ArchiveError, corrections::UprightError, photo_store::StoreError,
        search::SelfieError, start_list::StartListError,
    },
    commands::CommandError,
    database,
    ledger::top_up::TopUpError,
    queue::enqueue::EnqueueError,
};

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        let said = || {
            error.as_database_error().map(|error| error.message().to_owned()).unwrap_or_default()
        };
        if database::is_code(&error, database::NOT_FOUND) {
            // "no event 7"
            return Self::not_found(said().trim_start_matches("no "));
        }
        if database::is_code(&error, database::BAD_ARGUMENT) {
            return Self::invalid("", said());
        }
        if database::is_code(&error, database::LIMIT_REACHED) {
            return Self::conflict("limit_reached", said());
        }
        if database::is_code(&error, database::ARCHIVED) {
            return Self::conflict("event_archived", said());
        }
        if database::is_code(&error, database::DETAILS_LOST) {
            return Self::details_lost(said());
        }
        if database::is_code(&error, database::TOO_SLOW) {
            tracing::warn!(%error, "a request took too long");
            let detail = "the query took too long: ask for a shorter period or for fewer rows";
            return Self::unavailable("too_slow", detail.into());
        }
        if database::is_refusal(&error) {
            tracing::info!(%error, "the database refused a request");
            return Self::invalid("", "a value is too long, too large, or has the wrong format");
        }
        tracing::error!(%error, "a database query failed");
        Self::unavailable(
            "database_unavailable",
            "the database does not answer: try again in a moment".into(),
        )
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Forbidden(detail) => Self::forbidden(detail),
            Denied::NotFound(what) => Self::not_found(what),
        }
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Denied(denied) => denied.into(),
            CommandError::NotFound(what) => Self::not_found(what),
            CommandError::Invalid { pointer, detail } => Self::invalid(&pointer, detail),
            CommandError::Conflict { code, detail } => Self::conflict(code, detail),
            CommandError::InProgress => Self::in_progress(),
            CommandError::InsufficientCredits(detail) => Self::insufficient_credits(detail),
            CommandError::TooMuch(detail) => Self::too_large(detail),
            CommandError::StoreUnavailable => {
                Self::unavailable("store_unavailable", error.to_string())
            }
            CommandError::Enqueue(error) => error.into(),
            CommandError::Access(error) => error.into(),
            CommandError::StartList(error) => error.into(),
            CommandError::TopUp(error) => error.into(),
            CommandError::Database(error) => error.into(),
        }
    }
}

impl From<TopUpError> for Problem {
    fn from(error: TopUpError) -> Self {
        match error {
            TopUpError::NoOrganisation(organisation) => {
                Self::not_found(format!("organisation {organisation}"))
            }
            TopUpError::KeyReused(_) => {
                let mut problem = Self::invalid("Idempotency-Key", error);
                problem.code = "idempotency_key_reused";
                problem
            }
            TopUpError::NoPrice(_) => Self::conflict(
                "purchasing_disabled",
                "this organisation cannot buy credits now: contact support to add credits",
            ),
            TopUpError::TooManyRequests(_) => Self::conflict("limit_reached", error),
            TopUpError::NotEnoughCredits(_) => Self::conflict("not_enough_credits", error),
            TopUpError::BadAmount(..) => Self::invalid("/credits", error),
            TopUpError::Database(error) => error.into(),
        }
    }
}

impl From<EnqueueError> for Problem {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::TooMany(_) => Self::invalid("/keys", error),
            EnqueueError::Key { number, .. } => {
                Self::invalid(&format!("/keys/{}", number - 1), error)
            }
            EnqueueError::LargePayload { .. } | EnqueueError::OddPayload => {
                Self::invalid("/payloads", error)
            }
            EnqueueError::NoEvent(event) => Self::not_found(format!("event {event}")),
            EnqueueError::Database(error) => error.into(),
        }
    }
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Database(error) => error.into(),
            AccessError::Known(_) => Self::conflict("known", error),
            AccessError::NoOrganisation(_) | AccessError::Belongs(_) => {
                Self::invalid("/organisation", error)
            }
            AccessError::TooManyTokens(_) => Self::conflict("too_many_tokens", error),
            AccessError::TooManyPipelines(_) => Self::conflict("too_many_pipelines", error),
            AccessError::Login => Self::invalid("/login", error),
            AccessError::Days => Self::invalid("/expires_in_days", error),
            AccessError::Name => Self::invalid("/name", error),
            AccessError::Address(_) => Self::invalid("/email", error),
            AccessError::TooManyPeople(_) => Self::conflict("too_many_people", error),
            AccessError::Ended => Self::forbidden(error.to_string()),
            AccessError::Weak(_) | AccessError::Password => Self::invalid("/password", error),
        }
    }
}

impl From<ArchiveError> for Problem {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Database(error) => error.into(),
            ArchiveError::Store(_)
            | ArchiveError::StoreDown(_)
            | ArchiveError::Damaged { .. }
            | ArchiveError::Key(_) => {
                tracing::error!(%error, "an archive could not be read");
                let detail = "the archive of this event cannot be read now: try again in a moment";
                Self::unavailable("store_unavailable", detail.into())
            }
        }
    }
}

impl From<StartListError> for Problem {
    fn from(error: StartListError) -> Self {
        Self::invalid("", error)
    }
}

impl From<SelfieError> for Problem {
    fn from(error: SelfieError) -> Self {
        match error {
            SelfieError::Pool(error) => {
                tracing::error!(%error, "the sandbox for selfies did not start");
                Self::unavailable("sandbox_unavailable", "selfies cannot be processed now".into())
            }
            SelfieError::Photo(_)
            | SelfieError::NoFace
            | SelfieError::TooSmall
            | SelfieError::Crashed(_) => Self::invalid("", error),
        }
    }
}

impl From<UprightError> for Problem {
    fn from(error: UprightError) -> Self {
        match error {
            UprightError::Pool(error) => {
                tracing::error!(%error, "the sandbox for photos to turn did not start");
                Self::unavailable("sandbox_unavailable", "photos cannot be turned now".into())
            }
            UprightError::Store(StoreError::Missing(key)) => Self::conflict(
                "photo_missing",
                format!(
                    "the store does not have the photo {key}: upload it again, and then turn it"
                ),
            ),
            UprightError::Store(
                error @ (StoreError::Trouble(_)
                | StoreError::Address { .. }
                | StoreError::Directory { .. }),
            ) => {
                tracing::warn!(%error, "a photo could not be turned");
                let detail = "the photo store does not answer: try again in a moment";
                Self::unavailable("store_unavailable", detail.into())
            }
            UprightError::Store(StoreError::TooLarge { .. } | StoreError::Outside(_))
            | UprightError::Key(_)
            | UprightError::Photo(_)
            | UprightError::Crashed(_) => {
                Self::conflict("cannot_be_turned", format!("{error}: upload another file"))
            }
        }
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::too_large(rejection.body_text());
        }
        if rejection.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            return Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Unsupported media type",
                "send the body as application/json".into(),
            );
        }
        let mut problem = Self::invalid("", rejection.body_text());
        if rejection.status() == StatusCode::BAD_REQUEST {
            problem.status = 400;
            problem.code = "malformed";
            problem.title = "Malformed request";
        }
        problem
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid("query", rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(_: PathRejection) -> Self {
        Self::not_found("such path: an ID in it has the wrong format")
    }
}
