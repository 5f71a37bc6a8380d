//! `photogate tokens …` and `photogate people …`: who may use the service.

use std::io::{IsTerminal, Read};

use anyhow::Context;
use serde_json::json;

use super::{End, Output, say};
use crate::{
    access::{self, Caller, Role},
    commands::{CreatedToken, NewPerson, NewToken, PersonChange},
    config::Config,
    database,
    ids::{OrganisationId, TokenId},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Tokens {
    /// Makes a token; it is shown once
    #[command(after_help = "Examples:
  photogate tokens create 'upload pipeline' --role pipeline --organisation 1
  photogate tokens create 'support' --role staff")]
    Create {
        /// What it is for
        name: String,
        /// What it may do
        #[arg(long)]
        role: Role,
        /// The only organisation it sees
        #[arg(long)]
        organisation: Option<OrganisationId>,
        /// Who makes it
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Lists the tokens, without their secrets
    List {
        /// Whose
        organisation: Option<OrganisationId>,
    },
    /// Makes a token useless
    Revoke {
        /// Which
        token: TokenId,
        /// Who revokes it
        #[arg(long, default_value = "cli")]
        actor: String,
    },
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum People {
    /// Gives somebody an account for the pages; the password is read from stdin
    #[command(
        after_help = "Example:\n  photogate people add anna@club.example --role organiser --organisation 1"
    )]
    Add {
        /// With which they log in
        email: String,
        /// What they may do
        #[arg(long)]
        role: Role,
        /// The only organisation they see
        #[arg(long)]
        organisation: Option<OrganisationId>,
        /// Who gives it
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Lists those with an account
    List {
        /// Whose
        organisation: Option<OrganisationId>,
    },
    /// Gives somebody another password, and ends their sessions; it is read from stdin
    Password {
        /// Who
        email: String,
        /// Who does it
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Keeps somebody from logging in, and ends their sessions
    Disable {
        /// Who
        email: String,
        /// Lets them again
        #[arg(long)]
        enable: bool,
        /// Who does it
        #[arg(long, default_value = "cli")]
        actor: String,
    },
}

impl Tokens {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        match self {
            Self::Create { name, role, organisation, actor } => {
                let caller = Caller::at_the_command_line(&actor);
                let new = NewToken { name, role, organisation };
                let made = super::commands(config).await?.create_token(&caller, &new).await;
                let CreatedToken { id, secret } = match made {
                    Ok(made) => made,
                    Err(error) => return super::refused(error),
                };
                output.one(&json!({ "token": id, "secret": secret }), |out| {
                    writeln!(out, "{}", secret.0)
                })?;
                say!("Token {id} was created. It is not shown again: keep it.");
            }
            Self::List { organisation } => {
                let tokens = access::tokens(&mut db, organisation).await?;
                let header =
                    ["Token", "Begins", "Name", "Role", "Organisation", "Last used", "Revoked"];
                output.rows(&tokens, &header, |token| {
                    let dash = || "—".to_owned();
                    let day = |at: Option<chrono::DateTime<chrono::Utc>>| {
                        at.map_or_else(dash, |at| at.format("%Y-%m-%d %H:%M UTC").to_string())
                    };
                    vec![
                        token.id.to_string(),
                        token.hint.clone(),
                        token.name.clone(),
                        token.role.to_string(),
                        token.organisation.map_or_else(dash, |id| id.to_string()),
                        day(token.last_used_at),
                        day(token.revoked_at),
                    ]
                })?;
            }
            Self::Revoke { token, actor } => {
                let caller = Caller::at_the_command_line(&actor);
                let revoked = super::commands(config).await?.revoke_token(&caller, token).await;
                if let Err(error) = revoked {
                    return super::refused(error);
                }
                output.one(&json!({ "token": token, "revoked": true }), |out| {
                    writeln!(out, "Token {token} is of no use any more.")
                })?;
            }
        }
        Ok(End::Ok)
    }
}

impl People {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        match self {
            Self::Add { email, role, organisation, actor } => {
                let caller = Caller::at_the_command_line(&actor);
                let new =
                    NewPerson { email: email.clone(), password: password()?, role, organisation };
                let made = super::commands(config).await?.create_person(&caller, &new).await;
                if let Err(error) = made {
                    return super::refused(error);
                }
                output
                    .one(&json!({ "email": email }), |out| writeln!(out, "{email} can log in."))?;
            }
            Self::List { organisation } => {
                let people = access::people(&mut db, organisation).await?;
                let header = ["Person", "E-mail", "Role", "Organisation", "Disabled"];
                output.rows(&people, &header, |person| {
                    let dash = || "—".to_owned();
                    vec![
                        person.id.to_string(),
                        person.email.clone(),
                        person.role.to_string(),
                        person.organisation.map_or_else(dash, |id| id.to_string()),
                        person
                            .disabled_at
                            .map_or_else(dash, |at| at.format("%Y-%m-%d %H:%M UTC").to_string()),
                    ]
                })?;
            }
            Self::Password { email, actor } => {
                let Some(person) = access::find_person(&mut db, &email).await? else {
                    return Ok(nobody(&email));
                };
                let change =
                    PersonChange { password: Some(password()?), ..PersonChange::default() };
                let caller = Caller::at_the_command_line(&actor);
                let commands = super::commands(config).await?;
                if let Err(error) = commands.change_person(&caller, person.id, &change).await {
                    return super::refused(error);
                }
                output.one(&json!({ "email": person.email }), |out| {
                    writeln!(out, "{} has another password, and has to log in again.", person.email)
                })?;
            }
            Self::Disable { email, enable, actor } => {
                let Some(person) = access::find_person(&mut db, &email).await? else {
                    return Ok(nobody(&email));
                };
                let change = PersonChange { disabled: Some(!enable), ..PersonChange::default() };
                let caller = Caller::at_the_command_line(&actor);
                let commands = super::commands(config).await?;
                if let Err(error) = commands.change_person(&caller, person.id, &change).await {
                    return super::refused(error);
                }
                output.one(&json!({ "email": person.email, "disabled": !enable }), |out| {
                    let can = if enable { "can log in again" } else { "cannot log in any more" };
                    writeln!(out, "{} {can}.", person.email)
                })?;
            }
        }
        Ok(End::Ok)
    }
}

fn nobody(email: &str) -> End {
    say!("error: nobody has an account as {email}");
    End::NotFound
}

/// Asked for at a terminal, without being shown; otherwise the first 4,096 bytes of stdin.
fn password() -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        let terminal = console::Term::stderr();
        terminal.write_str("Password (12 characters or more): ")?;
        return terminal.read_secure_line().context("reading the password");
    }
    let mut password = String::new();
    std::io::stdin()
        .take(4096)
        .read_to_string(&mut password)
        .context("reading the password from stdin")?;
    password.truncate(password.trim_end_matches(['\r', '\n']).len());
    Ok(password)
}
