//! Time limits for questions to PostgreSQL, for a server that vanished without a word.

use std::{io, time::Duration};

/// Longer than the server's own limit for a statement.
pub(crate) const PATIENCE: Duration = Duration::from_secs(70);

/// Waits for the database for so long at most. A server that vanished without a word would be
/// waited for for ever: nothing is on its way that the kernel could give up on.
pub(crate) async fn in_time<T, E: From<sqlx::Error>>(
    most: Duration,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(most, asked)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::from(io::Error::from(io::ErrorKind::TimedOut)).into()))
}
