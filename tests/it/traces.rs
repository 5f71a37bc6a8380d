//! A call that queues photos and the work on them are one trace.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use nix::sys::signal::Signal;
use photogate::access::Role;
use serde_json::json;

use crate::support::{App, Process, a_free_address, program};

type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

/// Something that takes traces, as a collector does.
async fn a_collector() -> (SocketAddr, Heard) {
    let heard = Heard::default();
    let take = |State(heard): State<Heard>, body: Bytes| async move {
        heard.lock().unwrap().push(body.to_vec());
    };
    let app = Router::new().route("/v1/traces", post(take)).with_state(heard.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, heard)
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_on_a_photo_is_part_of_the_trace_of_the_call_that_queued_it() {
    let app = App::new().await;
    let (collector, heard) = a_collector().await;
    let (organisation, event) = app.an_event_with(5).await;
    let token = app.a_token(Role::Pipeline, Some(organisation)).await;
    let traced = |arguments: &[&str]| {
        let mut command = program(&app.config);
        command.args(arguments).env("PHOTOGATE_OTLP_ENDPOINT", format!("http://{collector}"));
        Process::start(command)
    };
    let address = a_free_address();
    let mut service = traced(&["serve", "--listen", &address.to_string()]);
    let mut worker = traced(&["work", "--rehearse"]);
    app.until_ready(address).await;

    let body = json!({ "operation": "photo_processing", "keys": ["rehearsal/ok/1"] });
    let call = reqwest::Client::new()
        .post(format!("http://{address}/v1/events/{event}/runs"))
        .bearer_auth(&token)
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_eq!(call.json(&body).send().await.unwrap().status(), 202);
    app.until_done(event).await;
    for process in [&mut worker, &mut service] {
        process.signal(Signal::SIGTERM);
        assert!(process.wait().success());
    }

    let heard = heard.lock().unwrap().clone();
    let trace = [
        0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31,
        0x9c,
    ];
    let told = |words: &[u8]| heard.iter().any(|body| has(body, words) && has(body, &trace));
    assert!(told(b"http.request.method"), "the call");
    assert!(told(b"photogate.verdict"), "the work");
    assert_eq!(
        app.count(
            "SELECT count(*) FROM run WHERE trace LIKE '00-0af7651916cd43dd8448eb211c80319c-%'"
        )
        .await,
        1
    );
}
