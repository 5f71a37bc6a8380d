//! `photogate migrate`

use anyhow::bail;
use serde_json::json;

use super::{End, Output};
use crate::{config::Config, database};

#[derive(Debug, clap::Args)]
pub(super) struct Migrate {
    /// Also makes a login for workers, a member of `photogate_app` and of nothing else; its password is taken from
    /// `PHOTOGATE_APP_PASSWORD`
    #[arg(long, value_name = "LOGIN")]
    app_login: Option<String>,
}

impl Migrate {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        database::migrate(&config.database_url).await?;
        if let Some(login) = &self.app_login {
            let Some(password) = &config.app_password else {
                bail!("there is no password for {login}: set PHOTOGATE_APP_PASSWORD");
            };
            database::make_login(&config.database_url, login, password).await?;
        }
        let made = json!({ "migrated": true, "app_login": self.app_login });
        output.one(&made, |out| writeln!(out, "The database is up to date."))?;
        Ok(End::Ok)
    }
}
