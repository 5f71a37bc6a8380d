//! `photogate events …`: events, their queues, and holds.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use chrono::{DateTime, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;

use super::{End, Output, say};
use crate::{
    access::Caller,
    catalog::{
        events::{self, Event},
        start_list,
    },
    commands::{CommandError, Commands, EventChange, NewEvent, NewHold},
    config::Config,
    database,
    ids::{EventId, Operation, OrganisationId},
    notify::progress::{Subject, Watch},
    queue::status::{self, Queue, State},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Events {
    /// Creates an event with a queue for each operation
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate events create 1 'City Marathon' --face-search")]
    Create {
        /// The number of the organisation that pays for the photos
        organisation: OrganisationId,
        /// The name of the event
        name: String,
        /// Do not read bib numbers
        #[arg(long)]
        no_bib_search: bool,
        /// Compute face embeddings (biometric data), so that people can be found by a selfie
        #[arg(long)]
        face_search: bool,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Sets the list of bib numbers in use; from then on no other number is read as a bib
    #[command(after_help = "Needs: PostgreSQL (--database-url).

The file has one number on each line, or is CSV with a column named bib or number.
It applies to photos that are processed from then on.
An empty file name (\"\") removes the start list.

Example:
  photogate events start-list 1 runners.csv")]
    StartList {
        /// The event's number
        event: EventId,
        /// The file with the start list
        file: PathBuf,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Switches face search on or off; off deletes the face embeddings for good
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Photos that were processed while face search was off have no embeddings.

Example:
  photogate events face-search 1 off")]
    FaceSearch {
        /// The event's number
        event: EventId,
        /// `on` or `off`
        #[arg(value_parser = on_or_off, action = clap::ArgAction::Set)]
        state: bool,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Deletes an event and all findings on its photos, for good; the ledger and the photos stay
    #[command(after_help = "Needs: PostgreSQL (--database-url), and --yes.

Example:
  photogate events delete 1 --actor anna@example.org --yes")]
    Delete {
        /// The event's number
        event: EventId,
        /// Your e-mail address or name, for the audit log
        #[arg(long)]
        actor: String,
        /// Confirm: without this flag nothing is deleted
        #[arg(long)]
        yes: bool,
    },
    /// Lists events, newest first
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    List {
        /// Only events of this organisation, by number [default: all]
        #[arg(long)]
        organisation: Option<OrganisationId>,
    },
    /// Shows an event's queues, their counts, and why a queue is stopped
    #[command(after_help = "Needs: PostgreSQL (--database-url).
With Redis (--redis-url), --watch shows changes at once. See also `photogate why event`.

Example:
  photogate events show 1 --watch")]
    Show {
        /// The event's number
        event: EventId,
        /// Show a progress bar until all photos are done, or the queues with photos left stop
        #[arg(long)]
        watch: bool,
    },
    /// Stops the queues of an event until the hold is lifted or ends; a top-up does not lift it
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Photos in progress are finished; waiting photos wait. End the hold with `photogate events lift`.

Example:
  photogate events hold 1 --owner ops@example.org --note 'bad camera clock' --for-minutes 90")]
    Hold {
        /// The event's number
        event: EventId,
        /// Only the queue of this operation [default: all queues of the event]
        #[arg(long, value_enum)]
        operation: Option<Operation>,
        /// Your e-mail address or name: whom to ask about this hold
        #[arg(long)]
        owner: String,
        /// The reason for the hold
        #[arg(long, default_value = "")]
        note: String,
        /// End the hold by itself after this many minutes, 1 to 525,600 (a year) [default: no end]
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=525_600))]
        for_minutes: Option<u64>,
    },
    /// Lifts every hold on an event's queues; a pause for want of credit stays
    #[command(after_help = "Needs: PostgreSQL (--database-url).
With Redis (--redis-url), workers are told at once; without it, within a second.

Example:
  photogate events lift 1 --actor ops@example.org")]
    Lift {
        /// The event's number
        event: EventId,
        /// Only holds on the queue of this operation [default: all queues of the event]
        #[arg(long, value_enum)]
        operation: Option<Operation>,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "System")]
        actor: String,
    },
}

fn on_or_off(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be on or off"),
    }
}

/// Reads a start list, at most one byte more than its maximum size: enough to refuse it.
fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(start_list::FILE_MAX as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("reading {}", file.display()))?;
    Ok(bytes)
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    event: &'a Event,
    queues: &'a [Queue],
}

impl Events {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        match self {
            Self::List { organisation } => list(organisation, config, output).await,
            Self::Show { event, watch } => {
                let pool = database::connect(&config.database_url, 1).await?;
                let mut db = pool.acquire().await?;
                if watch {
                    follow(&mut db, event, config).await?;
                }
                show(&mut db, event, output).await
            }
            change @ (Self::Create { .. }
            | Self::StartList { .. }
            | Self::FaceSearch { .. }
            | Self::Delete { .. }
            | Self::Hold { .. }
            | Self::Lift { .. }) => {
                match change.apply(&super::commands(config).await?, output).await {
                    Ok(()) => Ok(End::Ok),
                    Err(error) => match error.downcast::<CommandError>() {
                        Ok(error) => super::refused(error),
                        Err(error) => Err(error),
                    },
                }
            }
        }
    }

    /// Runs the subcommands that change something.
    async fn apply(self, commands: &Commands, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Create { organisation, name, no_bib_search, face_search, actor } => {
                let caller = Caller::trusted(&actor);
                let (organisation, bib_search) = (Some(organisation), !no_bib_search);
                let new = NewEvent { name, organisation, bib_search, face_search };
                let id = commands.create_event(&caller, &new).await?.id;
                output
                    .one(&json!({ "event": id }), |out| writeln!(out, "Event {id} was created."))?;
            }
            Self::StartList { event, file, actor } => {
                let caller = Caller::trusted(&actor);
                let text = if file.as_os_str().is_empty() { Vec::new() } else { read(&file)? };
                let n = commands.set_start_list(&caller, event, &text).await?;
                output.one(&json!({ "event": event, "numbers": n }), |out| {
                    writeln!(
                        out,
                        "Event {event} has a start list of {n} numbers. It applies to photos \
                         processed from now on."
                    )
                })?;
            }
            Self::FaceSearch { event, state, actor } => {
                let caller = Caller::trusted(&actor);
                let change = EventChange { face_search: Some(state), ..EventChange::default() };
                let (_, n) = commands.change_event(&caller, event, &change).await?;
                let said = json!({ "event": event, "face_search": state, "deleted": n });
                output.one(&said, |out| {
                    if state {
                        writeln!(
                            out,
                            "Face search is on for event {event}, for photos processed from now \
                             on."
                        )
                    } else {
                        writeln!(
                            out,
                            "Face search is off for event {event}; the embeddings of {n} faces \
                             were deleted."
                        )
                    }
                })?;
            }
            Self::Delete { event, actor, yes } => {
                anyhow::ensure!(
                    yes,
                    "this deletes the faces, bib numbers and turns of event {event} and cannot be \
                     undone: confirm with --yes"
                );
                commands.delete_event(&Caller::trusted(&actor), event).await?;
                output.one(&json!({ "event": event, "deleted": true }), |out| {
                    writeln!(out, "Event {event} was deleted; the ledger and the photos stay.")
                })?;
            }
            Self::Hold { event, operation, owner, note, for_minutes } => {
                let until =
                    for_minutes.map(|minutes| Utc::now() + Duration::from_secs(60 * minutes));
                let new = NewHold { operation, note, until };
                let caller = Caller::trusted(&owner);
                let holds = commands.hold(&caller, event, &new).await?.holds;
                output.one(&json!({ "event": event, "holds": holds, "until": until }), |out| {
                    writeln!(out, "Event {event} is held; photos in progress are still finished.")
                })?;
            }
            Self::Lift { event, operation, actor } => {
                let caller = Caller::trusted(&actor);
                let lifted = commands.lift_holds(&caller, event, operation).await?;
                output.one(&json!({ "event": event, "lifted": lifted }), |out| {
                    writeln!(out, "{} holds on event {event} were lifted.", lifted.len())
                })?;
            }
            Self::List { .. } | Self::Show { .. } => {}
        }
        Ok(())
    }
}

async fn list(
    organisation: Option<OrganisationId>,
    config: &Config,
    output: Output,
) -> anyhow::Result<End> {
    let pool = database::connect(&config.database_url, 1).await?;
    let events = events::list(&mut *pool.acquire().await?, organisation).await?;
    let header = ["Event", "Organisation", "Name", "Bib search", "Face search"];
    output.rows(&events, &header, |event| {
        let on = |setting| if setting { "on" } else { "off" }.to_owned();
        vec![
            event.id.to_string(),
            event.organisation.to_string(),
            event.name.clone(),
            on(event.bib_search),
            on(event.face_search),
        ]
    })?;
    Ok(End::Ok)
}

/// Shows a progress bar until all photos are done, or the queues with photos left are stopped.
async fn follow(db: &mut PgConnection, event: EventId, config: &Config) -> anyhow::Result<()> {
    let watch = Watch::open(config.redis_url.as_deref(), Subject::Event(event))?;
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} photos, {msg}")?;
    let bar = ProgressBar::new(0).with_style(style);
    loop {
        let queues = status::of_event(db, event).await?;
        let sum = |of: fn(&Queue) -> i64| queues.iter().map(of).sum::<i64>().unsigned_abs();
        bar.set_length(sum(photos));
        bar.set_position(sum(|queue| queue.processed + queue.failed));
        bar.set_message(format!("{} in progress", sum(|queue| queue.in_progress)));
        let stands =
            |queue: &Queue| queue.in_progress == 0 && (queue.waiting == 0 || queue.is_stopped());
        if queues.iter().all(stands) {
            bar.finish_and_clear();
            return Ok(());
        }
        watch.changed().await;
    }
}

async fn show(db: &mut PgConnection, event: EventId, output: Output) -> anyhow::Result<End> {
    let Some(found) = events::find(db, event).await? else {
        say!("error: there is no event {event}");
        return Ok(End::NotFound);
    };
    let queues = status::of_event(db, event).await?;
    output.one(&Shown { event: &found, queues: &queues }, |out| {
        writeln!(
            out,
            "{} · event {} of organisation {}\n",
            found.name, found.id, found.organisation
        )?;
        write!(
            out,
            "{}",
            super::output::table(QUEUES, &queues.iter().map(queue_row).collect::<Vec<_>>())
        )
    })?;
    Ok(End::Ok)
}

pub(super) const QUEUES: &[&str] =
    &["Queue", "Photos", "Processed", "In progress", "Failed", "Waiting", "State"];

pub(super) fn queue_row(queue: &Queue) -> Vec<String> {
    let instant = |at: DateTime<Utc>| at.format("%H:%M:%S UTC").to_string();
    let since = queue.since.map(|at| format!(" since {}", instant(at))).unwrap_or_default();
    let state = match queue.state {
        State::NoCredits => format!("Paused: no credits{since}. Top up, and it resumes by itself"),
        State::Held => {
            let until = queue.until.map(|at| format!(" until {}", instant(at))).unwrap_or_default();
            let owner = queue.owner.as_deref().unwrap_or("somebody");
            let note = queue.note.as_deref().unwrap_or_default();
            format!("Held by {owner}{since}{until} {note:?}")
        }
        State::Running => "Running".into(),
        State::Idle if queue.in_progress > 0 => "Running".into(),
        State::Idle => "Idle".into(),
    };
    let counts = [photos(queue), queue.processed, queue.in_progress, queue.failed, queue.waiting]
        .map(|count| count.to_string());
    std::iter::once(queue.operation.to_string()).chain(counts).chain([state]).collect()
}

/// Number of photos that are in the queue or have left it with an outcome.
fn photos(queue: &Queue) -> i64 {
    queue.processed + queue.failed + queue.in_progress + queue.waiting
}
