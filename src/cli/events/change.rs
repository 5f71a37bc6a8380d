//! The subcommands of `photogate events` that change something.

use std::{fs::File, io::Read, path::Path, time::Duration};

use anyhow::Context;
use chrono::Utc;
use serde_json::json;

use super::Events;
use crate::{
    access::Caller,
    catalog::start_list,
    cli::{Output, search},
    commands::{Commands, EventChange, NewErasure, NewEvent, NewHold},
    config::Config,
    ids::EventId,
};

impl Events {
    /// Runs the subcommands that change something.
    pub(super) async fn apply(self, config: &Config, output: Output) -> anyhow::Result<()> {
        let commands = &crate::cli::commands(config).await?;
        match self {
            Self::Create {
                organisation,
                name,
                reference,
                no_bib_search,
                face_search,
                consent,
                keep_findings_days,
                actor,
            } => {
                let caller = Caller::trusted(&actor);
                let new = NewEvent {
                    name,
                    reference,
                    organisation: Some(organisation),
                    bib_search: !no_bib_search,
                    face_search,
                    face_consent: consent,
                    keep_findings_days,
                };
                let made = commands.create_event(&caller, &new).await?;
                let (id, is_new) = (made.value.id, made.is_new);
                let what = if is_new { "was created" } else { "has this reference already" };
                output.one(&json!({ "event": id, "is_new": is_new }), |out| {
                    writeln!(out, "Event {id} {what}.")
                })?;
            }
            Self::StartList { event, file, actor } => {
                let caller = Caller::trusted(&actor);
                let text = if file.as_os_str().is_empty() { Vec::new() } else { read(&file)? };
                let n = commands.set_start_list(&caller, event, text).await?;
                output.one(&json!({ "event": event, "numbers": n }), |out| {
                    writeln!(
                        out,
                        "Event {event} has a start list of {n} numbers. Those of earlier photos are \
                         decided again by `photogate serve`, without a credit."
                    )
                })?;
            }
            Self::FaceSearch { event, state, consent, actor } => {
                let change = EventChange {
                    face_search: Some(state),
                    face_consent: consent,
                    ..EventChange::default()
                };
                let caller = Caller::trusted(&actor);
                face_search(commands, &caller, event, &change, output).await?;
            }
            Self::KeepFindings { event, days, actor } => {
                keep_findings(commands, &Caller::trusted(&actor), event, days, output).await?;
            }
            Self::Erase { event, bib, selfie, min, yes, actor } => {
                let caller = Caller::trusted(&actor);
                let faces = match selfie {
                    Some(selfie) => {
                        search::faces_of(config, commands, &caller, event, &selfie, min).await?
                    }
                    None => Vec::new(),
                };
                erase(commands, &caller, event, NewErasure { faces, bib }, yes, output).await?;
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
            Self::List { .. }
            | Self::Show { .. }
            | Self::Timeline { .. }
            | Self::Finder { .. }
            | Self::Quality { .. } => {}
        }
        Ok(())
    }
}

/// Switches face search, and says how many embeddings were deleted.
async fn face_search(
    commands: &Commands,
    caller: &Caller,
    event: EventId,
    change: &EventChange,
    output: Output,
) -> anyhow::Result<()> {
    let (changed, n) = commands.change_event(caller, event, change).await?;
    let state = changed.face_search;
    let said = json!({ "event": event, "face_search": state, "deleted": n });
    output.one(&said, |out| {
        if state {
            writeln!(out, "Face search is on for event {event}, for photos processed from now on.")
        } else {
            writeln!(
                out,
                "Face search is off for event {event}; the embeddings of {n} faces were deleted."
            )
        }
    })?;
    Ok(())
}

/// Sets how long findings are kept.
async fn keep_findings(
    commands: &Commands,
    caller: &Caller,
    event: EventId,
    days: i32,
    output: Output,
) -> anyhow::Result<()> {
    let change = EventChange { keep_findings_days: Some(days), ..EventChange::default() };
    let (changed, _) = commands.change_event(caller, event, &change).await?;
    output.one(&changed, |out| match changed.keep_findings_days {
        Some(days) => writeln!(
            out,
            "Faces and bib numbers of event {event} are deleted {days} days after its last photo \
             was processed."
        ),
        None => {
            writeln!(out, "Faces and bib numbers of event {event} are kept until it is deleted.")
        }
    })?;
    Ok(())
}

/// Erases a person, or says what would be erased.
async fn erase(
    commands: &Commands,
    caller: &Caller,
    event: EventId,
    new: NewErasure,
    yes: bool,
    output: Output,
) -> anyhow::Result<()> {
    let bib = new.bib.as_deref().map_or_else(String::new, |bib| format!(", and the number {bib}"));
    anyhow::ensure!(
        yes,
        "this deletes {} faces{bib} from the findings of event {event}, and cannot be undone: \
         confirm with --yes",
        new.faces.len()
    );
    let erased = commands.erase_person(caller, event, &new).await?;
    output.one(&erased, |out| {
        writeln!(
            out,
            "{} faces and {} readings of the number were deleted. The photos stay.",
            erased.faces, erased.bibs
        )
    })?;
    Ok(())
}

/// Reads a start list, at most one byte more than its maximum size: enough to refuse it.
fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(start_list::FILE_MAX as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("reading {}", file.display()))?;
    Ok(bytes)
}
