//! `photogate undo`: takes back what was done to an event's queues.

use super::{End, Output, say};
use crate::{
    access::Caller,
    commands,
    config::Config,
    ids::{EventId, UndoId},
};

/// The columns of the list.
const HEADER: [&str; 6] = ["Undo", "What", "Operation", "Photos", "By", "Until"];

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL (--database-url).

What was queued, retried, skipped, restored, cancelled, moved to the front, held or lifted can be
taken back for a minute (the setting undo_seconds). It is the exact inverse, or it is refused.

Examples:
  photogate undo --event 1                  what can be taken back
  photogate undo 17")]
pub(super) struct Undo {
    /// The numbers, as the answers and the list show them: all are taken back, or none
    #[arg(required_unless_present = "event", conflicts_with = "event")]
    numbers: Vec<UndoId>,
    /// List what can be taken back in this event, by number
    #[arg(long)]
    event: Option<EventId>,
    /// Your e-mail address or name, for the audit log
    #[arg(long, default_value = "cli")]
    actor: String,
}

impl Undo {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let caller = Caller::trusted(&self.actor);
        let commands = super::commands(config).await?;
        if let Some(event) = self.event {
            let open = match commands.undoable(&caller, event).await {
                Ok(open) => open,
                Err(error) => return super::refused(error),
            };
            output.rows(&open, &HEADER, |one| {
                vec![
                    one.id.to_string(),
                    one.act.to_string(),
                    one.operation.map_or_else(|| "both".into(), |one| one.to_string()),
                    one.photos.map_or_else(|| "—".into(), |photos| photos.to_string()),
                    one.actor.clone(),
                    one.until.format("%H:%M:%S UTC").to_string(),
                ]
            })?;
            return Ok(End::Ok);
        }
        match commands.undo(&caller, &commands::Undo { undo: self.numbers }).await {
            Ok(done) => {
                output.one(&done, |out| {
                    let acts: Vec<_> = done.acts.iter().map(ToString::to_string).collect();
                    writeln!(out, "Taken back: {} ({} photos).", acts.join(", "), done.photos)
                })?;
                Ok(End::Ok)
            }
            Err(error) => super::refused(error),
        }
    }
}

/// Says how what was just done can be taken back.
pub(super) fn tell(config: &Config, undo: &[UndoId]) {
    if undo.is_empty() || config.undo_seconds == 0 {
        return;
    }
    let numbers: Vec<_> = undo.iter().map(ToString::to_string).collect();
    say!("for {} seconds: photogate undo {}", config.undo_seconds, numbers.join(" "));
}
