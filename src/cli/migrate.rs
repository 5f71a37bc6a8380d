//! `photogate migrate`: creates or upgrades the database schema.

use anyhow::bail;
use serde_json::json;

use super::{End, Output, say};
use crate::{
    config::Config,
    database::{self, Migrated, Plan},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL 14 or later (--database-url).
The login must be allowed to create roles and a schema. If it is not, ask a login that is to run
migrations/roles.sql first.
It is safe to run it again: what is there already stays. Workers and services of the version before
go on meanwhile.

Exit codes of --check: 0 nothing to do, 5 there is something to do and all goes on meanwhile, 6
workers and the service must be stopped first.")]
pub(super) struct Migrate {
    /// Only say what would be done, which locks it needs, and whether anything must stop; change
    /// nothing
    #[arg(long, conflicts_with_all = ["worker_login", "service_login"])]
    check: bool,
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
        if self.check {
            return check(&database::plan(&config.database_url).await?, output);
        }
        let migrated = database::migrate_aloud(&config.database_url, |said| say!("{said}")).await?;
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
            "migrated": migrated == Migrated::UpToDate,
            "worker_login": self.worker_login,
            "service_login": self.service_login,
        });
        output.one(&made, |out| match &migrated {
            Migrated::UpToDate => writeln!(out, "The database is up to date."),
            Migrated::ByNewer(version) => writeln!(
                out,
                "photogate {version} has migrated the database, and serves this version: nothing \
                 was changed."
            ),
        })?;
        Ok(End::Ok)
    }
}

fn check(plan: &Plan, output: Output) -> anyhow::Result<End> {
    output.one(plan, |out| {
        if plan.is_empty() {
            return writeln!(out, "There is nothing to do.");
        }
        match &plan.from {
            Some(from) => {
                writeln!(out, "The database is of photogate {from}; this is {}.", plan.to)?
            }
            None => writeln!(out, "The database is empty; this is photogate {}.", plan.to)?,
        }
        for step in &plan.migrations {
            let how = if step.in_transaction { "" } else { ", not in a transaction" };
            let locks = match &step.locks[..] {
                [] => "nobody waits".to_owned(),
                locks => locks.join("; "),
            };
            writeln!(out, "Migration {} ({}{how}): {locks}.", step.number, step.name)?;
        }
        for (what, names) in [
            ("new", &plan.new_functions),
            ("replaced", &plan.changed_functions),
            ("dropped", &plan.dropped_functions),
        ] {
            if !names.is_empty() {
                writeln!(out, "Functions {what} ({}): {}.", names.len(), names.join(", "))?;
            }
        }
        match &plan.stop {
            Some(why) => writeln!(out, "Workers and the service must stop first: {why}."),
            None => writeln!(
                out,
                "Nothing must stop: workers and services of {} and newer go on. Older ones do not \
                 start again.",
                plan.serves
            ),
        }
    })?;
    Ok(match (plan.is_empty(), &plan.stop) {
        (true, _) => End::Ok,
        (false, None) => End::Pending,
        (false, Some(_)) => End::MustStop,
    })
}
