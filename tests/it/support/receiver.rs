//! Somebody's web server that hears webhooks: it can be well, answer something else, hang, or cut the
//! connection.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

/// A call that came.
#[derive(Debug, Clone)]
pub struct Heard {
    pub headers: HeaderMap,
    pub text: String,
    pub body: Value,
    /// Whether it was answered well.
    pub accepted: bool,
}

impl Heard {
    pub fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap()
    }

    pub fn subject(&self) -> &str {
        self.body["subject"].as_str().unwrap()
    }

    pub fn number(&self) -> i64 {
        self.body["id"].as_str().unwrap().parse().unwrap()
    }
}

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    Answers(u16),
    /// It takes the call, and says nothing.
    Hangs,
    /// It sends the caller somewhere else.
    Redirects(SocketAddr),
    /// It answers well, and never ends.
    GoesOn,
}

#[derive(Debug, Clone)]
struct Desk {
    heard: Arc<Mutex<Vec<Heard>>>,
    mood: Arc<Mutex<Mood>>,
}

pub struct Receiver {
    pub address: SocketAddr,
    desk: Desk,
    running: Option<AbortOnDropHandle<()>>,
}

impl Receiver {
    pub async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    async fn start_at(address: SocketAddr) -> Self {
        let mood = Arc::new(Mutex::new(Mood::Well));
        let mut receiver =
            Self { address, desk: Desk { heard: Arc::default(), mood }, running: None };
        receiver.come_back().await;
        receiver
    }

    /// It is there again, at the same address.
    pub async fn come_back(&mut self) {
        let listener = tokio::net::TcpListener::bind(self.address).await.expect("a port");
        self.address = listener.local_addr().expect("bound");
        let app = axum::Router::new().fallback(hear).with_state(self.desk.clone());
        self.running = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            axum::serve(listener, app).await.expect("it answers");
        })));
    }

    /// Nobody is there any more.
    pub fn die(&mut self) {
        self.running = None;
    }

    pub fn is(&self, mood: Mood) {
        *self.desk.mood.lock().unwrap() = mood;
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// All calls, in the order in which they came.
    pub fn heard(&self) -> Vec<Heard> {
        self.desk.heard.lock().unwrap().clone()
    }

    /// What it has accepted.
    pub fn accepted(&self) -> Vec<Heard> {
        self.heard().into_iter().filter(|heard| heard.accepted).collect()
    }
}

async fn hear(State(desk): State<Desk>, headers: HeaderMap, uri: Uri, body: Bytes) -> Response {
    let mood = *desk.mood.lock().unwrap();
    let text = String::from_utf8(body.to_vec()).expect("UTF-8");
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    assert_eq!(uri.path(), "/hook");
    let accepted = mood == Mood::Well;
    desk.heard.lock().unwrap().push(Heard { headers, text, body, accepted });
    let mut answer = match mood {
        Mood::Well => StatusCode::NO_CONTENT.into_response(),
        Mood::Answers(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Mood::Redirects(to) => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, format!("http://{to}/hook"))])
                .into_response()
        }
        Mood::Hangs => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            StatusCode::OK.into_response()
        }
        Mood::GoesOn => {
            let drop_by_drop = futures::stream::unfold((), async |()| {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Some((Ok::<_, std::io::Error>("drop"), ()))
            });
            axum::body::Body::from_stream(drop_by_drop).into_response()
        }
    };
    // Or who has died would go on to answer over the connections that are open.
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}
