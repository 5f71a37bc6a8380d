//! A task of the worker. It sends the e-mail that is due.

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

use super::Stop;
use crate::{
    changes::{
        letters::Letter,
        mailboxes::{self, Due, Outcome},
        post::{self, Post},
    },
    queue::claim::Incarnation,
};

/// How often a worker looks for mails that are due, if none ends meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Mails that are sent at the same time.
const AT_ONCE: usize = 4;
/// A mail is this worker's for so long. It ends earlier, and what came of it is written.
const LEASE: Duration = Duration::from_secs(60);
/// How long what came of a mail is tried to be written.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// The pause after the first failure is this part of the time between two mails: 5 seconds, if that
/// is 5 minutes.
const PAUSES: u32 = 60;

/// Sends until stopped; then the mails that are on their way end, and what came of them is written.
/// If it must stop at once, they are given up, and sent again later.
pub(super) async fn watch(pool: PgPool, me: Incarnation, post: Post, stop: Stop) {
    let sender = Arc::new(Sender { pool, me, post });
    let (mails, room) = (TaskTracker::new(), Arc::new(Semaphore::new(AT_ONCE)));
    let ended = Arc::new(Notify::new());
    while !stop.drain.is_cancelled() {
        if let Err(error) = sender.clone().start(&room, &mails, &ended, &stop).await {
            tracing::warn!(%error, "e-mail to send could not be looked for");
        }
        tokio::select! {
            () = stop.drain.cancelled() => break,
            () = ended.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    mails.close();
    mails.wait().await;
}

#[derive(Debug)]
struct Sender {
    pool: PgPool,
    me: Incarnation,
    post: Post,
}

impl Sender {
    /// Starts mails that are due, as many as there is room for.
    async fn start(
        self: Arc<Self>,
        room: &Arc<Semaphore>,
        mails: &TaskTracker,
        ended: &Arc<Notify>,
        stop: &Stop,
    ) -> sqlx::Result<()> {
        let free = room.available_permits();
        if free == 0 {
            return Ok(());
        }
        let mut db = self.pool.acquire().await?;
        let due = mailboxes::take(&mut db, self.me, free, LEASE, self.post.every()).await?;
        for due in due {
            let Ok(permit) = room.clone().acquire_owned().await else { return Ok(()) };
            let (this, ended, now) = (self.clone(), ended.clone(), stop.now.clone());
            mails.spawn(async move {
                now.run_until_cancelled(Box::pin(this.send(due))).await;
                drop(permit);
                ended.notify_one();
            });
        }
        Ok(())
    }

    async fn send(&self, due: Due) {
        let outcome = self.post.send(&Letter::of(&due, self.post.pages())).await;
        let written = tokio::time::timeout(WRITE_MAX, self.write(&due, &outcome)).await;
        let (person, attempt) = (due.person, due.attempt);
        match (written, &outcome) {
            (Ok(Ok(true)), _) => {
                tracing::warn!(%person, ?outcome, "an address does not exist: it gets no e-mail");
            }
            (Ok(Ok(false)), Outcome::Sent(_)) => tracing::debug!(%person, "an e-mail was sent"),
            (Ok(Ok(false)), _) => tracing::warn!(%person, ?outcome, "an e-mail was not sent yet"),
            // The lease runs out, and the mail is sent again.
            (Ok(Err(error)), _) => {
                tracing::warn!(%person, attempt, %error, "what came of an e-mail is lost");
            }
            (Err(_), _) => tracing::warn!(%person, attempt, "what came of an e-mail is lost"),
        }
    }

    async fn write(&self, due: &Due, outcome: &Outcome) -> sqlx::Result<bool> {
        let mut db = self.pool.acquire().await?;
        mailboxes::end(&mut db, due, outcome, self.post.every() / PAUSES).await
    }
}

const _: () = assert!(post::LETTER_MAX.as_secs() + WRITE_MAX.as_secs() < LEASE.as_secs());
