//! Authentication: who the caller is. Programs send a token, browsers send the cookie of a session.
//! The cookie is set in `pages/login.rs`.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, Method, header, request::Parts},
};
use axum_extra::extract::cookie::Cookie;

use super::{Service, client_address, problem::Problem};
use crate::{
    access::{self, Caller, LoggedIn},
    catalog::organisations::{self, Organisation},
    ids::OrganisationId,
};

/// The ends of paths that change many rows, or look at a photo.
const HEAVY: [&str; 14] = [
    "/runs",
    "/run",
    "/retry",
    "/skip",
    "/restore",
    "/start-list",
    "/settings",
    "/selfie",
    "/turn",
    "/erasures",
    "/erase",
    "/reconciliations",
    "/bulk",
    "/undo",
];

/// The name of the session's cookie. Behind HTTPS, the prefix `__Host-` ties it to this host.
pub(super) fn cookie_name(service: &Service) -> &'static str {
    if service.config.behind_https { "__Host-photogate" } else { "photogate" }
}

/// What tells who the caller is.
#[derive(Debug, Clone)]
enum Credential {
    Token(String),
    Session(String),
}

/// What a session lacks, so that it may not see the pages yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lacks {
    /// The code of the second factor.
    Code,
    /// A second factor, which the caller's role needs.
    SecondFactor,
}

impl Lacks {
    fn of(found: &LoggedIn, service: &Service) -> Option<Self> {
        let needs = service.config.second_factor_required
            && access::NEED_SECOND_FACTOR.contains(&found.caller.role);
        if found.awaits_code {
            Some(Self::Code)
        } else {
            (needs && found.only_password).then_some(Self::SecondFactor)
        }
    }

    /// Whether a session that lacks this may see a page.
    fn may_see(self, path: &str) -> bool {
        path == "/logout"
            || match self {
                Self::Code => path == "/login/code",
                Self::SecondFactor => path.starts_with("/account/second-factor"),
            }
    }

    /// The page on which what is missing is made up for.
    pub(super) fn page(self) -> &'static str {
        match self {
            Self::Code => "/login/code",
            Self::SecondFactor => "/account/second-factor",
        }
    }
}

/// A caller, and what told it. The credential can be asked again, because it may end.
#[derive(Debug, Clone)]
pub(super) struct Authenticated {
    pub(super) caller: Caller,
    credential: Credential,
}

/// Who it is, and what the session lacks.
type Found = Option<(Caller, Option<Lacks>)>;

impl Credential {
    /// `is_asking` is false for what happens without the person, such as a live stream.
    async fn caller(&self, service: &Service, is_asking: bool) -> sqlx::Result<Found> {
        let mut db = service.database.acquire().await?;
        match self {
            Self::Token(token) => {
                let caller = access::caller_with_token(&mut db, token).await?;
                Ok(caller.map(|caller| (caller, None)))
            }
            Self::Session(session) => {
                let idle = service.config.session_idle();
                let found = access::caller_with_session(&mut db, session, idle, is_asking).await?;
                Ok(found.map(|found| {
                    let lacks = Lacks::of(&found, service);
                    (found.caller, lacks)
                }))
            }
        }
    }
}

impl Authenticated {
    /// Who sends a request. It waits for its turn.
    async fn of(
        parts: &Parts,
        service: &Service,
        credential: Credential,
    ) -> Result<(Self, Option<Lacks>), Problem> {
        let (Credential::Token(secret) | Credential::Session(secret)) = &credential;
        let is_counted = service.shares.may_ask(secret, address(parts, service))?;
        // A page that is left open asks for its live stream, for itself, and for the pictures that are
        // new on it, again and again.
        let path = parts.uri.path();
        let is_asking = !path.ends_with("/live")
            && !path.ends_with("/thumbnail")
            && !parts.headers.contains_key("photogate-live");
        let found = credential.caller(service, is_asking).await?;
        // Who only knows the password does not use up the owner's share.
        let owner = found.as_ref().filter(|(_, lacks)| *lacks != Some(Lacks::Code));
        service.shares.is_of(secret, owner.map(|(caller, _)| caller), is_counted)?;
        let (caller, lacks) = found.ok_or_else(Problem::unauthenticated)?;
        if let Some(lacks) = lacks.filter(|lacks| !lacks.may_see(parts.uri.path())) {
            return Err(Problem::half_logged_in(lacks));
        }
        service.shares.take_turn(&caller, is_heavy(parts)).await?;
        Ok((Self { caller, credential }, lacks))
    }

    /// Whether the token or session is still valid, with the same rights.
    pub(super) async fn is_valid(&self, service: &Service) -> sqlx::Result<bool> {
        let found = self.credential.caller(service, false).await?;
        Ok(found.is_some_and(|(caller, lacks)| caller == self.caller && lacks.is_none()))
    }
}

impl FromRequestParts<Service> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        let token = token(&parts.headers).ok_or_else(Problem::unauthenticated)?.to_owned();
        Ok(Self::of(parts, service, Credential::Token(token)).await?.0)
    }
}

impl FromRequestParts<Service> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        Ok(Authenticated::from_request_parts(parts, service).await?.caller)
    }
}

/// Whether a request reads or writes many rows, or looks at a photo.
fn is_heavy(parts: &Parts) -> bool {
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let changes = parts.method == Method::POST || parts.method == Method::PUT;
    path.contains("/statements")
        || path.contains("/months/")
        || path.ends_with("/quality")
        || path.ends_with("/browse")
        || changes && HEAVY.iter().any(|end| path.ends_with(end))
        || url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "format")
}

fn address(parts: &Parts, service: &Service) -> IpAddr {
    // Only a test has no peer.
    let nobody = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 0)));
    let peer = parts.extensions.get().copied().unwrap_or(nobody);
    client_address::address(service, &parts.headers, peer)
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = headers.get("x-api-key").and_then(|value| value.to_str().ok());
    bearer.and_then(|value| value.strip_prefix("Bearer ")).or(key)
}

/// The logged-in caller of a page.
#[derive(Debug)]
pub(super) struct Browser {
    pub(super) caller: Caller,
    pub(super) session: String,
    /// The organisation that the page is about: the caller's own, or the one in the query string.
    /// `None`: all organisations.
    pub(super) organisation: Option<Organisation>,
    /// What the session lacks. Only the pages on which it is made up for see such a session.
    pub(super) lacks: Option<Lacks>,
    /// The time zone that the person has chosen.
    zone: Option<String>,
}

impl Browser {
    /// Sets the organisation that the page is about, when only its content tells it (as an event).
    pub(super) async fn look_at(
        &mut self,
        db: &mut sqlx::PgConnection,
        id: OrganisationId,
    ) -> sqlx::Result<()> {
        self.organisation = organisations::find(db, id).await?;
        Ok(())
    }

    /// The caller, with the session.
    pub(super) fn authenticated(&self) -> Authenticated {
        let credential = Credential::Session(self.session.clone());
        Authenticated { caller: self.caller.clone(), credential }
    }

    /// The number of the organisation that the page is about.
    pub(super) fn about(&self) -> Option<OrganisationId> {
        self.organisation.as_ref().map(|organisation| organisation.id)
    }

    /// The organisation as a query parameter, for links of callers who see several organisations.
    /// The value is empty for callers who belong to one.
    pub(super) fn filter(&self) -> (&'static str, String) {
        let about = self.about().filter(|_| self.caller.organisation.is_none());
        ("organisation", about.map(|id| id.to_string()).unwrap_or_default())
    }

    /// The time zone in which the page shows times: the person's own, or the organisation's, or
    /// UTC.
    pub(super) fn zone(&self) -> &str {
        let organisation = self.organisation.as_ref().map(|one| one.time_zone.as_str());
        self.zone.as_deref().or(organisation).unwrap_or("UTC")
    }

    /// The time zone that the person has chosen.
    pub(super) fn own_zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// Who is logged in, for the page of a problem. It does not count as a request.
    pub(super) async fn of(headers: &HeaderMap, service: &Service) -> Option<Self> {
        let session = session(headers, service)?;
        let credential = Credential::Session(session.clone());
        let (caller, lacks) = credential.caller(service, false).await.ok()??;
        lacks.is_none().then_some(Self { caller, session, organisation: None, lacks, zone: None })
    }
}

impl FromRequestParts<Service> for Browser {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        let session = session(&parts.headers, service).ok_or_else(Problem::unauthenticated)?;
        let credential = Credential::Session(session.clone());
        let (found, lacks) = Authenticated::of(parts, service, credential).await?;
        let caller = found.caller;
        let mut db = service.database.acquire().await?;
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
        let zone = access::zone_of_session(&mut db, &session).await?;
        Ok(Self { caller, session, organisation, lacks, zone })
    }
}

/// Reads `organisation` from a query string. An empty value counts as missing.
fn asked_for(query: &str) -> Result<Option<OrganisationId>, Problem> {
    let said = url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, value)| name == "organisation" && !value.is_empty());
    said.map(|(_, id)| id.parse().map(OrganisationId))
        .transpose()
        .map_err(|_| Problem::invalid("organisation", "organisation must be a number"))
}

/// The secret of the session, from its cookie. Names are compared as they were sent: `CookieJar`
/// decodes them, and then `%5F%5FHost-photogate`, which any subdomain may set, would pass for ours.
pub(super) fn session(headers: &HeaderMap, service: &Service) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut cookies = lines.flat_map(Cookie::split_parse).filter_map(Result::ok);
    let cookie = cookies.find(|cookie| cookie.name() == cookie_name(service))?;
    Some(cookie.value().to_owned())
}
