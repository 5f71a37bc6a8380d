//! `photogate drill`

use std::path::PathBuf;

use super::{End, Output, say};
use crate::{config::Config, rig::drill};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  photogate drill --jobs 100000 --kills 200 --json
  photogate drill --seed 7                                        the same plan again
  photogate drill --server postgres://postgres@db/postgres       on a database it makes there, and drops

Exits with 3 if anything was lost, charged twice, stuck, stranded, settled late or out of balance.")]
pub(super) struct Drill {
    /// Photos
    #[arg(long, default_value_t = 5000, value_parser = at_least_one)]
    jobs: usize,
    /// Workers killed, beside those that photos take down
    #[arg(long, default_value_t = 10)]
    kills: usize,
    /// The plan; the same again for the same seed [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// Worker processes at a time
    #[arg(long, default_value_t = 3, value_parser = at_least_one)]
    workers: usize,
    /// A PostgreSQL where it may create a database [default: one of its own, which also loses its plug]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Where it keeps its databases, and the workers' log
    #[arg(long, value_name = "DIRECTORY", default_value = ".photogate/drill")]
    place: PathBuf,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "write a number from 1 on".into())
}

impl Drill {
    pub(super) async fn run(self, _: Config, output: Output) -> anyhow::Result<End> {
        let drill = drill::Drill {
            jobs: self.jobs,
            kills: self.kills,
            seed: self.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())),
            workers: self.workers,
            place: self.place,
            server: self.server,
        };
        say!(
            "A drill: {} photos, {} kills, {} workers at a time, seed {}; their log is {}",
            drill.jobs,
            drill.kills,
            drill.workers,
            drill.seed,
            drill.place.join("workers.log").display()
        );
        let (tally, told) = drill.hold(|line| say!("{line}")).await?;
        say!(
            "{}; {} worker processes in all, {} late settles refused",
            told.chaos,
            told.workers,
            told.refused
        );
        output.one(&tally, |out| {
            for (name, count) in [
                ("lost", tally.lost),
                ("charged twice", tally.charged_twice),
                ("stuck", tally.stuck),
                ("stranded while paid", tally.stranded),
                ("late settles accepted", tally.late_settles_accepted),
                ("drift", tally.drift),
            ] {
                writeln!(out, "{count:>6}  {name}")?;
            }
            Ok(())
        })?;
        if tally.is_clean() {
            return Ok(End::Ok);
        }
        say!(
            "error: the books did not hold: photogate drill --jobs {} --kills {} --seed {}",
            drill.jobs,
            drill.kills,
            drill.seed
        );
        Ok(End::BooksDoNotBalance)
    }
}
