//! `photogate migrate`

use anyhow::bail;
use serde_json::json;

use super::{End, Output};
use crate::{config::Config, database};

#[derive(Debug, clap::Args)]
pub(super) struct Migrate {
    /// Also makes a login for workers, a member of `photogate_worker` and of nothing else; its password is taken from
    /// `PHOTOGATE_WORKER_PASSWORD`
    #[arg(long, value_name = "LOGIN")]
    worker_login: Option<String>,
}

impl Migrate {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        database::migrate(&config.database_url).await?;
        if let Some(login) = &self.worker_login {
            let Some(password) = &config.worker_password else {
                bail!("there is no password for {login}: set PHOTOGATE_WORKER_PASSWORD");
            };
            if login.starts_with("photogate_") || login.starts_with("pg_") {
                bail!(
                    "{login} is a role, not a login: choose a name that does not begin with photogate_ or pg_"
                );
            }
            database::make_login(&config.database_url, login, password).await?;
        }
        let made = json!({ "migrated": true, "worker_login": self.worker_login });
        output.one(&made, |out| writeln!(out, "The database is up to date."))?;
        Ok(End::Ok)
    }
}
