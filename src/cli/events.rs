//! `photogate events …`

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
        events::{self, Event, Pause, QueueState},
        start_list,
    },
    commands::{CommandError, Commands, EventChange, NewEvent, NewHold},
    config::Config,
    database,
    ids::{EventId, HoldId, Operation, OrganisationId},
    notify::progress::{Subject, Watch},
    queue::holds,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Events {
    /// Creates an event with a queue for each operation
    #[command(after_help = "Example:\n  photogate events create 1 'City Marathon' --face-search")]
    Create {
        /// Whose credits pay for it
        organisation: OrganisationId,
        /// As people call it
        name: String,
        /// Do not read bib numbers
        #[arg(long)]
        no_bib_search: bool,
        /// Compute face embeddings, so that people can be found by a selfie
        #[arg(long)]
        face_search: bool,
        /// Who does it
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Tells the numbers that are worn: from then on they decide what a bib number is
    #[command(
        after_help = "The file has a number a line, or is CSV with a column called bib or number.
An empty file name (\"\") takes the start list away.

Example:\n  photogate events start-list 1 runners.csv"
    )]
    StartList {
        /// Of which event
        event: EventId,
        /// The start list
        file: PathBuf,
        /// Who does it
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Switches face search on or off; off deletes the embeddings
    FaceSearch {
        /// Of which event
        event: EventId,
        /// on or off
        #[arg(value_parser = on_or_off, action = clap::ArgAction::Set)]
        state: bool,
        /// Who does it
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Forgets what was seen on an event's photos, for good; the books and the photos stay
    Delete {
        /// Which
        event: EventId,
        /// Who deletes it
        #[arg(long)]
        actor: String,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
    /// Lists events, newest first
    List {
        /// Of one organisation
        #[arg(long)]
        organisation: Option<OrganisationId>,
    },
    /// Shows an event's queues, and why they do not run if they do not
    Show {
        /// Which
        event: EventId,
        /// Follows it until nothing is left to do, or everything is paused
        #[arg(long)]
        watch: bool,
    },
    /// Holds the queues of an event; no top-up lifts that
    #[command(
        after_help = "Example:\n  photogate events hold 1 --owner ops@example.org --note 'bad camera clock' --for-minutes 90"
    )]
    Hold {
        /// Which
        event: EventId,
        /// Only one of its queues
        #[arg(long, value_enum)]
        operation: Option<Operation>,
        /// Who holds it
        #[arg(long)]
        owner: String,
        /// Why
        #[arg(long, default_value = "")]
        note: String,
        /// The hold ends by itself after this long
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=525_600))]
        for_minutes: Option<u64>,
    },
    /// Lifts every hold on an event's queues
    Lift {
        /// Which
        event: EventId,
        /// Only of one of its queues
        #[arg(long, value_enum)]
        operation: Option<Operation>,
        /// Who lifts it
        #[arg(long, default_value = "System")]
        actor: String,
    },
}

fn on_or_off(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write on or off"),
    }
}

/// A start list, or as much of it as shows that it is none.
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
    queues: &'a [QueueState],
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
            change => match change.apply(&super::commands(config).await?, config, output).await {
                Ok(()) => Ok(End::Ok),
                Err(error) => match error.downcast::<CommandError>() {
                    Ok(error) => super::refused(error),
                    Err(error) => Err(error),
                },
            },
        }
    }

    /// The subcommands that change something.
    async fn apply(
        self,
        commands: &Commands,
        config: &Config,
        output: Output,
    ) -> anyhow::Result<()> {
        match self {
            Self::Create { organisation, name, no_bib_search, face_search, actor } => {
                let caller = Caller::at_the_command_line(&actor);
                let (organisation, bib_search) = (Some(organisation), !no_bib_search);
                let new = NewEvent { name, organisation, bib_search, face_search };
                let id = commands.create_event(&caller, &new).await?.id;
                output
                    .one(&json!({ "event": id }), |out| writeln!(out, "Event {id} was created."))?;
            }
            Self::StartList { event, file, actor } => {
                let caller = Caller::at_the_command_line(&actor);
                let text = if file.as_os_str().is_empty() { Vec::new() } else { read(&file)? };
                let n = commands.set_start_list(&caller, event, &text).await?;
                output.one(&json!({ "event": event, "numbers": n }), |out| {
                    writeln!(
                        out,
                        "Event {event} has a start list of {n} numbers. It decides about photos \
                         processed from now on."
                    )
                })?;
            }
            Self::FaceSearch { event, state, actor } => {
                let caller = Caller::at_the_command_line(&actor);
                let change = EventChange { face_search: Some(state), ..EventChange::default() };
                let (_, n) = commands.change_event(&caller, event, &change).await?;
                let said = json!({ "event": event, "face_search": state, "deleted": n });
                output.one(&said, |out| {
                    if state {
                        writeln!(
                            out,
                            "Photos of event {event} that are processed from now on can be \
                             searched by a face."
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
                    "this deletes faces, numbers and turns of event {event}, and cannot be undone: \
                     confirm it with --yes"
                );
                commands.delete_event(&Caller::at_the_command_line(&actor), event).await?;
                output.one(&json!({ "event": event, "deleted": true }), |out| {
                    writeln!(out, "Event {event} was deleted; the books and the photos stay.")
                })?;
            }
            Self::Hold { event, operation, owner, note, for_minutes } => {
                let until =
                    for_minutes.map(|minutes| Utc::now() + Duration::from_secs(60 * minutes));
                let new = NewHold { operation, note, until };
                let caller = Caller::at_the_command_line(&owner);
                let holds = commands.hold(&caller, event, &new).await?.holds;
                output.one(&json!({ "event": event, "holds": holds, "until": until }), |out| {
                    writeln!(out, "Event {event} is held; photos in progress are finished.")
                })?;
            }
            Self::Lift { event, operation, actor } => {
                let caller = Caller::at_the_command_line(&actor);
                let lifted = lift(commands, &caller, event, operation, config).await?;
                output.one(&json!({ "event": event, "lifted": lifted }), |out| {
                    writeln!(out, "{} holds on event {event} were lifted.", lifted.len())
                })?;
            }
            Self::List { .. } | Self::Show { .. } => {}
        }
        Ok(())
    }
}

/// Lifts every hold that stands on an event's queues.
async fn lift(
    commands: &Commands,
    caller: &Caller,
    event: EventId,
    operation: Option<Operation>,
    config: &Config,
) -> anyhow::Result<Vec<HoldId>> {
    let pool = database::connect(&config.database_url, 1).await?;
    let mut db = pool.acquire().await?;
    if events::find(&mut db, event).await?.is_none() {
        return Err(CommandError::NotFound(format!("event {event}")).into());
    }
    let mut lifted = Vec::new();
    for hold in holds::standing(&mut db, event, operation).await? {
        if commands.lift_hold(caller, hold).await?.lifted {
            lifted.push(hold);
        }
    }
    Ok(lifted)
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

/// A progress bar of an event, until nothing is left to do, or nothing can be done.
async fn follow(db: &mut PgConnection, event: EventId, config: &Config) -> anyhow::Result<()> {
    let watch = Watch::open(config.redis_url.as_deref(), Subject::Event(event))?;
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} photos, {msg}")?;
    let bar = ProgressBar::new(0).with_style(style);
    loop {
        let queues = events::queues(db, event).await?;
        let sum = |of: fn(&QueueState) -> i64| queues.iter().map(of).sum::<i64>().unsigned_abs();
        bar.set_length(sum(|queue| queue.total));
        bar.set_position(sum(|queue| queue.processed + queue.failed));
        bar.set_message(format!("{} in progress", sum(|queue| queue.in_progress)));
        let stands = |queue: &QueueState| {
            queue.in_progress == 0 && (queue.waiting == 0 || queue.pause.is_some())
        };
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
    let queues = events::queues(db, event).await?;
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
    &["Queue", "Total", "Processed", "In Progress", "Failed", "Waiting", "State"];

pub(super) fn queue_row(queue: &QueueState) -> Vec<String> {
    let since = |at: &DateTime<Utc>| at.format("%H:%M:%S UTC").to_string();
    let state = match &queue.pause {
        Some(Pause::NoCredits { since: Some(at) }) => {
            format!("Paused: no credits since {}. Add credits, and it goes on by itself", since(at))
        }
        Some(Pause::NoCredits { since: None }) => {
            "Paused: no credits. Add credits, and it goes on by itself".into()
        }
        Some(Pause::Held { owner, note, since: at, until }) => {
            let until =
                until.as_ref().map(|until| format!(" until {}", since(until))).unwrap_or_default();
            format!("Held by {owner} since {}{until} {note:?}", since(at))
        }
        None if queue.waiting + queue.in_progress > 0 => "Running".into(),
        None => "Drained".into(),
    };
    let counts = [queue.total, queue.processed, queue.in_progress, queue.failed, queue.waiting]
        .map(|count| count.to_string());
    std::iter::once(queue.operation.to_string()).chain(counts).chain([state]).collect()
}
