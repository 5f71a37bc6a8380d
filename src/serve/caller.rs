//! Who asks: by a token for programs, by a session's cookie for pages.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};

use super::{Service, problem::Problem};
use crate::{
    access::{self, Caller},
    catalog::organisations::{self, Organisation},
    ids::OrganisationId,
};

/// The name of the session's cookie. Behind HTTPS it is tied to this host.
pub(super) fn cookie_name(service: &Service) -> &'static str {
    if service.config.behind_https { "__Host-photogate" } else { "photogate" }
}

impl FromRequestParts<Service> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        let token = token(&parts.headers).ok_or_else(Problem::unauthenticated)?;
        let mut db = service.database.acquire().await?;
        let caller = access::caller_with_token(&mut db, token).await?;
        caller.ok_or_else(Problem::unauthenticated)
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = headers.get("x-api-key").and_then(|value| value.to_str().ok());
    bearer.and_then(|value| value.strip_prefix("Bearer ")).or(key)
}

/// A browser that is logged in.
#[derive(Debug)]
pub(super) struct Browser {
    pub(super) caller: Caller,
    pub(super) session: String,
    /// What is looked at: the caller's own, or the one that the address says. `None`: all of them.
    pub(super) organisation: Option<Organisation>,
}

impl Browser {
    /// The page turns out to be about this organisation.
    pub(super) async fn look_at(
        &mut self,
        db: &mut sqlx::PgConnection,
        id: OrganisationId,
    ) -> sqlx::Result<()> {
        self.organisation = organisations::find(db, id).await?;
        Ok(())
    }

    /// The number of what is looked at.
    pub(super) fn about(&self) -> Option<OrganisationId> {
        self.organisation.as_ref().map(|organisation| organisation.id)
    }

    /// What is looked at, as a filter that stays in the addresses of those who see several.
    pub(super) fn filter(&self) -> (&'static str, String) {
        let about = self.about().filter(|_| self.caller.organisation.is_none());
        ("organisation", about.map(|id| id.to_string()).unwrap_or_default())
    }

    /// The time zone of its pages.
    pub(super) fn zone(&self) -> &str {
        self.organisation.as_ref().map_or("UTC", |organisation| &organisation.time_zone)
    }
}

impl FromRequestParts<Service> for Browser {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        let session = session(&parts.headers, service).ok_or_else(Problem::unauthenticated)?;
        let mut db = service.database.acquire().await?;
        let caller = access::caller_with_session(&mut db, &session).await?;
        let caller = caller.ok_or_else(Problem::unauthenticated)?;
        let asked = asked_for(parts.uri.query().unwrap_or_default())?;
        if let Some(id) = asked {
            caller.must_see(id)?;
        }
        let organisation = match asked.or(caller.organisation) {
            Some(id) => Some(
                organisations::find(&mut db, id)
                    .await?
                    .ok_or_else(|| Problem::not_found(format!("organisation {id}")))?,
            ),
            None => None,
        };
        Ok(Self { caller, session, organisation })
    }
}

/// The organisation in a query string; an empty one is none.
fn asked_for(query: &str) -> Result<Option<OrganisationId>, Problem> {
    let said = url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, value)| name == "organisation" && !value.is_empty());
    said.map(|(_, id)| id.parse().map(OrganisationId))
        .transpose()
        .map_err(|_| Problem::invalid("organisation", "an organisation is a number"))
}

pub(super) fn session(headers: &HeaderMap, service: &Service) -> Option<String> {
    let name = cookie_name(service);
    headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).find_map(
        |line| {
            line.split(';').find_map(|pair| {
                let (key, value) = pair.trim().split_once('=')?;
                (key == name).then(|| value.to_owned())
            })
        },
    )
}
