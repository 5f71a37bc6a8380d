//! The commands `photogate tokens …` (create, list, revoke) and `photogate people …` (add, list,
//! password, reset-second-factor, invitations, withdraw, disable).

use serde_json::json;
use sqlx::PgConnection;

use super::{End, Output, say};
use crate::{
    access::{self, Caller, Invitation, Link, Person, Role, Token},
    commands::{CreatedToken, NewPerson, NewToken, PersonChange},
    config::Config,
    database,
    ids::{InvitationId, OrganisationId, TokenId},
};

/// Rows that are read from the database at once.
const PAGE: i64 = 1000;

/// The columns of the list of tokens.
const HEADER: [&str; 8] =
    ["Token", "Begins", "Name", "Role", "Organisation", "Expires", "Last used", "Revoked"];

#[derive(Debug, clap::Subcommand)]
pub(super) enum Tokens {
    /// Creates a token for a program. It is printed once and cannot be shown again
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Examples:
  photogate tokens create 'upload pipeline' --role pipeline --organisation 1
  photogate tokens create 'support' --role staff")]
    Create {
        /// What the token is for, 1 to 100 characters
        name: String,
        /// What the token may do
        #[arg(long)]
        role: Role,
        /// The organisation the token is limited to; pipelines and organisers must have one
        /// [default: all organisations]
        #[arg(long)]
        organisation: Option<OrganisationId>,
        /// The days for which the token is valid, 1 to 730
        #[arg(long, default_value_t = access::TOKEN_DAYS)]
        expires_in_days: i32,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Lists the tokens, without their secrets
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    List {
        /// Only those of this organisation, by number [default: all]
        organisation: Option<OrganisationId>,
    },
    /// Revokes a token: the API refuses it from now on, and its sessions end
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Revoke {
        /// The token's number, as in `photogate tokens list`
        token: TokenId,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum People {
    /// Invites a person to the pages: prints a link with which they choose a password
    #[command(after_help = "Needs: PostgreSQL (--database-url).

The link is a path: put the address of the service before it, and hand it to nobody but the person.
It works once, for 7 days.

Example:
  photogate people add anna@club.example --role organiser --organisation 1")]
    Add {
        /// The person's e-mail address, to log in with
        email: String,
        /// What the person may do
        #[arg(long)]
        role: Role,
        /// The organisation the person is limited to; organisers must have one [default: all
        /// organisations]
        #[arg(long)]
        organisation: Option<OrganisationId>,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Lists the people who have an account
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    List {
        /// Only those of this organisation, by number [default: all]
        organisation: Option<OrganisationId>,
    },
    /// Prints a link with which a person who forgot the password chooses a new one
    #[command(after_help = "Needs: PostgreSQL (--database-url).

The link is a path: put the address of the service before it, and hand it to nobody but the person.
It works once, for 7 days.")]
    Password {
        /// The person's e-mail address
        email: String,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Removes the second factor of a person who has lost it, and ends their sessions
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Now the password alone lets somebody in, who then sets up the next second factor. Unless you are
sure who asks, make a link for a new password too: photogate people password.")]
    ResetSecondFactor {
        /// The person's e-mail address
        email: String,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Lists the links for passwords that can still be used, without their secrets
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Invitations {
        /// Only those of this organisation, by number [default: all]
        organisation: Option<OrganisationId>,
    },
    /// Withdraws a link for a password that was not used yet
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Withdraw {
        /// The invitation's number, as in `photogate people invitations`
        invitation: InvitationId,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Locks a person out and ends their sessions; --enable lets them log in again
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Disable {
        /// The person's e-mail address
        email: String,
        /// Let the person log in again, instead of locking them out
        #[arg(long)]
        enable: bool,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
}

impl Tokens {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        match self {
            Self::Create { name, role, organisation, expires_in_days, actor } => {
                let caller = Caller::trusted(&actor);
                let expires_in_days = Some(expires_in_days);
                let new = NewToken { name, role, organisation, expires_in_days };
                let made = super::commands(config).await?.create_token(&caller, &new).await;
                let CreatedToken { id, secret } = match made {
                    Ok(made) => made,
                    Err(error) => return super::refused(error),
                };
                output.one(&json!({ "token": id, "secret": secret }), |out| {
                    writeln!(out, "{}", secret.0)
                })?;
                say!("Token {id} was created. Keep it: it is not shown again.");
            }
            Self::List { organisation } => {
                let mut tokens = Vec::new();
                loop {
                    let last = tokens.last().map(|token: &Token| token.id.0);
                    let more = access::tokens(&mut db, organisation, last, PAGE).await?;
                    if more.is_empty() {
                        break;
                    }
                    tokens.extend(more);
                }
                output.rows(&tokens, &HEADER, |token| {
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
                        day(Some(token.expires_at)),
                        day(token.last_used_at),
                        day(token.revoked_at),
                    ]
                })?;
            }
            Self::Revoke { token, actor } => {
                let caller = Caller::trusted(&actor);
                let revoked = super::commands(config).await?.revoke_token(&caller, token).await;
                if let Err(error) = revoked {
                    return super::refused(error);
                }
                output.one(&json!({ "token": token, "revoked": true }), |out| {
                    writeln!(out, "Token {token} was revoked and does not work any more.")
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
                let new = NewPerson { email, role, organisation };
                let commands = super::commands(config).await?;
                match commands.invite(&Caller::trusted(&actor), &new).await {
                    Ok(link) => tell_link(&new.email, &link, output)?,
                    Err(error) => return super::refused(error),
                }
            }
            Self::List { organisation } => {
                let mut people = Vec::new();
                loop {
                    let last = people.last().map(|person: &Person| person.id.0);
                    let more = access::people(&mut db, organisation, last, PAGE).await?;
                    if more.is_empty() {
                        break;
                    }
                    people.extend(more);
                }
                let header =
                    ["Person", "E-mail", "Role", "Organisation", "Second factor", "Disabled"];
                output.rows(&people, &header, |person| {
                    let dash = || "—".to_owned();
                    vec![
                        person.id.to_string(),
                        person.email.clone(),
                        person.role.to_string(),
                        person.organisation.map_or_else(dash, |id| id.to_string()),
                        if person.has_second_factor { "yes" } else { "no" }.to_owned(),
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
                let commands = super::commands(config).await?;
                match commands.password_link(&Caller::trusted(&actor), person.id).await {
                    Ok(link) => tell_link(&person.email, &link, output)?,
                    Err(error) => return super::refused(error),
                }
            }
            Self::ResetSecondFactor { email, actor } => {
                let Some(person) = access::find_person(&mut db, &email).await? else {
                    return Ok(nobody(&email));
                };
                let commands = super::commands(config).await?;
                let caller = Caller::trusted(&actor);
                if let Err(error) = commands.reset_second_factor(&caller, person.id).await {
                    return super::refused(error);
                }
                output.one(&json!({ "email": person.email, "reset": true }), |out| {
                    writeln!(out, "{} has no second factor any more.", person.email)
                })?;
            }
            Self::Invitations { organisation } => {
                list_invitations(&mut db, organisation, output).await?;
            }
            Self::Withdraw { invitation, actor } => {
                let caller = Caller::trusted(&actor);
                let commands = super::commands(config).await?;
                if let Err(error) = commands.withdraw_invitation(&caller, invitation).await {
                    return super::refused(error);
                }
                output.one(&json!({ "invitation": invitation, "withdrawn": true }), |out| {
                    writeln!(out, "Invitation {invitation} was withdrawn. Its link does not work.")
                })?;
            }
            Self::Disable { email, enable, actor } => {
                let Some(person) = access::find_person(&mut db, &email).await? else {
                    return Ok(nobody(&email));
                };
                let change = PersonChange { disabled: Some(!enable) };
                let caller = Caller::trusted(&actor);
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
    say!("error: no person has the e-mail address {email}");
    End::NotFound
}

/// Prints a link alone on stdout, so that a script can take it.
fn tell_link(email: &str, link: &Link, output: Output) -> anyhow::Result<()> {
    output.one(link, |out| writeln!(out, "{}", link.link.0))?;
    say!("With this link, {email} chooses a password: put the address of the service before it.");
    let until = link.expires_at.format("%Y-%m-%d %H:%M UTC");
    say!("It works once, until {until}, and is not shown again.");
    Ok(())
}

async fn list_invitations(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    output: Output,
) -> anyhow::Result<()> {
    let mut found = Vec::new();
    loop {
        let last = found.last().map(|invitation: &Invitation| invitation.id.0);
        let more = access::invitations(db, organisation, last, PAGE).await?;
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    let header = ["Invitation", "E-mail", "Role", "Organisation", "For", "By", "Expires"];
    output.rows(&found, &header, |one| {
        vec![
            one.id.to_string(),
            one.email.clone(),
            one.role.to_string(),
            one.organisation.map_or_else(|| "—".to_owned(), |id| id.to_string()),
            if one.person.is_some() { "a new password" } else { "a new account" }.to_owned(),
            one.created_by.clone(),
            one.expires_at.format("%Y-%m-%d %H:%M UTC").to_string(),
        ]
    })?;
    Ok(())
}
