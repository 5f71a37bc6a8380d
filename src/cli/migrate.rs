//! `photogate migrate`: creates or upgrades the database schema.

use anyhow::bail;
use serde_json::json;

use super::{End, Output};
use crate::{config::Config, database};

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL 14 or later (--database-url).
The login must be allowed to create roles and a schema. If it is not, ask a login that is to run
migrations/roles.sql first.
It is safe to run it again: what is there already stays.")]
pub(super) struct Migrate {
    /// Also create a login for workers, with no other role than `photogate_worker`; reads its
    /// password from `PHOTOGATE_WORKER_PASSWORD`
    #[arg(long, value_name = "LOGIN")]
    worker_login: Option<String>,
    /// Also create a login for the service, with no other role than `photogate_app`; reads its
    /// password from `PHOTOGATE_SERVICE_PASSWORD`
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
                    "{login} is the name of a role: choose a name that does not begin with \
                     photogate_ or pg_"
                );
            }
            database::make_login(&config.database_url, login, password, role).await?;
        }
        let made = json!({
            "migrated": true,
            "worker_login": self.worker_login,
            "service_login": self.service_login,
        });
        output.one(&made, |out| writeln!(out, "The database is up to date."))?;
        Ok(End::Ok)
    }
}
