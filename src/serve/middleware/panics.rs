//! A panic of a handler is a bug of ours. It ends one request, and that request gets an answer.

use std::any::Any;

use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;

use crate::serve::problem::Problem;

/// The layer that turns a panic into a problem.
pub(in crate::serve) fn caught() -> CatchPanicLayer<fn(Box<dyn Any + Send>) -> Response> {
    CatchPanicLayer::custom(answer as fn(_) -> _)
}

/// The panic hook has written the message and the place; the log has the ID of the request.
fn answer(_panic: Box<dyn Any + Send>) -> Response {
    tracing::error!("a handler panicked");
    Problem::broken().into_response()
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, extract::Request, http::StatusCode, routing::get};
    use tower::Service;

    use super::*;

    async fn a_bug() -> &'static str {
        panic!("a bug")
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_with_a_problem() {
        let mut routes: Router = Router::new().route("/", get(a_bug)).layer(caught());

        let answer = routes.call(Request::new(Body::empty())).await.unwrap();

        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(answer.extensions().get::<Problem>().is_some(), "pages turn it into HTML");
    }
}
