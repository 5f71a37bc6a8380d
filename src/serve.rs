//! `photogate serve`: the HTTP API for programs, and the pages for people, in one process without state of its own.

mod api;
mod caller;
mod health;
mod input;
mod live;
mod pages;
mod problem;
mod reads;
mod shield;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::DefaultBodyLimit, middleware};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;

use crate::{
    catalog::photo_store::PhotoStore, commands::Commands, config::Config, notify::wake::Wake,
    sandbox::Pool,
};

pub use api::document;

/// What every request needs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Service(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    database: PgPool,
    commands: Commands,
    redis_url: Option<String>,
    store: PhotoStore,
    /// For selfies: opened with the first, for it loads the models.
    eyes: tokio::sync::OnceCell<Pool>,
    program: PathBuf,
    config: Config,
    logins: shield::Logins,
    streams: live::Streams,
    draining: CancellationToken,
}

impl std::ops::Deref for Service {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Why there is no service.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, or not ours.
    #[error("{address} cannot be listened to ({error}): choose another with --listen")]
    Listen {
        /// As set.
        address: std::net::SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The store's address is none.
    #[error(transparent)]
    Store(#[from] crate::catalog::photo_store::StoreError),
    /// The address of Redis is none.
    #[error("redis_url is not usable: {0}")]
    Redis(#[from] redis::RedisError),
    /// It broke.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Service {
    fn open(
        program: &Path,
        config: &Config,
        database: PgPool,
        draining: CancellationToken,
    ) -> Result<Self, ServeError> {
        Ok(Self(Arc::new(Inner {
            commands: Commands::new(database.clone(), Wake::open(config.redis_url.as_deref())?),
            database,
            redis_url: config.redis_url.clone(),
            store: PhotoStore::open(&config.store_url, &config.store_options)?,
            eyes: tokio::sync::OnceCell::new(),
            program: program.to_owned(),
            config: config.clone(),
            logins: shield::Logins::default(),
            streams: live::Streams::default(),
            draining,
        })))
    }

    /// The processes that look at selfies.
    async fn eyes(&self) -> Result<&Pool, crate::sandbox::PoolError> {
        self.eyes.get_or_try_init(|| Pool::open(&self.program, &self.config)).await
    }
}

/// The port, bound before anything else: whoever is told the address can connect to it.
///
/// # Errors
/// [`ServeError::Listen`].
pub async fn bind(config: &Config) -> Result<TcpListener, ServeError> {
    let address = config.listen;
    TcpListener::bind(address).await.map_err(|error| ServeError::Listen { address, error })
}

/// From `/readyz` saying no to the port being closed, behind a proxy.
const NOTICE: Duration = Duration::from_secs(3);

/// Answers until told to stop; then lets what runs end, and answers `/readyz` with no meanwhile. `program` is photogate itself,
/// for the processes that look at selfies.
///
/// # Errors
/// See [`ServeError`].
pub async fn run(
    program: &Path,
    config: &Config,
    database: PgPool,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let service = Service::open(program, config, database, stop.clone())?;
    tracing::info!(address = %listener.local_addr()?, "the service is ready");
    let drain = Duration::from_secs(config.drain_seconds);
    // A proxy hears from /readyz that this is going to end before it is refused.
    let notice = if config.behind_https { NOTICE } else { Duration::ZERO };
    let closing = async move {
        stop.cancelled_owned().await;
        tokio::time::sleep(notice).await;
    };
    let closing = futures::FutureExt::shared(closing);
    let forced = {
        let closing = closing.clone();
        async move {
            closing.await;
            tokio::time::sleep(drain).await;
        }
    };
    let app = router(service).into_make_service_with_connect_info::<std::net::SocketAddr>();
    let served = axum::serve(listener, app).with_graceful_shutdown(closing);
    tokio::select! {
        ended = served.into_future() => ended?,
        () = forced => tracing::warn!("some answers were not finished in time"),
    }
    Ok(())
}

/// Everything that can be asked, and what every answer has in common.
fn router(service: Service) -> Router {
    let (api, document): (Router<Service>, OpenApi) = api::routes();
    let document = Arc::new(document);
    Router::new()
        .merge(api)
        .merge(api::documents(document))
        .merge(pages::routes())
        .fallback(shield::nothing_there)
        .method_not_allowed_fallback(shield::not_so)
        .layer(DefaultBodyLimit::max(shield::BODY_MAX))
        .layer(middleware::from_fn_with_state(service.clone(), shield::every_request))
        // Whoever looks after this process is answered however busy it is.
        .merge(health::routes())
        .with_state(service)
}
