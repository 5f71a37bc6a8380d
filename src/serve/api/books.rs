//! For finance: receipts, refunds, and checks that the books balance.

use axum::{extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Answer, Page};
use crate::serve::reads::event_of_photo;
use crate::{
    access::{Caller, Role},
    catalog::archive,
    commands::{Checked, MAY_CHECK_BOOKS},
    cursor::Cursor,
    ids::{JobId, OrganisationId, PhotoId},
    ledger::{
        past_checks::{self, Reconciliation},
        receipt::Receipt,
        refunds::{self, By, Filter, Refund, Refunds},
    },
    serve::{
        Service,
        input::{Path, Query, after, limit},
        problem::Problem,
    },
};

const MAY_READ: &[Role] = &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];

/// Shows everything that happened to the credit of a photo.
///
/// For each time the photo was queued: who queued it, the reservation, the attempts, the commit or
/// refund, and the links that seal the entries.
#[utoipa::path(
    get,
    path = "/v1/photos/{photo}/receipt",
    operation_id = "get_receipt",
    tag = "Books",
    params(("photo" = PhotoId, Path, description = "The photo's ID, a UUID")),
    responses((status = 200, body = Receipt)),
)]
pub(super) async fn receipt(
    State(service): State<Service>,
    caller: Caller,
    Path(photo): Path<PhotoId>,
) -> Answer<Receipt> {
    caller.must_be(MAY_READ)?;
    let mut db = service.database.acquire().await?;
    event_of_photo(&mut db, &caller, photo).await?;
    drop(db);
    let receipt = archive::receipt(&service.database, &service.store, photo, None).await?;
    receipt.map(axum::Json).ok_or_else(|| Problem::not_found(format!("photo {photo}")))
}

/// Filters for refunds.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Only refunds at or after this instant; if missing, those of the last 31 days.
    pub(crate) since: Option<DateTime<Utc>>,
    /// Only refunds before this instant.
    pub(crate) until: Option<DateTime<Utc>>,
    /// Only refunds of this organisation (its number).
    pub(crate) organisation: Option<OrganisationId>,
}

impl Which {
    pub(crate) fn filter(&self, caller: &Caller) -> Result<Filter, Problem> {
        if let Some(organisation) = self.organisation {
            caller.must_see(organisation)?;
        }
        let month = chrono::TimeDelta::days(31);
        Ok(Filter {
            since: self.since.unwrap_or_else(|| Utc::now() - month).max(DateTime::UNIX_EPOCH),
            until: self.until.map(|until| until.clamp(DateTime::UNIX_EPOCH, Utc::now() + month)),
            organisation: self.organisation.or(caller.organisation),
        })
    }
}

/// How refunds are grouped.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Counted {
    /// One group for each reason, event or organisation; by reason if missing.
    by: Option<By>,
}

/// The groups of refunds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RefundCounts)]
pub(super) struct Counts {
    items: Vec<Refunds>,
}

/// Counts refunded credits by reason, event or organisation.
///
/// Refunds of archived events are left out: the history and statements have their credits.
#[utoipa::path(
    get,
    path = "/v1/refunds",
    operation_id = "count_refunds",
    tag = "Books",
    params(Which, Counted),
    responses((status = 200, body = Counts)),
)]
pub(super) async fn refunds(
    State(service): State<Service>,
    caller: Caller,
    Query(which): Query<Which>,
    Query(counted): Query<Counted>,
) -> Answer<Counts> {
    caller.must_be(MAY_READ)?;
    let filter = which.filter(&caller)?;
    let mut db = service.database.acquire().await?;
    let items = refunds::count(&mut db, filter, counted.by.unwrap_or(By::Reason)).await?;
    Ok(axum::Json(Counts { items }))
}

/// Which page of the refunds.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct At {
    /// `next` of the previous page; without it, the first page.
    after: Option<String>,
    /// Maximum number of refunds; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
}

/// Lists refunds, one for each photo, oldest first.
///
/// Refunds of archived events are left out: the history and statements have their credits.
#[utoipa::path(
    get,
    path = "/v1/refunds/photos",
    operation_id = "list_refunds",
    tag = "Books",
    params(Which, At),
    responses((status = 200, body = Page<Refund>)),
)]
pub(super) async fn refunded_photos(
    State(service): State<Service>,
    caller: Caller,
    Query(which): Query<Which>,
    Query(at): Query<At>,
) -> Answer<Page<Refund>> {
    caller.must_be(MAY_READ)?;
    let filter = which.filter(&caller)?;
    let limit = limit(at.limit)?;
    let after = after(at.after.as_deref())?.map(|Cursor([micros, job])| {
        let at = DateTime::from_timestamp_micros(micros).unwrap_or_default();
        // PostgreSQL knows fewer years than a cursor can name.
        (at.clamp(DateTime::UNIX_EPOCH, Utc::now()), JobId(job))
    });
    let mut db = service.database.acquire().await?;
    let found = refunds::list(&mut db, filter, after, limit + 1).await?;
    Ok(axum::Json(Page::of(found, limit, |row| {
        Cursor([row.at.timestamp_micros(), row.job.0]).to_string()
    })))
}

/// A list of checks of the books.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reconciliations {
    items: Vec<Reconciliation>,
}

/// Lists the last 50 finished checks of the books, newest first.
#[utoipa::path(
    get,
    path = "/v1/reconciliations",
    operation_id = "list_reconciliations",
    tag = "Books",
    responses((status = 200, body = Reconciliations)),
)]
pub(super) async fn reconciliations(
    State(service): State<Service>,
    caller: Caller,
) -> Answer<Reconciliations> {
    caller.must_be(MAY_CHECK_BOOKS)?;
    caller.must_run_photogate()?;
    let mut db = service.database.acquire().await?;
    Ok(axum::Json(Reconciliations { items: past_checks::latest(&mut db, 50).await? }))
}

/// Runs the cheap check of the books now, the one that workers run every minute.
#[utoipa::path(
    post,
    path = "/v1/reconciliations",
    operation_id = "reconcile_books",
    tag = "Books",
    responses((status = 200, body = Checked)),
)]
pub(super) async fn reconcile(
    State(service): State<Service>,
    caller: Caller,
) -> Result<(StatusCode, axum::Json<Checked>), Problem> {
    Ok((StatusCode::OK, axum::Json(service.commands.check_books(&caller).await?)))
}
