//! A task of the worker. It sends the e-mail that is due.

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Stop;
use crate::{
    changes::{
        letters::Letter,
        mailboxes::{self, Due},
        outcome::Outcome,
        post::{self, Post},
    },
    queue::claim::Incarnation,
};

/// How often a worker looks for mails that are due, if none ends meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Mails at the same time: to addresses that are well, and to those whose last mail has failed.
const MAILS: [(bool, usize); 2] = [(false, 4), (true, 2)];
/// A mail is this worker's for so long. It ends earlier, and what came of it is written.
const LEASE: Duration = Duration::from_secs(400);
/// Connections for what came of mails.
const WRITE_AT_ONCE: usize = 1;
/// Mails on their way end within this time when the worker is to stop, or are given up: a server may
/// think about one for minutes.
const LEAVE_MAX: Duration = Duration::from_secs(10);
/// How long what came of a mail is tried to be written.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// The pause after the first failure is this part of the time between two mails: 5 seconds, if that
/// is 5 minutes.
const PAUSES: u32 = 60;

/// Sends until stopped; then the mails that are on their way end, and what came of them is written.
/// Those that do not end soon are given up: their leases run out, and they are sent again.
pub(super) async fn watch(pool: PgPool, me: Incarnation, post: Post, stop: Stop) {
    let writing = Semaphore::new(WRITE_AT_ONCE);
    let sender = Arc::new(Sender { pool, me, post, writing });
    let mails = Mails {
        tracker: TaskTracker::new(),
        ended: Arc::new(Notify::new()),
        given_up: stop.now.child_token(),
    };
    let room = MAILS.map(|(failing, most)| (failing, Arc::new(Semaphore::new(most))));
    while !stop.drain.is_cancelled() {
        for (failing, room) in &room {
            if let Err(error) = sender.clone().start(*failing, room, &mails).await {
                tracing::warn!(%error, "e-mail to send could not be looked for");
            }
        }
        tokio::select! {
            () = stop.drain.cancelled() => break,
            () = mails.ended.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    mails.tracker.close();
    if tokio::time::timeout(LEAVE_MAX, mails.tracker.wait()).await.is_err() {
        mails.given_up.cancel();
        mails.tracker.wait().await;
    }
}

/// The mails on their way.
#[derive(Debug)]
struct Mails {
    tracker: TaskTracker,
    ended: Arc<Notify>,
    given_up: CancellationToken,
}

#[derive(Debug)]
struct Sender {
    pool: PgPool,
    me: Incarnation,
    post: Post,
    /// For what came of mails. Claims and heartbeats must not wait for a connection.
    writing: Semaphore,
}

impl Sender {
    /// Starts mails that are due, as many as there is room for.
    async fn start(
        self: Arc<Self>,
        failing: bool,
        room: &Arc<Semaphore>,
        mails: &Mails,
    ) -> sqlx::Result<()> {
        let free = room.available_permits();
        if free == 0 {
            return Ok(());
        }
        let mut db = self.pool.acquire().await?;
        let every = self.post.every();
        for due in mailboxes::take(&mut db, self.me, failing, free, LEASE, every).await? {
            let Ok(permit) = room.clone().acquire_owned().await else { return Ok(()) };
            let (this, ended) = (self.clone(), mails.ended.clone());
            let given_up = mails.given_up.clone();
            mails.tracker.spawn(async move {
                given_up.run_until_cancelled(Box::pin(this.send(due))).await;
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
                tracing::warn!(%person, ?outcome, "an address takes no mail: nothing is sent there");
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
        let _one_of_few = self.writing.acquire().await;
        let mut db = self.pool.acquire().await?;
        mailboxes::end(&mut db, due, outcome, self.post.every() / PAUSES).await
    }
}

const _: () = assert!(post::LETTER_MAX.as_secs() + WRITE_MAX.as_secs() < LEASE.as_secs());
