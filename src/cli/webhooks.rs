//! `photogate webhooks …`: addresses that are sent an organisation's changes.

use super::{End, Output, output::table};
use crate::{
    access::Caller,
    changes::{
        Type,
        deliveries::{self, Delivery, State},
        webhooks::{self, Webhook},
    },
    commands::{NewWebhook, SecretWebhook, WebhookChange},
    config::Config,
    database,
    ids::{OrganisationId, WebhookId},
};

const HEADER: [&str; 5] = ["Webhook", "Organisation", "Address", "Types", "State"];
const DELIVERIES: [&str; 6] = ["Change", "Type", "Subject", "State", "Calls", "Last answer"];
/// Rows that are read from the database at once.
const PAGE: i64 = 1000;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Webhooks {
    /// Lists webhooks, without their secrets
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    List {
        /// Only those of this organisation, by number
        #[arg(long)]
        organisation: Option<OrganisationId>,
    },
    /// Adds a webhook, and shows its secret once
    #[command(after_help = "Needs: PostgreSQL (--database-url). Workers call the webhook.

Example:
  photogate webhooks add 1 https://example.com/photogate --types run.finished,event.paused")]
    Add {
        /// The organisation's number
        organisation: OrganisationId,
        /// Where changes are sent: https://…
        url: String,
        /// Which types of changes; all but photo.processed if missing
        #[arg(long, value_enum, value_delimiter = ',')]
        types: Option<Vec<Type>>,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Changes a webhook; --enable sends it all that waits
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Change {
        /// The webhook's number
        webhook: WebhookId,
        /// Another address
        #[arg(long)]
        url: Option<String>,
        /// Other types
        #[arg(long, value_enum, value_delimiter = ',')]
        types: Option<Vec<Type>>,
        /// Send changes again
        #[arg(long, conflicts_with = "disable")]
        enable: bool,
        /// Send nothing until it is enabled again
        #[arg(long)]
        disable: bool,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Makes a new secret, and shows it once; for a day the one before signs, too
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Rotate {
        /// The webhook's number
        webhook: WebhookId,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Sends a change to this webhook alone, to try it
    #[command(after_help = "Needs: PostgreSQL (--database-url), and a worker.")]
    Ping {
        /// The webhook's number
        webhook: WebhookId,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Lists what was sent to a webhook, and what waits for it, newest first
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Deliveries {
        /// The webhook's number
        webhook: WebhookId,
        /// Only those in this state
        #[arg(long, value_enum)]
        state: Option<State>,
    },
    /// Delivers changes again, in their order
    #[command(after_help = "Needs: PostgreSQL (--database-url), and a worker.

Example:
  photogate webhooks replay 3 --from 120 --upto 140")]
    Replay {
        /// The webhook's number
        webhook: WebhookId,
        /// The number of the first change
        #[arg(long)]
        from: i64,
        /// The number of the last one; all that there are if missing
        #[arg(long)]
        upto: Option<i64>,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Removes a webhook, and what waits for it
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Remove {
        /// The webhook's number
        webhook: WebhookId,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
}

impl Webhooks {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let made = match self {
            Self::List { organisation } => {
                let pool = database::connect(&config.database_url, 1).await?;
                let found = webhooks::list(&mut *pool.acquire().await?, organisation, None).await?;
                output.rows(&found, &HEADER, row)?;
                return Ok(End::Ok);
            }
            Self::Deliveries { webhook, state } => {
                let found = all(config, webhook, state).await?;
                output.rows(&found, &DELIVERIES, delivery)?;
                return Ok(End::Ok);
            }
            Self::Add { organisation, url, types, actor } => {
                let commands = super::commands(config).await?;
                let new = NewWebhook { url, types };
                commands.add_webhook(&Caller::trusted(&actor), organisation, &new).await
            }
            Self::Rotate { webhook, actor } => {
                let commands = super::commands(config).await?;
                commands.rotate_webhook_secret(&Caller::trusted(&actor), webhook).await
            }
            Self::Change { webhook, url, types, enable, disable, actor } => {
                let enabled = (enable || disable).then_some(enable);
                let change = WebhookChange { url, types, enabled };
                let commands = super::commands(config).await?;
                let caller = Caller::trusted(&actor);
                return match commands.change_webhook(&caller, webhook, &change).await {
                    Ok(webhook) => {
                        output.one(&webhook, |out| {
                            write!(out, "{}", table(&HEADER, &[row(&webhook)]))
                        })?;
                        Ok(End::Ok)
                    }
                    Err(error) => super::refused(error),
                };
            }
            Self::Ping { webhook, actor } => {
                let commands = super::commands(config).await?;
                return match commands.ping_webhook(&Caller::trusted(&actor), webhook).await {
                    Ok(()) => Ok(End::Ok),
                    Err(error) => super::refused(error),
                };
            }
            Self::Remove { webhook, actor } => {
                let commands = super::commands(config).await?;
                return match commands.remove_webhook(&Caller::trusted(&actor), webhook).await {
                    Ok(()) => Ok(End::Ok),
                    Err(error) => super::refused(error),
                };
            }
            Self::Replay { webhook, from, upto, actor } => {
                let commands = super::commands(config).await?;
                let caller = Caller::trusted(&actor);
                return match commands.replay_deliveries(&caller, webhook, from, upto).await {
                    Ok(replayed) => {
                        output.one(&replayed, |out| {
                            writeln!(out, "{} changes are delivered again", replayed.changes)?;
                            if let Some(next) = replayed.next {
                                writeln!(out, "there are more: go on with --from {next}")?;
                            }
                            Ok(())
                        })?;
                        Ok(End::Ok)
                    }
                    Err(error) => super::refused(error),
                };
            }
        };
        match made {
            Ok(made) => {
                output.one(&made, |out| {
                    let SecretWebhook { webhook, secret } = &made;
                    write!(out, "{}", table(&HEADER, &[row(webhook)]))?;
                    writeln!(out, "secret: {secret} (it is not shown again)")
                })?;
                Ok(End::Ok)
            }
            Err(error) => super::refused(error),
        }
    }
}

fn row(webhook: &Webhook) -> Vec<String> {
    let types: Vec<_> = webhook.types.iter().map(|kind| kind.code()).collect();
    let state = match (&webhook.disabled_by, webhook.failing_since) {
        (Some(actor), _) => format!("disabled by {actor}"),
        (None, Some(since)) => {
            format!("{} calls failed since {}", webhook.failures, since.format("%F %T UTC"))
        }
        (None, None) => "ok".to_owned(),
    };
    vec![
        webhook.id.to_string(),
        webhook.organisation.to_string(),
        webhook.url.clone(),
        types.join(","),
        state,
    ]
}

fn delivery(delivery: &Delivery) -> Vec<String> {
    let state = match delivery.state {
        State::Delivered => "delivered",
        State::Waiting => "waits",
    };
    let answer = match (&delivery.trouble, delivery.status) {
        (Some(trouble), _) => trouble.clone(),
        (None, Some(status)) => status.to_string(),
        (None, None) => "—".to_owned(),
    };
    vec![
        delivery.change.to_string(),
        delivery.kind.code().to_owned(),
        delivery.subject.clone(),
        state.to_owned(),
        delivery.attempts.to_string(),
        answer,
    ]
}

async fn all(
    config: &Config,
    webhook: WebhookId,
    state: Option<State>,
) -> anyhow::Result<Vec<Delivery>> {
    let pool = database::connect(&config.database_url, 1).await?;
    let mut db = pool.acquire().await?;
    let mut found = Vec::new();
    loop {
        let below = found.last().map(|delivery: &Delivery| delivery.change);
        let more = deliveries::list(&mut db, webhook, state, below, PAGE).await?;
        if more.is_empty() {
            return Ok(found);
        }
        found.extend(more);
    }
}
