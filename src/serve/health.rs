//! Health checks for orchestrators and proxies: `/livez` and `/readyz`.

use std::time::Duration;

use axum::{Router, extract::State, http::StatusCode, routing::get};

use super::Service;
use crate::database;

pub(super) fn routes() -> Router<Service> {
    Router::new().route("/livez", get(|| async { "alive\n" })).route("/readyz", get(ready))
}

/// Not ready while draining, or while the database does not answer within two seconds. Paused
/// queues do not matter here.
///
/// A store that does not work leaves it ready, because most pages need none, but it is said.
async fn ready(State(service): State<Service>) -> (StatusCode, String) {
    if service.draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    let asked = sqlx::query_scalar!(r#"SELECT 1 AS "one!""#).fetch_one(&service.database);
    match database::in_time(Duration::from_secs(2), asked).await {
        Ok(_) => (StatusCode::OK, service.store_state.line()),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n".to_owned()),
    }
}
