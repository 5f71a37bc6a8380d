//! Somebody's web server, to which the workers of a drill deliver the changes of all organisations. It
//! answers something else, hangs, accepts a change and says that it did not, and dies and comes back.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::Deserialize;
use serde_json::Value;
use sqlx::PgPool;
use standardwebhooks::Webhook as Verifier;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::{DrillError, heard::Heard};
use crate::{
    changes::{
        Type,
        alerts::{self, Kind},
        webhooks::{self, Secret},
    },
    ids::OrganisationId,
};

/// How long it hangs. Workers wait for 5 seconds.
const HANGS: Duration = Duration::from_secs(7);

/// The web server.
pub(super) struct Listener {
    address: SocketAddr,
    desk: Desk,
    running: Option<AbortOnDropHandle<()>>,
}

#[derive(Clone)]
struct Desk(Arc<Mutex<Book>>);

struct Book {
    rng: StdRng,
    /// Whether it accepts everything.
    is_well: bool,
    secrets: HashMap<OrganisationId, String>,
    heard: Vec<Heard>,
}

impl Listener {
    /// Starts it, and adds a webhook for each of these organisations, which hears everything, and an
    /// alert.
    pub(super) async fn start(
        pool: &PgPool,
        organisations: &[OrganisationId],
        seed: u64,
    ) -> Result<Self, DrillError> {
        let book = Book {
            rng: StdRng::seed_from_u64(seed),
            is_well: false,
            secrets: HashMap::new(),
            heard: Vec::new(),
        };
        let desk = Desk(Arc::new(Mutex::new(book)));
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut listener = Self { address, desk, running: None };
        listener.come_back().await?;
        let mut db = pool.acquire().await?;
        for &organisation in organisations {
            let secret = Secret::random();
            let url = format!("http://{}/{organisation}", listener.address);
            webhooks::add(&mut db, organisation, &url, &Type::ALL, &secret, "drill").await?;
            alerts::add(&mut db, organisation, Kind::LowBalance, 20.into(), "drill").await?;
            listener.desk.book(|book| book.secrets.insert(organisation, secret.shown()));
        }
        Ok(listener)
    }

    /// It dies, or comes back.
    pub(super) async fn turn(&mut self) -> io::Result<()> {
        if self.running.take().is_none() {
            self.come_back().await?;
        }
        Ok(())
    }

    /// From now on, it is there and accepts everything.
    pub(super) async fn get_well(&mut self) -> io::Result<()> {
        self.desk.book(|book| book.is_well = true);
        if self.running.is_none() {
            self.come_back().await?;
        }
        Ok(())
    }

    /// What it has heard, in that order.
    pub(super) fn heard(&self) -> Vec<Heard> {
        self.desk.book(|book| book.heard.clone())
    }

    async fn come_back(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.address = listener.local_addr()?;
        let app = axum::Router::new()
            .route("/{organisation}", axum::routing::post(hear))
            .with_state(self.desk.clone());
        self.running = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!(%error, "the drill's web server has ended");
            }
        })));
        Ok(())
    }
}

impl Desk {
    fn book<T>(&self, act: impl FnOnce(&mut Book) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is read of a call.
#[derive(Debug, Deserialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    data: Value,
}

async fn hear(
    State(desk): State<Desk>,
    Path(organisation): Path<OrganisationId>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (is_right, luck) = desk.book(|book| {
        let is_right = book.secrets.get(&organisation).is_some_and(|secret| {
            Verifier::new(secret).is_ok_and(|signer| signer.verify(&body, &headers).is_ok())
        });
        (is_right, if book.is_well { 100 } else { book.rng.random_range(0..100) })
    });
    let Ok(event) = serde_json::from_slice::<Event>(&body) else {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    };
    // Whoever accepts a change may die before it has said so. Then it hears the change again.
    let (status, pause) = match luck {
        0..6 => (StatusCode::INTERNAL_SERVER_ERROR, Duration::ZERO),
        6..8 => (StatusCode::TEMPORARY_REDIRECT, Duration::ZERO),
        8..9 => (StatusCode::OK, HANGS),
        _ => (StatusCode::NO_CONTENT, Duration::ZERO),
    };
    desk.book(|book| {
        book.heard.push(Heard {
            organisation,
            id: event.id.parse().unwrap_or(0),
            kind: event.kind,
            subject: event.subject,
            data: event.data,
            is_signed: is_right,
        });
    });
    tokio::time::sleep(pause).await;
    // Or who has died would go on to answer over the connections that are open.
    (status, [(header::CONNECTION, HeaderValue::from_static("close"))]).into_response()
}
