//! `photogate runs …`: cancels a run, or moves it to the front.

use super::{End, Output};
use crate::{access::Caller, config::Config, ids::RunId};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Runs {
    /// Takes back the photos of a run that wait; they are skipped, and cost nothing
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Photos that are in progress are finished.

Example:
  photogate runs cancel 901 --actor anna@club.example")]
    Cancel(Named),
    /// Lets the photos of a run that wait go before all others of their event
    #[command(after_help = "Needs: PostgreSQL (--database-url).

To queue photos before the others from the beginning: photogate enqueue --urgent.

Example:
  photogate runs first 901")]
    First(Named),
}

#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The run's number
    run: RunId,
    /// Your e-mail address or name, for the audit log
    #[arg(long, default_value = "cli")]
    actor: String,
}

impl Runs {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let commands = super::commands(config).await?;
        let undo = match self {
            Self::Cancel(Named { run, actor }) => {
                match commands.cancel_run(&Caller::trusted(&actor), run).await {
                    Ok(done) => output
                        .one(&done, |out| {
                            let (cancelled, in_progress) = (done.cancelled, done.in_progress);
                            writeln!(
                                out,
                                "{cancelled} photos were taken back; {in_progress} are in progress."
                            )
                        })
                        .map(|()| done.undo),
                    Err(error) => return super::refused(error),
                }
            }
            Self::First(Named { run, actor }) => {
                match commands.put_run_first(&Caller::trusted(&actor), run).await {
                    Ok(done) => output
                        .one(&done, |out| writeln!(out, "{} photos go first now.", done.moved))
                        .map(|()| done.undo),
                    Err(error) => return super::refused(error),
                }
            }
        }?;
        super::undo::tell(config, undo.as_slice());
        Ok(End::Ok)
    }
}
