//! The subcommands of `photogate events` that change something.

use std::{fs::File, io::Read, path::Path, time::Duration};

use anyhow::Context;
use chrono::Utc;
use serde_json::json;

use super::Events;
use crate::{
    access::Caller,
    catalog::start_list,
    cli::Output,
    commands::{Commands, EventChange, NewEvent, NewHold},
    ids::EventId,
};

impl Events {
    /// Runs the subcommands that change something.
    pub(super) async fn apply(self, commands: &Commands, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Create { organisation, name, reference, no_bib_search, face_search, actor } => {
                let caller = Caller::trusted(&actor);
                let (organisation, bib_search) = (Some(organisation), !no_bib_search);
                let new = NewEvent { name, reference, organisation, bib_search, face_search };
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
                face_search(commands, &caller, event, state, output).await?;
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

/// Switches face search, and says how many embeddings were deleted.
async fn face_search(
    commands: &Commands,
    caller: &Caller,
    event: EventId,
    state: bool,
    output: Output,
) -> anyhow::Result<()> {
    let change = EventChange { face_search: Some(state), ..EventChange::default() };
    let (_, n) = commands.change_event(caller, event, &change).await?;
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

/// Reads a start list, at most one byte more than its maximum size: enough to refuse it.
fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(start_list::FILE_MAX as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("reading {}", file.display()))?;
    Ok(bytes)
}
