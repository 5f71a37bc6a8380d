//! `photogate schedules …`: photos that are queued at a later time.

use std::io::{self, BufRead};

use anyhow::Context;
use chrono::{DateTime, Utc};

use super::{End, Output};
use crate::{
    access::Caller,
    catalog::photo_store::PhotoStore,
    commands::{NewSchedule, Payloads, Which},
    config::Config,
    database,
    ids::{EventId, Operations, OrganisationId, ScheduleId},
    queue::{
        enqueue::Priority,
        schedules::{self, Schedule},
    },
};

/// Rows that are read from the database at once.
const PAGE: i64 = 1000;

/// The columns of the list.
const HEADER: [&str; 8] =
    ["Schedule", "Event", "Operation", "Not before", "Photos", "Queued", "By", "State"];

#[derive(Debug, clap::Subcommand)]
pub(super) enum Schedules {
    /// Schedules photos of an event, by their keys or (--all) all that it has then
    #[command(after_help = "Needs: PostgreSQL (--database-url). Workers queue the photos.

Examples:
  photogate schedules add 1 --at 2030-05-04T16:00:00Z --all        Go Live
  photogate schedules add 1 --at 2030-05-04T16:00:00+02:00 --operation both --prefix 2026/marathon/

The same schedule is made once, so a repeated call is safe. --dry-run tells what it would cost now.")]
    Add {
        /// The event's number
        event: EventId,
        /// The photos' keys in the store; `-` reads keys from stdin, one a line
        #[arg(required_unless_present_any = ["all", "prefix"], conflicts_with_all = ["all", "prefix"])]
        photos: Vec<String>,
        /// The photos that the store has now and whose keys begin with this
        #[arg(long, conflicts_with = "all")]
        prefix: Option<String>,
        /// All photos that the event has then
        #[arg(long)]
        all: bool,
        /// When they are queued, as 2030-05-04T16:00:00Z
        #[arg(long)]
        at: DateTime<Utc>,
        /// The operation to do on each photo; both: AI Rotation first
        #[arg(long, value_enum, default_value = "photo_processing")]
        operation: Operations,
        /// Claim these photos before the others of the event
        #[arg(long)]
        urgent: bool,
        /// Only show what would be queued if it was done now, and what that needs; change nothing
        #[arg(long)]
        dry_run: bool,
        /// Your e-mail address or name, for the receipts and the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Lists what is scheduled, newest first
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    List {
        /// Only those of this event, by number
        #[arg(long)]
        event: Option<EventId>,
        /// Only those of this organisation, by number
        #[arg(long)]
        organisation: Option<OrganisationId>,
        /// Also those that have ended
        #[arg(long)]
        ended: bool,
    },
    /// Changes when a schedule is due
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate schedules move 7 --at 2030-05-04T18:00:00Z")]
    Move {
        /// The schedule's number
        schedule: ScheduleId,
        /// The new time, as 2030-05-04T18:00:00Z
        #[arg(long)]
        at: DateTime<Utc>,
        /// Your e-mail address or name, for the receipts and the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Cancels a schedule; what of it was queued already stays queued
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Cancel {
        /// The schedule's number
        schedule: ScheduleId,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
}

impl Schedules {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let done = match self {
            Self::List { event, organisation, ended } => {
                let which = schedules::Which {
                    organisation,
                    event,
                    waiting: !ended,
                    ..schedules::Which::default()
                };
                output.rows(&all(config, which).await?, &HEADER, row)?;
                return Ok(End::Ok);
            }
            Self::Add { event, photos, prefix, all, at, operation, urgent, dry_run, actor } => {
                let photos = if photos == ["-"] {
                    let lines = io::stdin().lock().lines().collect::<Result<_, _>>();
                    lines.context("reading keys from stdin")?
                } else {
                    photos
                };
                let store = match &prefix {
                    Some(_) => Some(PhotoStore::open(&config.store_url, &config.store_options)?),
                    None => None,
                };
                let photos = match (&prefix, &store) {
                    (Some(prefix), Some(store)) => Which::Below(prefix, store),
                    _ if all => Which::All,
                    _ => Which::Keys(&photos),
                };
                let payloads = Payloads::default();
                let priority = if urgent { Priority::Urgent } else { Priority::Normal };
                let new = NewSchedule { operation, photos, payloads, not_before: at, priority };
                let commands = super::commands(config).await?;
                let caller = Caller::trusted(&actor);
                if dry_run {
                    return match commands.plan_schedule(&caller, event, &new).await {
                        Ok(plan) => super::enqueue::show(&plan, output).map(|()| End::Ok),
                        Err(error) => super::refused(error),
                    };
                }
                commands.schedule(&caller, event, &new).await
            }
            Self::Move { schedule, at, actor } => {
                let commands = super::commands(config).await?;
                commands.move_schedule(&Caller::trusted(&actor), schedule, at).await
            }
            Self::Cancel { schedule, actor } => {
                let commands = super::commands(config).await?;
                commands.cancel_schedule(&Caller::trusted(&actor), schedule).await
            }
        };
        match done {
            Ok(schedule) => {
                output.one(&schedule, |out| {
                    write!(out, "{}", super::output::table(&HEADER, &[row(&schedule)]))
                })?;
                Ok(End::Ok)
            }
            Err(error) => super::refused(error),
        }
    }
}

fn row(schedule: &Schedule) -> Vec<String> {
    let photos = if schedule.all { "all".to_owned() } else { schedule.photos.to_string() };
    let state = match (&schedule.ended, &schedule.trouble) {
        (Some(end), _) => {
            let end = match end {
                schedules::End::Done => "done",
                schedules::End::Cancelled => "cancelled",
                schedules::End::Refused => "refused",
            };
            format!("{end} ({})", schedule.ended_by.as_deref().unwrap_or("—"))
        }
        (None, Some(trouble)) => format!("waits: {trouble}"),
        (None, None) => "waits".to_owned(),
    };
    vec![
        schedule.id.to_string(),
        schedule.event.to_string(),
        schedule.operation.to_string(),
        schedule.not_before.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        photos,
        schedule.queued.to_string(),
        schedule.actor.clone(),
        state,
    ]
}

async fn all(config: &Config, which: schedules::Which) -> anyhow::Result<Vec<Schedule>> {
    let pool = database::connect(&config.database_url, 1).await?;
    let mut db = pool.acquire().await?;
    let mut found = Vec::new();
    loop {
        let below = found.last().map(|schedule: &Schedule| schedule.id.0);
        let more = schedules::list(&mut db, schedules::Which { below, ..which }, PAGE).await?;
        if more.is_empty() {
            return Ok(found);
        }
        found.extend(more);
    }
}
