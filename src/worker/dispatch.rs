//! Runs the handlers with the library apalis, over a backend of our own: a stream of photos that
//! are already claimed. This is the only file that uses apalis.

use std::{
    convert::Infallible,
    future::Future,
    task::{Context, Poll},
};

use apalis::prelude::{Task, WorkerBuilder, WorkerContext, WorkerError};
use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    task::builder::TaskBuilder,
};
use tokio::sync::mpsc;
use tower::layer::util::Identity;

use crate::worker::claimer::Claimed;

/// The backend for apalis: a stream of claimed photos. It ends when the claiming task ends. Then
/// apalis waits for the photos that are still in work.
#[derive(Debug)]
struct GatedQueue {
    claimed: mpsc::Receiver<Claimed>,
}

impl Backend for GatedQueue {
    type Task = Task<Claimed>;
    type Error = Infallible;

    fn poll_ready(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Task<Claimed>, Infallible>>> {
        self.claimed
            .poll_recv(cx)
            .map(|next| next.map(|claimed| Ok(TaskBuilder::new(claimed).build())))
    }

    fn poll_close(
        &mut self,
        _: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        // apalis does not stop by itself when its stream ends, so it is stopped here.
        let _ = worker.stop();
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for GatedQueue {
    type Args = Claimed;
    type Id = i64;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}

/// Calls `handle` for every claimed photo, for all of them at the same time. Returns when the
/// stream has ended and all calls have returned.
///
/// # Errors
/// When apalis gives up. Nothing in this backend makes it give up.
pub(crate) async fn drive<H, F>(
    name: &str,
    claimed: mpsc::Receiver<Claimed>,
    handle: H,
) -> Result<(), WorkerError>
where
    H: FnMut(Claimed) -> F + Send + Clone + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    WorkerBuilder::new(name).backend(GatedQueue { claimed }).build(handle).run().await
}
