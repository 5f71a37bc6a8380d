//! Whether the store works, as far as this process of the service knows. The service goes on without it:
//! what needs the store is answered with `store_unavailable`.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Service;

/// The pause between two questions while something does not work.
const PAUSE: Duration = Duration::from_secs(5);
/// The pause between two questions whether files can be uploaded, while they can.
const UPLOADS_PAUSE: Duration = Duration::from_secs(60);

/// What does not work, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    reason: &'static str,
    /// What people cannot do.
    says: &'static str,
    detail: String,
}

/// What of the store does not work, if something does not.
#[derive(Debug, Default)]
pub(super) struct StoreState(Mutex<Option<Trouble>>);

impl StoreState {
    /// One line for those who ask whether the service is ready.
    pub(super) fn line(&self) -> String {
        let now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        now.as_ref().map_or_else(
            || "ready\n".to_owned(),
            |trouble| format!("ready, but {}: its log says why\n", trouble.says),
        )
    }

    /// Logs what is new.
    fn becomes(&self, next: Option<Trouble>) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == next {
            return;
        }
        match &next {
            Some(Trouble { reason, says, detail }) => tracing::warn!(reason, detail, "{says}"),
            None => tracing::info!("the photo store works now"),
        }
        *now = next;
    }
}

/// Asks at the start whether the store works, until it does, and from then on whether there is a place
/// for uploads: somebody may copy photos into the store as another user.
pub(super) async fn watch(service: Service, stop: CancellationToken) {
    let (store, state) = (&service.store, &service.store_state);
    let down = metrics::gauge!("photogate_store_unavailable");
    let asking = async {
        while let Err(detail) = store.probe(Instant::now()).await {
            down.set(1.0);
            let says = "photos cannot be listed, shown or uploaded for now";
            state.becomes(Some(Trouble { reason: "store_unavailable", says, detail }));
            sleep(PAUSE.mul_f64(rand::random_range(0.75..1.25))).await;
        }
        down.set(0.0);
        loop {
            let trouble = store.takes_uploads().await.err().map(|detail| Trouble {
                reason: "store_takes_no_uploads",
                says: "photos cannot be uploaded for now",
                detail,
            });
            let pause = if trouble.is_some() { PAUSE } else { UPLOADS_PAUSE };
            state.becomes(trouble);
            sleep(pause).await;
        }
    };
    stop.run_until_cancelled(asking).await;
}
