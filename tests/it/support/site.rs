//! The service, answering on a port of its own, and those who ask.

use std::net::SocketAddr;

use photogate::{
    access::{self, Role},
    config::Config,
    ids::OrganisationId,
    serve,
};
use reqwest::{Client, Method, RequestBuilder, StatusCode, redirect::Policy};
use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{App, browser::PASSWORD};

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
        let (db, days) = (&mut *self.db().await, access::TOKEN_DAYS);
        let made = access::create_token(db, "test", role, organisation, days, "test").await;
        made.expect("it is made").1.0
    }
}

/// Without a browser: what a page says to somebody who has no business there.
pub struct Visitor {
    pub client: Client,
}

impl Visitor {
    /// Not logged in yet.
    pub fn stranger() -> Self {
        let client = Client::builder().cookie_store(true).redirect(Policy::none()).build().unwrap();
        Self { client }
    }

    pub async fn logged_in(site: &Site, email: &str) -> Self {
        let client = Self::stranger().client;
        let form = [("email", email), ("password", PASSWORD)];
        let answer = loop {
            let answer = client.post(site.url("/login")).form(&form).send().await.unwrap();
            // A machine that is busy with other tests: the service asks to come again.
            if answer.status() != StatusCode::SERVICE_UNAVAILABLE {
                break answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        };
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{email}");
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
        Self { client }
    }

    pub async fn get(&self, site: &Site, path: &str) -> u16 {
        self.client.get(site.url(path)).send().await.unwrap().status().as_u16()
    }

    pub async fn text(&self, site: &Site, path: &str) -> String {
        self.client.get(site.url(path)).send().await.unwrap().text().await.unwrap()
    }

    /// The key that this session's forms carry.
    pub async fn form_key(&self, site: &Site) -> String {
        let page = self.text(site, "/events").await;
        let key = page.split("name=\"form_key\" value=\"").nth(1).expect("a form");
        key.split('"').next().expect("its key").to_owned()
    }

    /// The status of a form of ours, with the key of this session.
    pub async fn post(&self, site: &Site, path: &str, fields: &[(&str, &str)]) -> u16 {
        let key = self.form_key(site).await;
        let form: Vec<_> = fields.iter().copied().chain([("form_key", key.as_str())]).collect();
        self.client.post(site.url(path)).form(&form).send().await.unwrap().status().as_u16()
    }

    /// Where a page leads to at once.
    pub async fn leads(&self, site: &Site, path: &str) -> String {
        let answer = self.client.get(site.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{path}");
        answer.headers()["location"].to_str().unwrap().to_owned()
    }
}
