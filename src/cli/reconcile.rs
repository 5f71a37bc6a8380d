//! `photogate reconcile`

use super::{End, Output, say};
use crate::{config::Config, database, reconcile};

pub(super) async fn run(config: &Config, output: Output) -> anyhow::Result<End> {
    let pool = database::connect(&config.database_url, 1).await?;
    let checks = reconcile::reconcile(&mut *pool.acquire().await?).await?;
    output.rows(&checks, &["Violations", "Invariant", "Meaning"], |check| {
        vec![check.violations.to_string(), check.invariant.into(), check.meaning.into()]
    })?;
    if checks.iter().all(|check| check.violations == 0) {
        say!("The books balance.");
        Ok(End::Ok)
    } else {
        say!("error: the books do not balance");
        Ok(End::BooksDoNotBalance)
    }
}
