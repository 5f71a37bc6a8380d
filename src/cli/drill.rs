//! `photogate drill`: kills workers and servers on purpose, then checks the books.

use std::path::PathBuf;

use super::{End, Output, say};
use crate::{config::Config, rig::drill};

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL and Redis installed. It starts servers of its own.
With --server it creates a database on that server, and drops it at the end.

Examples:
  photogate drill --jobs 100000 --kills 200 --json
  photogate drill --seed 7                                    the same plan again
  photogate drill --server postgres://postgres@db/postgres    on a server that runs already

Exits with 3 if a photo or credit was lost, charged twice, stuck or stranded, if a late settle was
accepted, if a cap, a floor or a limit of photos in flight was not kept, if webhooks left something
out, said what did not happen or changed the order, or if the books do not balance.")]
pub(super) struct Drill {
    /// Number of photos to process
    #[arg(long, default_value_t = 5000, value_parser = at_least_one)]
    jobs: usize,
    /// Number of workers to kill, besides workers that crash on a photo
    #[arg(long, default_value_t = 10)]
    kills: usize,
    /// The seed of the plan: the same seed repeats the same plan [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// Number of worker processes at a time
    #[arg(long, default_value_t = 3, value_parser = at_least_one)]
    workers: usize,
    /// A PostgreSQL server where it may create a database [default: a server of its own, which it
    /// also stops on purpose]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The program of the version that follows, to upgrade to in the middle; repeat it for the versions
    /// after that, in order
    #[arg(long = "upgrade-to", value_name = "PROGRAM")]
    upgrades: Vec<PathBuf>,
    /// The directory for its databases and the log of the workers
    #[arg(long, value_name = "DIRECTORY", default_value = ".photogate/drill")]
    place: PathBuf,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "must be 1 or more".into())
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
            upgrades: self.upgrades,
        };
        say!(
            "Drill: {} photos, {} kills, {} workers at a time, seed {}; log of the workers: {}",
            drill.jobs,
            drill.kills,
            drill.workers,
            drill.seed,
            drill.place.join("workers.log").display()
        );
        let (tally, told) = drill.hold(|line| say!("{line}")).await?;
        say!(
            "{}; {}; {} worker processes in total, {} late settles refused; {}",
            told.chaos,
            told.upgrades,
            told.workers,
            told.refused,
            told.steering
        );
        output.one(&tally, |out| {
            for (name, count) in [
                ("lost", tally.lost),
                ("charged twice", tally.charged_twice),
                ("stuck", tally.stuck),
                ("stranded while paid", tally.stranded),
                ("late settles accepted", tally.late_settles_accepted),
                ("caps exceeded", tally.caps_exceeded),
                ("floors violated", tally.floors_violated),
                ("limits of photos in flight exceeded", tally.in_flight_exceeded),
                ("changes lost", tally.changes_lost),
                ("changes that did not happen", tally.changes_untrue),
                ("changes out of order", tally.changes_out_of_order),
                ("upgrades that did not end", tally.upgrades_missed),
                ("drift", tally.drift),
            ] {
                writeln!(out, "{count:>6}  {name}")?;
            }
            writeln!(
                out,
                "Caps were reached {} times, floors {} times, and limits of photos in flight {} times.",
                tally.caps_reached, tally.floors_reached, tally.in_flight_reached
            )?;
            writeln!(
                out,
                "Webhooks had {} photos, entries of timelines and top-ups to say; their receiver got {} calls.",
                tally.causes, tally.calls
            )
        })?;
        if tally.is_clean() {
            return Ok(End::Ok);
        }
        say!(
            "error: the drill failed. To repeat it: photogate drill --jobs {} --kills {} --seed {}",
            drill.jobs,
            drill.kills,
            drill.seed
        );
        Ok(End::BooksDoNotBalance)
    }
}
