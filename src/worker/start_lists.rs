//! The start lists of the events that a worker works on.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use photogate_jobs::StartList;
use sqlx::PgPool;
use tokio::sync::Mutex;

use crate::{database, ids::EventId};

/// Time for which a worker uses a list before it reads it again.
const FRESH: Duration = Duration::from_secs(5);

/// A cache of the start lists of the events that a worker works on.
#[derive(Debug)]
pub(super) struct StartLists {
    pool: PgPool,
    /// Locked while a list is read, so that tasks which need the same list wait for one query.
    read: Mutex<HashMap<EventId, (Instant, Arc<StartList>)>>,
}

impl StartLists {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool, read: Mutex::default() }
    }

    /// Returns an event's start list; an empty one if the event has none.
    pub(super) async fn of(&self, event: EventId) -> sqlx::Result<Arc<StartList>> {
        let mut read = self.read.lock().await;
        read.retain(|_, (at, _)| at.elapsed() < FRESH);
        if let Some((_, list)) = read.get(&event) {
            return Ok(list.clone());
        }
        let numbers =
            sqlx::query_scalar!("SELECT numbers FROM start_list WHERE event_id = $1", event.0);
        let numbers = numbers.fetch_optional(&self.pool);
        let numbers = database::in_time(database::PATIENCE, numbers).await?;
        let list = Arc::new(StartList::new(numbers.unwrap_or_default()));
        read.insert(event, (Instant::now(), list.clone()));
        Ok(list)
    }
}
