//! `photogate serve`: the HTTP API for programs and the pages for people, in one process. It keeps
//! all data in the database.

mod api;
mod authentication;
mod client_address;
mod fallback;
mod files;
mod health;
mod input;
mod live;
mod middleware;
mod pages;
mod payments;
mod problem;
mod reads;
mod shares;
mod store;
mod turning;
mod uploads;
mod visitors;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper_util::rt::TokioTimer;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use utoipa::openapi::OpenApi;

use crate::{
    access::Caller,
    catalog::photo_store::PhotoStore,
    commands::{CommandError, Commands, Quotas},
    config::Config,
    notify::wake::Wake,
    sandbox::Pool,
};

pub use api::document;

/// The state that every handler shares. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Service(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    database: PgPool,
    commands: Commands,
    redis_url: Option<String>,
    store: PhotoStore,
    store_state: store::StoreState,
    /// The sandbox children that look at selfies. Opened at the first selfie, because that loads
    /// the models.
    eyes: tokio::sync::OnceCell<Pool>,
    program: PathBuf,
    config: Config,
    shares: shares::Shares,
    uploads: uploads::Places,
    visitors: visitors::Visitors,
    streams: live::Streams,
    draining: CancellationToken,
}

impl std::ops::Deref for Service {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Why the service did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, or is not one of this machine.
    #[error("cannot listen on {address} ({error}): choose another address with --listen")]
    Listen {
        /// The address in the setting `listen`.
        address: std::net::SocketAddr,
        /// Why the system refused it.
        error: std::io::Error,
    },
    /// The setting `store_url` is not valid.
    #[error(transparent)]
    Store(#[from] crate::catalog::photo_store::StoreError),
    /// The setting `redis_url` is not valid.
    #[error("redis_url is not valid: {0}")]
    Redis(#[from] redis::RedisError),
    /// The payment provider could not be noted.
    #[error("the payment provider could not be noted in the database: {0}")]
    Payments(#[from] CommandError),
    /// Accepting connections failed.
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
            commands: Commands::new(database.clone(), Wake::open(config.redis_url.as_deref())?)
                .with(Quotas::from(config)),
            database,
            redis_url: config.redis_url.clone(),
            store: PhotoStore::open(&config.store_url, &config.store_options)?,
            store_state: store::StoreState::default(),
            eyes: tokio::sync::OnceCell::new(),
            program: program.to_owned(),
            config: config.clone(),
            shares: shares::Shares::new(config),
            uploads: uploads::Places::default(),
            visitors: visitors::Visitors::new(config),
            streams: live::Streams::default(),
            draining,
        })))
    }

    /// The sandbox children for selfies; the first call starts them.
    async fn eyes(&self) -> Result<&Pool, crate::sandbox::PoolError> {
        self.eyes.get_or_try_init(|| Pool::open(&self.program, &self.config)).await
    }
}

/// Notes in the database that purchases wait for a payment, so that workers and commands, which have
/// no such setting, add no credits either. It is never undone here: a service that somebody starts
/// without the secret must not give credits away.
async fn note_payment_provider(service: &Service) -> Result<(), ServeError> {
    let config = &service.config;
    if !config.stripe_secrets.is_empty() {
        let pay_at = config.payment_url.as_deref();
        let (system, provider) = (Caller::trusted("System"), payments::STRIPE);
        service.commands.use_payment_provider(&system, provider, pay_at).await?;
    } else if let Ok(mut db) = service.database.acquire().await
        && let Ok(Some(provider)) = crate::ledger::payments::provider(&mut db).await
    {
        tracing::warn!(
            provider,
            "purchases wait for a payment, but this service has no PHOTOGATE_STRIPE_SECRETS and \
             hears of none (`photogate purchases no-provider` ends the waiting)"
        );
    }
    Ok(())
}

/// Binds the port. The caller does this first, so that clients can connect as soon as the address
/// is printed.
///
/// # Errors
/// [`ServeError::Listen`].
pub async fn bind(config: &Config) -> Result<TcpListener, ServeError> {
    let address = config.listen;
    TcpListener::bind(address).await.map_err(|error| ServeError::Listen { address, error })
}

/// Behind a proxy: the time between `/readyz` failing and the port being closed.
const NOTICE: Duration = Duration::from_secs(3);

/// Serves requests until `stop`. Then `/readyz` fails, and running requests may finish within
/// `drain_seconds`. `program` is the path of photogate itself, for starting sandbox children.
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
    note_payment_provider(&service).await?;
    let _watch = AbortOnDropHandle::new(tokio::spawn(store::watch(service.clone(), stop.clone())));
    tracing::info!(address = %listener.local_addr()?, "the service is ready");
    let drain = Duration::from_secs(config.drain_seconds);
    // A proxy learns from /readyz that this process will stop, before connections are refused.
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
    let handle = axum_server::Handle::new();
    let mut server = axum_server::from_tcp(listener.into_std()?)?.handle(handle.clone());
    let idle = Duration::from_secs(config.idle_seconds);
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(idle);
    let closing = async move {
        closing.await;
        handle.graceful_shutdown(None);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = server.serve(app) => ended?,
        () = closing => {}
        () = forced => tracing::warn!("some requests did not finish within drain_seconds"),
    }
    Ok(())
}

/// All routes, with the limits and headers that they share.
fn router(service: Service) -> Router {
    let (api, document): (Router<Service>, OpenApi) = api::routes();
    let document = Arc::new(document);
    let routes = Router::new()
        .merge(api)
        .merge(api::documents(document))
        .merge(pages::routes(&service))
        .merge(payments::routes())
        .fallback(fallback::nothing_there)
        .method_not_allowed_fallback(fallback::not_so);
    middleware::around(routes, service.config.behind_https)
        // Health checks skip the limits above: they must be answered however busy the service is.
        .merge(health::routes())
        .with_state(service)
}
