//! The service, answering on a port of its own, and those who ask.

use std::net::SocketAddr;

use photogate::{
    access::{self, Role},
    config::Config,
    ids::OrganisationId,
    serve,
};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::App;

/// A service that answers until it is dropped.
pub struct Site {
    pub address: SocketAddr,
    pub client: Client,
    pub stop: CancellationToken,
    _running: AbortOnDropHandle<()>,
}

impl Site {
    pub async fn of(app: &App) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config { listen, ..app.config.clone() };
        let listener = serve::bind(&config).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let (pool, stopped) = (app.pool.clone(), stop.clone());
        let running = AbortOnDropHandle::new(tokio::spawn(async move {
            serve::run(crate::photos::PROGRAM.as_ref(), &config, pool, listener, stopped)
                .await
                .expect("it answers");
        }));
        Self { address, client: Client::new(), stop, _running: running }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn ask(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        self.client.request(method, self.url(path)).bearer_auth(token)
    }

    /// The status, and what was answered; null if that is no JSON.
    pub async fn get(&self, path: &str, token: &str) -> (StatusCode, Value) {
        answered(self.ask(Method::GET, path, token)).await
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> (StatusCode, Value) {
        answered(self.ask(Method::POST, path, token).json(&body)).await
    }
}

pub async fn answered(request: RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.expect("the service answers");
    let status = answer.status();
    let text = answer.text().await.expect("to the end");
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

impl App {
    pub async fn a_token(&self, role: Role, organisation: Option<OrganisationId>) -> String {
        let made =
            access::create_token(&mut *self.db().await, "test", role, organisation, "test").await;
        made.expect("it is made").1.0
    }
}
