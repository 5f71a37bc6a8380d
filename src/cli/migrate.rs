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
    /// Also makes a login for the service, a member of `photogate_app` and of nothing else; its password is taken from
    /// `PHOTOGATE_SERVICE_PASSWORD`
    #[arg(long, value_name = "LOGIN")]
    service_login: Option<String>,
}

impl Migrate {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        database::migrate(&config.database_url).await?;
        let wanted = [
            (&self.worker_login, &config.worker_password, "photogate_worker", "WORKER"),
            (&self.service_login, &config.service_password, "photogate_app", "SERVICE"),
        ];
        for (login, password, role, name) in wanted {
            let Some(login) = login else { continue };
            let Some(password) = password else {
                bail!("there is no password for {login}: set PHOTOGATE_{name}_PASSWORD");
            };
            if login.starts_with("photogate_") || login.starts_with("pg_") {
                bail!(
                    "{login} is a role, not a login: choose a name that does not begin with photogate_ or pg_"
                );
            }
            database::make_login(&config.database_url, login, password, role).await?;
        }
        let made = json!({ "migrated": true, "worker_login": self.worker_login, "service_login": self.service_login });
        output.one(&made, |out| writeln!(out, "The database is up to date."))?;
        Ok(End::Ok)
    }
}
