//! `photogate changes`: what happened in an organisation, one change a line.

use std::{io::Write, time::Duration};

use super::{End, Output, say};
use crate::{
    access::Caller,
    changes::{Type, feed},
    config::Config,
    database,
    ids::OrganisationId,
};

/// Changes that are read from the database at once.
const PAGE: i64 = 500;
/// How often --follow looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL (--database-url).

Prints the changes that webhooks are sent and GET /v1/changes answers, oldest first. With --json, each
line is a CloudEvent.

Examples:
  photogate changes --organisation 1
  photogate changes --organisation 1 --follow --types run.finished,event.paused
  photogate changes --organisation 1 --photos on     say which photos are settled, from now on")]
pub(super) struct Changes {
    /// The organisation's number; 0: what concerns the staff
    #[arg(long)]
    organisation: OrganisationId,
    /// Only those after the change with this number
    #[arg(long)]
    after: Option<i64>,
    /// Go on until interrupted: print new changes as they happen
    #[arg(long)]
    follow: bool,
    /// Only these types
    #[arg(long, value_enum, value_delimiter = ',')]
    types: Vec<Type>,
    /// Let changes say which photos are settled, or not; print nothing
    #[arg(long, value_name = "on|off", value_parser = on_or_off, conflicts_with_all = ["after", "follow", "types"])]
    photos: Option<bool>,
    /// Your e-mail address or name, for the audit log
    #[arg(long, default_value = "cli")]
    actor: String,
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write on or off".to_owned()),
    }
}

impl Changes {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        if let Some(on) = self.photos {
            let commands = super::commands(config).await?;
            let caller = Caller::trusted(&self.actor);
            return match commands.feed_photos(&caller, self.organisation, on).await {
                Ok(()) => Ok(End::Ok),
                Err(error) => super::refused(error),
            };
        }
        let pool = database::connect(&config.database_url, 1).await?;
        let all: Vec<Type> = Type::ALL.into_iter().chain([Type::WebhookPing]).collect();
        let types = if self.types.is_empty() { &all } else { &self.types };
        let ends = feed::ends(&mut *pool.acquire().await?, self.organisation).await?;
        let mut after = self.after.unwrap_or(ends.forgotten);
        if after < ends.forgotten {
            say!("error: the changes up to {} are not kept any more", ends.forgotten);
            return Ok(End::Failed);
        }
        loop {
            let mut db = pool.acquire().await?;
            feed::number(&mut db, self.organisation).await?;
            let found = feed::list(&mut db, self.organisation, after, types, PAGE).await?;
            drop(db);
            let mut out = std::io::stdout().lock();
            for (position, change) in &found {
                after = *position;
                if output.json {
                    writeln!(out, "{}", serde_json::to_string(change)?)?;
                } else {
                    let at = change.time.format("%Y-%m-%d %H:%M:%S UTC");
                    let (kind, subject) = (change.kind.code(), &change.subject);
                    writeln!(out, "{position}  {at}  {kind}  {subject}  {}", change.data)?;
                }
            }
            out.flush()?;
            if found.is_empty() {
                if !self.follow {
                    return Ok(End::Ok);
                }
                drop(out);
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}
