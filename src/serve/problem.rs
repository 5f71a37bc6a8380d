//! Error answers as problem details (RFC 9457). Programs must branch on `code` only.

mod causes;

use std::time::Duration;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::authentication::Lacks;

tokio::task_local! {
    /// The ID of the current request. It is in the answer and in every log line of the request.
    pub(super) static REQUEST_ID: String;
}

/// An error answer, of type `application/problem+json`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The HTTP status, the same as that of the answer.
    status: u16,
    /// A stable code for programs, in `snake_case`.
    #[schema(example = "not_found")]
    code: &'static str,
    /// The meaning of the code, for people. The text may change.
    title: &'static str,
    /// What went wrong with this request, and what to do. The text may change.
    detail: String,
    /// The request's ID, as in the header `X-Request-Id`; find it in the logs.
    request_id: String,
    /// Whether the same request may succeed if it is sent again later.
    retryable: bool,
    /// Seconds after which to send it again, as in the header `Retry-After`.
    #[serde(skip)]
    retry_after: u64,
    /// What a session lacks whose login is not complete.
    #[serde(skip)]
    lacks: Option<Lacks>,
    /// The parts of the request that are wrong; missing if none is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Wrong>,
}

/// A part of the request that is wrong.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = WrongPart)]
pub(crate) struct Wrong {
    /// A JSON pointer into the body (such as `/credits`), or the name of a parameter or header.
    pointer: String,
    /// What is wrong with this part, for people.
    detail: String,
}

impl Wrong {
    pub(super) fn pointer(&self) -> &str {
        &self.pointer
    }
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: String) -> Self {
        let request_id = REQUEST_ID.try_with(Clone::clone).unwrap_or_default();
        let retryable = status.is_server_error();
        Self {
            status: status.as_u16(),
            code,
            title,
            detail,
            request_id,
            retryable,
            retry_after: 1,
            lacks: None,
            errors: Vec::new(),
        }
    }

    /// 422: a part of the request is not valid. `pointer` says which.
    pub(super) fn invalid(pointer: &str, detail: impl ToString) -> Self {
        let mut problem = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid",
            "Invalid request",
            detail.to_string(),
        );
        problem.errors.push(Wrong { pointer: pointer.into(), detail: detail.to_string() });
        problem
    }

    /// 400: what was sent cannot be read.
    pub(super) fn malformed(detail: impl ToString) -> Self {
        let detail = detail.to_string();
        Self::new(StatusCode::BAD_REQUEST, "malformed", "Malformed request", detail)
    }

    /// 400: the signature of a report is not right.
    pub(super) fn bad_signature(detail: impl ToString) -> Self {
        let detail = detail.to_string();
        Self::new(StatusCode::BAD_REQUEST, "bad_signature", "Signature not right", detail)
    }

    /// 401: the request has no token or session, or one that is not valid.
    pub(super) fn unauthenticated() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "Authentication required",
            "send a valid token as `Authorization: Bearer …` or `X-API-Key: …`".into(),
        )
    }

    /// 403: the caller's role does not allow the request.
    pub(super) fn forbidden(detail: impl ToString) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail.to_string())
    }

    /// 403: the login is not complete. The pages turn it into a redirection to where it goes on.
    pub(super) fn half_logged_in(lacks: Lacks) -> Self {
        let detail = "this session is not logged in completely: go on with its login".into();
        let mut problem =
            Self::new(StatusCode::FORBIDDEN, "half_logged_in", "Login not complete", detail);
        problem.lacks = Some(lacks);
        problem
    }

    /// 404: it does not exist, or the caller may not see it. The answer is the same for both.
    pub(super) fn not_found(what: impl ToString) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "Not found",
            format!("there is no {}", what.to_string()),
        )
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "Method not allowed",
            "see /v1/openapi.json for the methods of this path".into(),
        )
    }

    pub(super) fn conflict(code: &'static str, detail: impl ToString) -> Self {
        Self::new(StatusCode::CONFLICT, code, "Conflict with the present state", detail.to_string())
    }

    /// 409: another request with the same idempotency key is still running.
    pub(super) fn in_progress() -> Self {
        let mut problem = Self::conflict(
            "in_progress",
            "another request with this Idempotency-Key is still running: \
             send this one again in a moment to get its result",
        );
        problem.retryable = true;
        problem
    }

    pub(super) fn insufficient_credits(detail: String) -> Self {
        Self::new(
            StatusCode::PAYMENT_REQUIRED,
            "insufficient_credits",
            "Not enough credits",
            detail,
        )
    }

    pub(super) fn too_large(detail: String) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Request too large", detail)
    }

    /// 408: the body did not come in time.
    pub(super) fn too_late() -> Self {
        let detail = "the body of the request did not come in time: send it again";
        let mut problem =
            Self::new(StatusCode::REQUEST_TIMEOUT, "too_late", "Request too slow", detail.into());
        problem.retryable = true;
        problem
    }

    /// 410: the feed does not reach back so far.
    pub(super) fn changes_gone(forgotten: i64) -> Self {
        let detail = format!(
            "the changes up to {forgotten} are not kept any more: read the state of what you follow, \
             and go on with after=0"
        );
        Self::new(StatusCode::GONE, "changes_gone", "Changes not kept", detail)
    }

    /// 410: what the event's photos had is lost, and its archive was given up.
    pub(super) fn details_lost(detail: String) -> Self {
        Self::new(StatusCode::GONE, "details_lost", "Details lost", detail)
    }

    /// 429: the caller must send less, and come again after this time.
    pub(super) fn too_many(detail: &str, after: Duration) -> Self {
        let mut problem = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "slow_down",
            "Too many requests",
            detail.to_owned(),
        );
        problem.retryable = true;
        problem.retry_after = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        problem
    }

    pub(super) fn unavailable(code: &'static str, detail: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, "Temporarily unavailable", detail)
    }

    /// 500: a handler panicked, which is a bug.
    pub(super) fn broken() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            "this is a bug of photogate: report it with the request's ID".into(),
        )
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The page on which a login that is not complete goes on.
    pub(super) fn goes_on_at(&self) -> Option<&'static str> {
        self.lacks.map(Lacks::page)
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    pub(super) fn errors(&self) -> &[Wrong] {
        &self.errors
    }

    pub(super) fn title(&self) -> &'static str {
        self.title
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status(), axum::Json(&self)).into_response();
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        if self.status == 401 {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        if self.status == 429 {
            response.headers_mut().insert(header::RETRY_AFTER, self.retry_after.into());
        }
        // The pages turn the problem into HTML (see `pages::for_people`).
        response.extensions_mut().insert(self);
        response
    }
}
