//! What an organisation has, what came in and where it went.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection};
use utoipa::{IntoParams, ToSchema};

use super::{Answer, Page};
use crate::{
    access::{Caller, Role},
    books::{
        days::{self, Day},
        history::{self, Kind, Movement},
        months::{self, Month},
        statement::{self, Statement, StatementError},
    },
    credits::{self, Balance, Credits},
    deeds,
    ids::{EventId, OrganisationId},
    serve::{
        Service,
        input::{Json, Path, Query, limit},
        problem::Problem,
    },
    top_up::{self, Credited, TopUp, TopUpKind},
};

/// Who reads the books of an organisation.
const MAY_READ: &[Role] = &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];

async fn exists(db: &mut PgConnection, id: OrganisationId) -> Result<Balance, Problem> {
    let balance = credits::balance(db, id).await?;
    balance.ok_or_else(|| Problem::not_found(format!("organisation {id}")))
}

/// Credits: available, reserved for photos in progress, and spent.
#[utoipa::path(get, path = "/v1/organisations/{organisation}/credits", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation")), responses((status = 200, body = Balance)))]
pub(super) async fn balance(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
) -> Answer<Balance> {
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    exists(&mut db, id).await.map(axum::Json)
}

/// Credits to bring in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"credits": 1000, "note": "invoice 2026-118"}))]
pub(super) struct Amount {
    /// How many.
    credits: Credits,
    /// For the history: up to 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    note: String,
}

/// Buys credits, at the organisation's price. Queues that were paused for want of credits go on by themselves.
#[utoipa::path(post, path = "/v1/organisations/{organisation}/purchases", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation"),
           ("Idempotency-Key" = String, Header, description = "Of this purchase: sent again, it is credited once")),
    responses((status = 201, body = Credited), (status = 200, body = Credited, description = "It was credited before")))]
pub(super) async fn purchase(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    headers: HeaderMap,
    Json(amount): Json<Amount>,
) -> Result<(StatusCode, axum::Json<Credited>), Problem> {
    caller.must_be(&[Role::Organiser, Role::Staff])?;
    credit(&service, &caller, id, &headers, TopUpKind::Purchase, &amount).await
}

/// A grant: given by staff.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"credits": 100, "note": "for the trial", "free": true}))]
pub(super) struct Grant {
    /// How many.
    credits: Credits,
    /// For the history: up to 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    note: String,
    /// Shown as Free Credits instead of Admin Grant.
    #[serde(default)]
    free: bool,
}

/// Grants credits.
#[utoipa::path(post, path = "/v1/organisations/{organisation}/grants", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation"),
           ("Idempotency-Key" = String, Header, description = "Of this grant: sent again, it is credited once")),
    responses((status = 201, body = Credited), (status = 200, body = Credited, description = "It was credited before")))]
pub(super) async fn grant(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    headers: HeaderMap,
    Json(grant): Json<Grant>,
) -> Result<(StatusCode, axum::Json<Credited>), Problem> {
    caller.must_be(&[Role::Staff])?;
    let kind = if grant.free { TopUpKind::FreeCredits } else { TopUpKind::AdminGrant };
    let amount = Amount { credits: grant.credits, note: grant.note };
    credit(&service, &caller, id, &headers, kind, &amount).await
}

/// Adjusts credits: a refund by support; negative, it takes some back, as many as are available.
#[utoipa::path(post, path = "/v1/organisations/{organisation}/adjustments", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation"),
           ("Idempotency-Key" = String, Header, description = "Of this adjustment: sent again, it is booked once")),
    responses((status = 201, body = Credited), (status = 200, body = Credited, description = "It was booked before")))]
pub(super) async fn adjust(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    headers: HeaderMap,
    Json(amount): Json<Amount>,
) -> Result<(StatusCode, axum::Json<Credited>), Problem> {
    caller.must_be(&[Role::Staff])?;
    credit(&service, &caller, id, &headers, TopUpKind::Refund, &amount).await
}

async fn credit(
    service: &Service,
    caller: &Caller,
    id: OrganisationId,
    headers: &HeaderMap,
    kind: TopUpKind,
    amount: &Amount,
) -> Result<(StatusCode, axum::Json<Credited>), Problem> {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    if !(1..=200).contains(&key.len()) {
        return Err(Problem::invalid(
            "Idempotency-Key",
            "send a header Idempotency-Key of 1 to 200 characters, new for each top-up",
        ));
    }
    let credited = top_up(service, caller, id, kind, amount.credits, &amount.note, key).await?;
    let status = if credited.credited { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(credited)))
}

/// Brings credits in, with the deed, in one transaction; and rings.
pub(crate) async fn top_up(
    service: &Service,
    caller: &Caller,
    organisation: OrganisationId,
    kind: TopUpKind,
    amount: Credits,
    note: &str,
    key: &str,
) -> Result<Credited, Problem> {
    caller.must_see(organisation)?;
    let mut db = service.database.acquire().await?;
    let mut tx = db.begin().await?;
    let asked =
        TopUp { organisation, kind, amount, actor: &caller.actor, note, idempotency_key: key };
    let credited = top_up::top_up(&mut tx, asked).await?;
    if credited.credited {
        let detail = serde_json::json!({ "kind": kind, "credits": amount, "transaction": credited.transaction, "note": note });
        deeds::record(
            &mut tx,
            caller,
            Some(organisation),
            "credits.top_up",
            &format!("organisation {organisation}"),
            detail,
        )
        .await?;
    }
    tx.commit().await?;
    if credited.resumed {
        service.wake.ring();
    }
    Ok(credited)
}

/// Which rows of the history.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Only of this type.
    pub(crate) kind: Option<Kind>,
    /// Only of this event.
    pub(crate) event: Option<EventId>,
    /// From this instant on.
    pub(crate) since: Option<DateTime<Utc>>,
    /// Up to this instant.
    pub(crate) before: Option<DateTime<Utc>>,
    /// `next` of the page before.
    pub(crate) after: Option<String>,
    /// Rows, at most.
    #[param(minimum = 1, maximum = 200)]
    pub(crate) limit: Option<i64>,
}

/// Everything that moved credits, newest first. It adds up to the available balance.
#[utoipa::path(get, path = "/v1/organisations/{organisation}/history", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation"), Which), responses((status = 200, body = Page<Movement>)))]
pub(super) async fn history(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    Query(which): Query<Which>,
) -> Answer<Page<Movement>> {
    caller.must_be(MAY_READ)?;
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    exists(&mut db, id).await?;
    movements(&mut db, id, &which).await.map(axum::Json)
}

/// The same for pages.
pub(crate) async fn movements(
    db: &mut PgConnection,
    organisation: OrganisationId,
    which: &Which,
) -> Result<Page<Movement>, Problem> {
    let limit = limit(which.limit)?;
    let after = which.after.as_deref().filter(|after| !after.is_empty());
    let after =
        after.map(str::parse).transpose().map_err(|error| Problem::invalid("after", error))?;
    let kinds: Vec<Kind> = which.kind.into_iter().collect();
    let page = history::Page {
        kinds: &kinds,
        event: which.event,
        since: which.since,
        before: which.before,
        after,
        most: limit + 1,
    };
    let found = history::history(db, organisation, page).await?;
    Ok(Page::of(found, limit, |row| row.cursor.to_string()))
}

/// The months of an organisation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Months {
    items: Vec<Month>,
}

/// The current month and the three before it, in the organisation's time zone.
#[utoipa::path(get, path = "/v1/organisations/{organisation}/months", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation")), responses((status = 200, body = Months)))]
pub(super) async fn months(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
) -> Answer<Months> {
    caller.must_be(MAY_READ)?;
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    exists(&mut db, id).await?;
    Ok(axum::Json(Months { items: months::latest(&mut db, id, 3).await? }))
}

/// The days of a month.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Days {
    items: Vec<Day>,
}

/// Which days.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct From {
    /// The first day.
    first: NaiveDate,
}

/// What was used day by day, for 31 days, in the organisation's time zone.
#[utoipa::path(get, path = "/v1/organisations/{organisation}/days", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation"), From), responses((status = 200, body = Days)))]
pub(super) async fn days(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    Query(from): Query<From>,
) -> Answer<Days> {
    caller.must_be(MAY_READ)?;
    caller.must_see(id)?;
    let first = a_day(from.first)?;
    let mut db = service.database.acquire().await?;
    exists(&mut db, id).await?;
    Ok(axum::Json(Days { items: days::days(&mut db, id, first, 31).await? }))
}

/// A day that databases and calendars agree on.
fn a_day(day: NaiveDate) -> Result<NaiveDate, Problem> {
    let years = NaiveDate::from_ymd_opt(2000, 1, 1)..NaiveDate::from_ymd_opt(3000, 1, 1);
    if years.contains(&Some(day)) {
        Ok(day)
    } else {
        Err(Problem::invalid("first", "a day between 2000 and 2999"))
    }
}

/// The statement of a month: opening, every movement, closing. That of a month that is over never changes.
#[utoipa::path(get, path = "/v1/organisations/{organisation}/statements/{month}", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation"), ("month" = String, Path, description = "As in 2026-11", example = "2026-11")),
    responses((status = 200, body = Statement)))]
pub(super) async fn statement(
    State(service): State<Service>,
    caller: Caller,
    Path((id, month)): Path<(OrganisationId, String)>,
) -> Answer<Statement> {
    caller.must_be(MAY_READ)?;
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    of_month(&mut db, id, &month).await.map(axum::Json)
}

/// The same for pages.
pub(crate) async fn of_month(
    db: &mut PgConnection,
    organisation: OrganisationId,
    month: &str,
) -> Result<Statement, Problem> {
    let parsed = NaiveDate::parse_from_str(&format!("{month}-01"), "%Y-%m-%d");
    let first = parsed.map_err(|_| Problem::invalid("month", "write a month as 2026-11"))?;
    let first = a_day(first)?;
    statement::statement(db, organisation, first).await.map_err(|error| match error {
        StatementError::NoOrganisation(id) => Problem::not_found(format!("organisation {id}")),
        StatementError::NotBegun { .. } => Problem::invalid("month", error),
        StatementError::DoesNotAddUp { .. } => {
            tracing::error!(%error, "a statement does not add up");
            Problem::unavailable("books_do_not_balance", error.to_string())
        }
        StatementError::Database(error) => error.into(),
    })
}
