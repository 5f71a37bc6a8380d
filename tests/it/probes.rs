//! The store is asked whether it works, and photos are fetched, beside other processes and other photos.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{Method, StatusCode, Uri},
    response::Response,
};
use photogate::catalog::{key::Key, photo_store::PhotoStore};
use tokio::{task::AbortHandle, time::Instant};

use crate::support::{PATIENCE, place};

/// A bucket of Google that lets nobody write a file twice, as Google itself within a second. The first
/// answer with `small.jpg` begins, and never ends.
#[derive(Debug, Clone, Default)]
struct Bucket(Arc<Mutex<Files>>);

#[derive(Debug, Default)]
struct Files {
    now: HashMap<String, Bytes>,
    written: HashMap<String, u32>,
    /// Answers with `small.jpg`, and whether the first was given up.
    read: u32,
    given_up: bool,
}

/// Notes that an answer was given up.
struct Open(Bucket);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().given_up = true;
    }
}

impl Bucket {
    async fn start(&self) -> (PhotoStore, AbortHandle) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = axum::Router::new().fallback(answer).with_state(self.clone());
        let server = tokio::spawn(async move { axum::serve(listener, answers).await.unwrap() });
        (Self::store(&format!("http://{address}")), server.abort_handle())
    }

    fn store(server: &str) -> PhotoStore {
        let key = r#"{"disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}"#;
        let options = [
            ("google_base_url", server),
            ("google_service_account_key", key),
            ("google_allow_http", "true"),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        PhotoStore::open("gs://photos", &options.into()).unwrap()
    }
}

async fn answer(State(bucket): State<Bucket>, method: Method, uri: Uri, body: Bytes) -> Response {
    let name = uri.path().rsplit('/').next().unwrap().replace("%2E", ".");
    let mut files = bucket.0.lock().unwrap();
    let said = Response::builder()
        .header("etag", "\"1\"")
        .header("last-modified", "Wed, 21 Oct 2015 07:28:00 GMT");
    let (status, length, body) = if method == Method::PUT {
        let times = files.written.entry(name.clone()).or_default();
        *times += 1;
        if *times > 1 {
            (StatusCode::TOO_MANY_REQUESTS, 0, Body::empty())
        } else {
            files.now.insert(name, body);
            (StatusCode::OK, 0, Body::empty())
        }
    } else if method == Method::DELETE {
        files.now.remove(&name);
        (StatusCode::NO_CONTENT, 0, Body::empty())
    } else if name == "large.jpg" {
        let part = Bytes::from(vec![0; 8 << 20]);
        let parts = std::iter::repeat_n(part, 64).map(Ok::<_, std::io::Error>);
        (StatusCode::OK, 512 << 20, Body::from_stream(futures::stream::iter(parts)))
    } else if name == "small.jpg" {
        files.read += 1;
        if files.read == 1 {
            let open = Open(bucket.clone());
            let never_ends = futures::stream::once(async move {
                let _open = open;
                std::future::pending::<Result<Bytes, std::io::Error>>().await
            });
            (StatusCode::OK, 5, Body::from_stream(never_ends))
        } else {
            (StatusCode::OK, 5, Body::from("photo"))
        }
    } else {
        match files.now.get(&name) {
            Some(bytes) => (StatusCode::OK, bytes.len(), Body::from(bytes.clone())),
            None => (StatusCode::NOT_FOUND, 0, Body::empty()),
        }
    };
    said.status(status).header("content-length", length).body(body).unwrap()
}

/// Found: all processes wrote one file. Google lets a file change once a second, so that most of 64
/// workers that started together took the store for broken.
#[tokio::test(flavor = "multi_thread")]
async fn processes_that_ask_together_do_not_disturb_each_other() {
    let bucket = Bucket::default();
    let (store, server) = bucket.start().await;

    for _ in 0..3 {
        assert_eq!(store.probe(Instant::now()).await, Ok(()));
    }

    let left = bucket.0.lock().unwrap().now.len();
    assert_eq!(left, 0, "files of probes stay");
    assert_eq!(bucket.0.lock().unwrap().written.len(), 3);
    server.abort();
}

/// Found: a probe waited until photos left room in memory, and a store that was only busy counted as
/// down.
#[tokio::test(flavor = "multi_thread")]
async fn a_probe_waits_for_no_photo() {
    let directory = place("a-store-that-is-busy");
    fs::create_dir_all(&directory).unwrap();
    // It takes no room on the disk.
    fs::File::create(directory.join("a.jpg")).unwrap().set_len(512 << 20).unwrap();
    let url = url::Url::from_directory_path(&directory).unwrap();
    let store = PhotoStore::open(url.as_str(), &BTreeMap::new()).unwrap();
    let all_room = store.get(&Key::parse("a.jpg").unwrap(), 1 << 30).await.unwrap();

    let answer = store.probe(Instant::now()).await;

    assert_eq!(answer, Ok(()));
    drop(all_room);
}

/// Found: the answer was asked for first, and stayed open while there was no room, until the client's
/// limit of time ended it.
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_open_while_there_is_no_room() {
    let bucket = Bucket::default();
    let (store, server) = bucket.start().await;
    let all_room = store.get(&Key::parse("large.jpg").unwrap(), 1 << 30).await.unwrap();
    let small = {
        let store = store.clone();
        tokio::spawn(async move { store.get(&Key::parse("small.jpg").unwrap(), 1 << 30).await })
    };

    let given_up = async {
        while !bucket.0.lock().unwrap().given_up {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, given_up).await.expect("it waits, with an open answer");
    drop(all_room);

    let small = tokio::time::timeout(PATIENCE, small).await.unwrap().unwrap();
    assert_eq!(&small.unwrap()[..], b"photo");
    assert_eq!(bucket.0.lock().unwrap().read, 2);
    server.abort();
}
