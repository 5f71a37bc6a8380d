//! `photogate events …`: events, their queues, and holds.

mod change;
mod finder;
mod show;
mod timeline;

use std::path::PathBuf;

use super::{End, Output};
use crate::{
    catalog::{finders::FinderAccess, search},
    commands::CommandError,
    config::Config,
    ids::{EventId, Operation, OrganisationId},
};

pub(super) use show::{QUEUES, queue_row};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Events {
    /// Creates an event with a queue for each operation
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate events create 1 'City Marathon' --face-search --consent --keep-findings-days 90")]
    Create {
        /// The number of the organisation that pays for the photos
        organisation: OrganisationId,
        /// The name of the event
        name: String,
        /// The ID that you have for it: the same command again finds the event, and creates none
        #[arg(long)]
        reference: Option<String>,
        /// Do not read bib numbers
        #[arg(long)]
        no_bib_search: bool,
        /// Compute face embeddings (biometric data), so that people can be found by a selfie
        #[arg(long)]
        face_search: bool,
        /// Say that the people on the photos agreed to be searched for by their faces
        #[arg(long)]
        consent: bool,
        /// Delete faces and bib numbers so many days after the last photo was processed, 1 to 3650
        /// [default: when the event is deleted]
        #[arg(long)]
        keep_findings_days: Option<i32>,
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

Examples:
  photogate events face-search 1 off
  photogate events face-search 1 on --consent      the people on the photos agreed")]
    FaceSearch {
        /// The event's number
        event: EventId,
        /// `on` or `off`
        #[arg(value_parser = on_or_off, action = clap::ArgAction::Set)]
        state: bool,
        /// Say that the people on the photos agreed to be searched for by their faces
        #[arg(long)]
        consent: bool,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Sets for how many days after the last photo its faces and bib numbers are kept
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate events keep-findings 1 90")]
    KeepFindings {
        /// The event's number
        event: EventId,
        /// Number of days, 1 to 3650; 0: until the event is deleted
        days: i32,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Shows or sets who can open an event's page for athletes, who look for their photos there
    #[command(
        after_help = "Needs: PostgreSQL (--database-url). The setting public_url makes whole addresses.

Examples:
  photogate events finder 1                       who can open it, and its link
  photogate events finder 1 link                  whoever has the link
  photogate events finder 1 --replace-link        another link; the old one leads nowhere at once
  photogate events finder 1 off"
    )]
    Finder {
        /// The event's number
        event: EventId,
        /// Who can open it from now on [default: shows how it is]
        #[arg(value_enum)]
        access: Option<FinderAccess>,
        /// Give it another link
        #[arg(long)]
        replace_link: bool,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Deletes the faces and the bib number of one person from an event's findings, for good
    #[command(after_help = "Needs: PostgreSQL (--database-url) and, with --selfie, the models.

The photos themselves stay. The number is not found again on photos that are processed later; a face
is, so erase it again then. Without --yes it only says what it would delete.

Examples:
  photogate events erase 1 --bib A12 --yes
  photogate events erase 1 --selfie anna.jpg --min 0.5")]
    Erase {
        /// The event's number
        event: EventId,
        /// The person's bib number
        #[arg(long)]
        bib: Option<String>,
        /// A photo of the person; if it shows several people, the nearest face is used
        #[arg(long)]
        selfie: Option<PathBuf>,
        /// Minimum similarity of two faces, 0 to 1; a higher value erases fewer
        #[arg(long, default_value_t = search::SAME_PERSON)]
        min: f32,
        /// Confirm: without this flag nothing is deleted
        #[arg(long)]
        yes: bool,
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
    /// Counts what was found on an event's photos: sure and unsure numbers, faces, turns
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate events quality 1")]
    Quality {
        /// The event's number
        event: EventId,
    },
    /// Lists what happened to an event's queues, newest first: runs, pauses, holds, and their causes
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Examples:
  photogate events timeline 1
  photogate events timeline 1 --most 100000 --csv > timeline.csv")]
    Timeline {
        /// The event's number
        event: EventId,
        /// The most entries that are listed
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        most: i64,
        /// Print CSV, for spreadsheets
        #[arg(long, conflicts_with = "json")]
        csv: bool,
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
        #[arg(long, default_value = "cli")]
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

impl Events {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        match self {
            Self::List { organisation } => show::list(organisation, config, output).await,
            Self::Show { event, watch } => show::show(event, watch, config, output).await,
            Self::Timeline { event, most, csv } => {
                timeline::list(event, most, csv, config, output).await
            }
            Self::Quality { event } => show::quality(event, config, output).await,
            Self::Finder { event, access, replace_link, actor } => ended(
                finder::show_or_set(event, access, replace_link, &actor, config, output).await,
            ),
            change @ (Self::Create { .. }
            | Self::StartList { .. }
            | Self::FaceSearch { .. }
            | Self::KeepFindings { .. }
            | Self::Erase { .. }
            | Self::Delete { .. }
            | Self::Hold { .. }
            | Self::Lift { .. }) => ended(change.apply(config, output).await),
        }
    }
}

/// How a subcommand that calls a command ends.
fn ended(done: anyhow::Result<()>) -> anyhow::Result<End> {
    match done {
        Ok(()) => Ok(End::Ok),
        Err(error) => match error.downcast::<CommandError>() {
            Ok(error) => super::refused(error),
            Err(error) => Err(error),
        },
    }
}
