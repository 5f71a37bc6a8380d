//! `photogate mail …`: what people hear by e-mail.

use serde_json::json;

use super::{
    End, Output,
    output::{say, table},
};
use crate::{
    access::{self, Caller},
    changes::{
        letters::Letter,
        mailboxes::{self, Mailbox, Topic},
        outcome::Outcome,
        post::Post,
    },
    commands::MailboxChange,
    config::Config,
    database,
    ids::OrganisationId,
};

const HEADER: [&str; 5] = ["Person", "E-mail", "Organisation", "Topics", "State"];
const NOT_SET_UP: &str = "e-mail is not set up (smtp_url, mail_from, public_url): nothing is sent";

#[derive(Debug, clap::Subcommand)]
pub(super) enum Mail {
    /// Lists what people hear by e-mail, and how that goes
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    List {
        /// Only people of this organisation, by number
        #[arg(long)]
        organisation: Option<OrganisationId>,
    },
    /// Sets what a person hears; also tries an address again that was refused
    #[command(after_help = "Needs: PostgreSQL (--database-url). Workers send the mails.

The first time, a mail asks the person whether they want it. Nothing else is sent before they say yes.

Example:
  photogate mail set anna@club.example --topics events,credits,purchases")]
    Set {
        /// The person's e-mail address
        email: String,
        /// What the person is told of
        #[arg(long, value_enum, value_delimiter = ',', required = true)]
        topics: Vec<Topic>,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Sends a person nothing any more
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Stop {
        /// The person's e-mail address
        email: String,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Sends a test mail now, and prints what the mail server answers
    #[command(after_help = "Needs: the settings smtp_url, mail_from and public_url; no database.

Example:
  photogate mail test ops@example.org")]
    Test {
        /// The address that it goes to
        address: String,
    },
}

impl Mail {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        match self {
            Self::List { organisation } => {
                let pool = database::connect(&config.database_url, 1).await?;
                let mut db = pool.acquire().await?;
                let found = mailboxes::list(&mut db, organisation, None).await?;
                output.rows(&found, &HEADER, row)?;
                if let Some((since, trouble)) = mailboxes::server_trouble(&mut db).await? {
                    let since = since.format("%F %T UTC");
                    say!("The mail server has not been well since {since}: {trouble}");
                }
                hint(config);
                Ok(End::Ok)
            }
            Self::Set { email, topics, actor } => set(config, output, &email, topics, &actor).await,
            Self::Stop { email, actor } => set(config, output, &email, vec![], &actor).await,
            Self::Test { address } => test(config, output, &address).await,
        }
    }
}

fn hint(config: &Config) {
    if config.smtp_url.is_none() {
        say!("{NOT_SET_UP}");
    }
}

async fn set(
    config: &Config,
    output: Output,
    email: &str,
    topics: Vec<Topic>,
    actor: &str,
) -> anyhow::Result<End> {
    let pool = database::connect(&config.database_url, 1).await?;
    let Some(person) = access::find_person(&mut *pool.acquire().await?, email).await? else {
        say!("error: no person has the e-mail address {email}");
        return Ok(End::NotFound);
    };
    let commands = super::commands(config).await?;
    let change = MailboxChange { topics };
    match commands.set_mailbox(&Caller::trusted(actor), person.id, &change).await {
        Ok(mailbox) => {
            output.one(&mailbox, |out| write!(out, "{}", table(&HEADER, &[row(&mailbox)])))?;
            hint(config);
            Ok(End::Ok)
        }
        Err(error) => super::refused(error),
    }
}

async fn test(config: &Config, output: Output, address: &str) -> anyhow::Result<End> {
    let Some(mail) = config.mail()? else { anyhow::bail!(NOT_SET_UP) };
    let post = Post::new(mail)?;
    match post.send(&Letter::test(address, post.pages())).await {
        Outcome::Sent(said) => {
            output.one(&json!({ "address": address, "answer": said }), |out| {
                writeln!(out, "The mail server took it: {said}")
            })?;
            Ok(End::Ok)
        }
        Outcome::Server(said) | Outcome::Busy(said) => {
            Err(anyhow::anyhow!("the mail server is not well: {said}"))
        }
        Outcome::Unanswered(said) => {
            Err(anyhow::anyhow!("the mail server has it, and did not say that it takes it: {said}"))
        }
        Outcome::Unfit(said) => Err(anyhow::anyhow!("{said}")),
        Outcome::Later(said)
        | Outcome::Letter(said)
        | Outcome::Doubtful(said)
        | Outcome::Refused(said) => Err(anyhow::anyhow!("the mail server did not take it: {said}")),
    }
}

fn row(mailbox: &Mailbox) -> Vec<String> {
    let topics: Vec<_> = mailbox.topics.iter().map(|topic| topic.code()).collect();
    let trouble = || mailbox.trouble.clone().unwrap_or_default();
    let state = match mailbox {
        _ if topics.is_empty() => "off".to_owned(),
        Mailbox { stopped_at: Some(_), .. } => format!("stopped: {}", trouble()),
        Mailbox { confirmed_at: None, .. } => "waits for the person to say yes".to_owned(),
        Mailbox { trouble: Some(trouble), .. } => format!("tried again: {trouble}"),
        Mailbox { .. } => "ok".to_owned(),
    };
    vec![
        mailbox.person.to_string(),
        mailbox.email.clone(),
        mailbox.organisation.map_or_else(|| "—".into(), |id| id.to_string()),
        topics.join(","),
        state,
    ]
}
