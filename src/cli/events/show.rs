//! The subcommands of `photogate events` that show something.

use chrono::{DateTime, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    catalog::{
        archive,
        events::{self, Event},
        quality,
    },
    cli::{End, Output, output::table, say},
    config::Config,
    database,
    ids::{EventId, OrganisationId},
    notify::progress::{Subject, Watch},
    queue::status::{self, Queue, State},
};

/// Prints the events of an organisation, or of all.
pub(super) async fn list(
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

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    event: &'a Event,
    queues: &'a [Queue],
}

/// Prints an event and its queues. With `watch`, shows a progress bar before.
pub(super) async fn show(
    event: EventId,
    watch: bool,
    config: &Config,
    output: Output,
) -> anyhow::Result<End> {
    let pool = database::connect(&config.database_url, 1).await?;
    let mut db = pool.acquire().await?;
    if watch {
        follow(&mut db, event, config).await?;
    }
    let Some(found) = events::find(&mut db, event).await? else {
        say!("error: there is no event {event}");
        return Ok(End::NotFound);
    };
    let queues = status::of_event(&mut db, event).await?;
    let archive = archive::of_event(&mut db, event).await?;
    output.one(&Shown { event: &found, queues: &queues }, |out| {
        writeln!(
            out,
            "{} · event {} of organisation {}\n",
            found.name, found.id, found.organisation
        )?;
        let said = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M:%S UTC");
        if let Some(one) = &archive {
            match (&one.given_up_by, one.given_up_at) {
                (Some(by), Some(at)) => writeln!(
                    out,
                    "The details of its photos were lost: {by} gave its archive up on {}.\n",
                    said(at)
                )?,
                _ => writeln!(
                    out,
                    "Archived on {}: `photogate archive restore {event}` brings it back.\n",
                    said(one.archived_at.unwrap_or(one.began_at))
                )?,
            }
        }
        write!(out, "{}", table(QUEUES, &queues.iter().map(queue_row).collect::<Vec<_>>()))
    })?;
    Ok(End::Ok)
}

/// Prints what was found on the photos of an event, in numbers.
pub(super) async fn quality(
    event: EventId,
    config: &Config,
    output: Output,
) -> anyhow::Result<End> {
    let pool = database::connect(&config.database_url, 1).await?;
    let mut db = pool.acquire().await?;
    if events::find(&mut db, event).await?.is_none() {
        say!("error: there is no event {event}");
        return Ok(End::NotFound);
    }
    let found = quality::report(&mut db, event).await?;
    output.one(&found, |out| {
        writeln!(
            out,
            "Photo Processing of {} photos: {} with a sure number, {} with unsure numbers only, {} \
             without a number; {} with a face.\n{} numbers, {} sure, {} different; {} faces.\nAI \
             Rotation of {} photos: {} turned, {} upright, {} undecided.",
            found.photos,
            found.with_sure_number,
            found.with_unsure_number,
            found.without_number,
            found.with_face,
            found.numbers,
            found.sure_numbers,
            found.different_numbers,
            found.faces,
            found.rotation_photos,
            found.turned,
            found.upright,
            found.undecided,
        )
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
        bar.set_position(sum(done));
        bar.set_message(format!("{} in progress", sum(|queue| queue.in_progress)));
        // What follows its AI rotation comes, unless that is stopped.
        let is_stopped = queues.iter().any(Queue::is_stopped);
        let stands = |queue: &Queue| {
            queue.in_progress == 0
                && (queue.waiting == 0 || queue.is_stopped())
                && (queue.following == 0 || is_stopped)
        };
        if queues.iter().all(stands) {
            bar.finish_and_clear();
            return Ok(());
        }
        watch.changed().await;
    }
}

/// The header of a table of queues.
pub(in crate::cli) const QUEUES: &[&str] = &[
    "Queue",
    "Photos",
    "Processed",
    "In progress",
    "Undecided",
    "Duplicates",
    "Failed",
    "Waiting",
    "State",
];

/// A queue as a row of a table.
pub(in crate::cli) fn queue_row(queue: &Queue) -> Vec<String> {
    let instant = |at: DateTime<Utc>| at.format("%H:%M:%S UTC").to_string();
    let since = queue.since.map(|at| format!(" since {}", instant(at))).unwrap_or_default();
    let state = match queue.state {
        State::NoCredits if queue.available > 0 => {
            format!("Paused: no credits{since}. All that are available are kept for other events")
        }
        State::NoCredits => format!("Paused: no credits{since}. Top up, and it resumes by itself"),
        State::Budget => {
            format!("Paused: its budget is used up{since}. Raise it, and it resumes by itself")
        }
        State::Held => {
            let until = queue.until.map(|at| format!(" until {}", instant(at))).unwrap_or_default();
            let owner = queue.owner.as_deref().unwrap_or("somebody");
            let note = queue.note.as_deref().unwrap_or_default();
            format!("Held by {owner}{since}{until} {note:?}")
        }
        State::Running => match queue.kept_back() {
            Some(why) => format!("Running, but it waits: {why}"),
            None => "Running".into(),
        },
        State::Idle if queue.in_progress > 0 => "Running".into(),
        State::Idle => "Idle".into(),
    };
    let counts = [
        photos(queue),
        queue.processed,
        queue.in_progress,
        queue.undecided,
        queue.duplicates,
        queue.failed,
        queue.waiting,
    ]
    .map(|count| count.to_string());
    std::iter::once(queue.operation.to_string()).chain(counts).chain([state]).collect()
}

/// Number of photos that have left the queue with an outcome.
fn done(queue: &Queue) -> i64 {
    queue.processed + queue.undecided + queue.duplicates + queue.failed
}

/// Number of photos that are in the queue or have left it with an outcome.
fn photos(queue: &Queue) -> i64 {
    done(queue) + queue.in_progress + queue.waiting + queue.following
}
