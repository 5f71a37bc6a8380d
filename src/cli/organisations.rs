//! `photogate organisations …`

use serde_json::json;

use super::{End, Output};
use crate::{config::Config, database, organisation};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Organisations {
    /// Creates an organisation with an empty account
    #[command(
        after_help = "Example:\n  photogate organisations create 'Athletics Club' --time-zone Europe/Berlin"
    )]
    Create {
        /// As it calls itself
        name: String,
        /// Where its months begin and end
        #[arg(long, default_value = "UTC")]
        time_zone: String,
    },
    /// Lists all organisations
    List,
}

impl Organisations {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        match self {
            Self::Create { name, time_zone } => {
                let id = organisation::create(&mut db, &name, &time_zone)
                    .await
                    .map_err(super::sentence)?;
                output.one(&json!({ "organisation": id }), |out| {
                    writeln!(out, "Organisation {id} was created.")
                })?;
            }
            Self::List => {
                let all = organisation::list(&mut db).await?;
                output.rows(&all, &["Organisation", "Name", "Time zone"], |one| {
                    vec![one.id.to_string(), one.name.clone(), one.time_zone.clone()]
                })?;
            }
        }
        Ok(End::Ok)
    }
}
