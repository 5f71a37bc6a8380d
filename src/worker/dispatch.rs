//! apalis drives the work, over a queue of our own: what comes out of it is claimed and paid for. The only file that
//! knows apalis.

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

use crate::worker::Claimed;

/// A stream of claimed photos. It ends when the claiming task does; apalis then waits for what is still being worked on.
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
        // apalis does not take the end of its stream for a reason to end: it waits to be stopped.
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

/// Calls `handle` for every claimed photo, at once for as many as were claimed, until the stream ends and all is done.
///
/// # Errors
/// When apalis gives up; nothing in this queue makes it.
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
