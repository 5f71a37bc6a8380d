//! A bucket that speaks S3, with the samples in it, and with the troubles of real ones.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    sync::{Arc, Mutex},
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{Method, Request, Response, StatusCode, header},
};
use futures::{StreamExt, stream};
use tokio::sync::Semaphore;

use super::{a_free_address, root};

/// What is below `forbidden/` may not be read. What is below `broken/` makes the server fail. Of a
/// file below `late/`, the size comes at once, and the bytes when it is their turn.
pub struct Bucket {
    pub options: BTreeMap<String, String>,
    files: Files,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Files {
    all: Arc<Mutex<HashMap<String, Bytes>>>,
    /// One permit for each file below `late/` whose bytes may come.
    late: Arc<Semaphore>,
}

impl Bucket {
    pub async fn start() -> Self {
        let files = Files { all: Arc::default(), late: Arc::new(Semaphore::new(0)) };
        let address = a_free_address();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let answers = axum::Router::new().fallback(answer).with_state(files.clone());
        let server = tokio::spawn(async move { axum::serve(listener, answers).await.unwrap() });
        let options = [
            ("aws_endpoint", format!("http://{address}")),
            ("aws_allow_http", "true".into()),
            ("aws_access_key_id", "x".into()),
            ("aws_secret_access_key", "x".into()),
            ("aws_region", "x".into()),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value)).into();
        let bucket = Self { options, files, server };
        for sample in fs::read_dir(root().join("samples/marathon")).unwrap() {
            let sample = sample.unwrap();
            let key = format!("marathon/{}", sample.file_name().to_str().unwrap());
            bucket.keep(&key, fs::read(sample.path()).unwrap());
        }
        bucket
    }

    pub fn keep(&self, key: &str, file: Vec<u8>) {
        self.files.all.lock().unwrap().insert(format!("/photos/{key}"), file.into());
    }

    /// Lets the bytes of so many more files below `late/` come.
    pub fn answer(&self, files: usize) {
        self.files.late.add_permits(files);
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(files): State<Files>, asked: Request<Body>) -> Response<Body> {
    let (asked, body) = asked.into_parts();
    let path = asked.uri.path();
    let (status, file) = if path.contains("/forbidden/") {
        (StatusCode::FORBIDDEN, None)
    } else if path.contains("/broken/") {
        (StatusCode::INTERNAL_SERVER_ERROR, None)
    } else if asked.method == Method::PUT {
        let file = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        files.all.lock().unwrap().insert(path.to_owned(), file);
        (StatusCode::OK, None)
    } else {
        let file = files.all.lock().unwrap().get(path).cloned();
        (file.as_ref().map_or(StatusCode::NOT_FOUND, |_| StatusCode::OK), file)
    };
    let file = file.unwrap_or_default();
    let length = file.len();
    let body = if asked.method == Method::GET && path.contains("/late/") {
        Body::from_stream(stream::once(when_it_is_its_turn(files.late, file)).boxed())
    } else {
        Body::from(file)
    };
    Response::builder()
        .status(status)
        .header(header::CONTENT_LENGTH, length)
        .header(header::ETAG, "\"1\"")
        .header(header::LAST_MODIFIED, "Wed, 21 Oct 2015 07:28:00 GMT")
        .body(body)
        .unwrap()
}

async fn when_it_is_its_turn(
    late: Arc<Semaphore>,
    file: Bytes,
) -> Result<Bytes, tokio::sync::AcquireError> {
    late.acquire().await?.forget();
    Ok(file)
}
