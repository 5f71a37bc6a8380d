//! `photogate migrate`

use serde_json::json;

use super::{End, Output};
use crate::{config::Config, database};

pub(super) async fn run(config: &Config, output: Output) -> anyhow::Result<End> {
    database::migrate(&config.database_url).await?;
    output.one(&json!({ "migrated": true }), |out| writeln!(out, "The database is up to date."))?;
    Ok(End::Ok)
}
