//! `photogate migrate`: creates or upgrades the database schema, and the logins of workers and of the
//! service.

use anyhow::bail;
use serde_json::json;

use super::{End, Output, say};
use crate::{
    config::Config,
    database::{self, Login, Migrated, Plan},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL 14 or later (--database-url).
The login must be allowed to create roles and a schema. If it is not, ask a login that is to run
migrations/roles.sql first.
It is safe to run it again: what is there already stays. Workers and services of the version before
go on meanwhile. A login that has another password than the one that is given is an error, and nothing
is changed, unless you add --change-passwords.

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
    /// Give these logins the passwords from the environment, also if they have others
    #[arg(long, conflicts_with = "check")]
    change_passwords: bool,
    /// All workers and services are stopped: migrate although those that used the database until
    /// now are too old to go on
    #[arg(long, conflicts_with = "check")]
    stopped: bool,
}

/// A login that is asked for.
struct Wanted<'a> {
    login: &'a str,
    password: &'a str,
    role: &'static str,
    is: Login,
}

impl Migrate {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        if self.check {
            return check(&database::plan(&config.database_url).await?, output);
        }
        // Before anything is changed: a wrong password stops it all.
        let wanted = self.wanted(config).await?;
        let tell = |said: &str| say!("{said}");
        let migrated = database::migrate_aloud(&config.database_url, self.stopped, tell).await?;
        for Wanted { login, password, role, is } in &wanted {
            let set = (*is == Login::Missing || self.change_passwords).then_some(*password);
            if set.is_none() && migrated != Migrated::UpToDate {
                // A newer program knows better what this login needs.
                continue;
            }
            database::make_login(&config.database_url, login, set, role).await?;
            match is {
                Login::Missing => say!("The login {login} was created."),
                _ if self.change_passwords => say!(
                    "The password of {login} was set: restart what connects as {login}, with this \
                     password."
                ),
                Login::Unknown => say!(
                    "warning: {login} keeps the password that it has: whether it is this one is not \
                     known, because the server does not let {login} in from here"
                ),
                Login::Same | Login::Other | Login::Ruler => {}
            }
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

    /// The logins that are asked for, as they are now.
    async fn wanted<'a>(&'a self, config: &'a Config) -> anyhow::Result<Vec<Wanted<'a>>> {
        let asked = [
            (&self.worker_login, &config.worker_password, "photogate_worker", "WORKER"),
            (&self.service_login, &config.service_password, "photogate_app", "SERVICE"),
        ];
        if self.worker_login.is_some() && self.worker_login == self.service_login {
            bail!("a worker and the service have different rights: give each a login of its own");
        }
        let mut wanted = Vec::new();
        for (login, password, role, name) in asked {
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
            let is = database::login_of(&config.database_url, login, password).await?;
            if is == Login::Ruler {
                bail!(
                    "{login} is a superuser, or the login that migrates: choose another name, which \
                     gets no other rights than those of {role}"
                );
            }
            if is == Login::Other && !self.change_passwords {
                bail!(
                    "{login} has another password than PHOTOGATE_{name}_PASSWORD, and nothing was \
                     changed: give the password that it has or, to change it, run this command with \
                     --change-passwords"
                );
            }
            wanted.push(Wanted { login, password, role, is });
        }
        Ok(wanted)
    }
}

fn check(plan: &Plan, output: Output) -> anyhow::Result<End> {
    output.one(plan, |out| {
        if plan.is_empty() {
            return writeln!(out, "There is nothing to do.");
        }
        match &plan.from {
            Some(from) => {
                writeln!(out, "The database is of photogate {from}; this is {}.", plan.to)?;
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
        if !plan.is_current {
            writeln!(out, "All functions are written again.")?;
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
            Some(why) => writeln!(out, "Workers and the service must stop first: {why}"),
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
