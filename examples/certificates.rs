//! A worker for something else than photos: it writes certificates, and each costs one credit.
//!
//! Run it with `cargo run --example certificates -- DIRECTORY NAME…`. It reads `DATABASE_URL` and
//! `REDIS_URL`. Use a database of its own, because a worker takes all jobs of its database.

use std::path::PathBuf;

use anyhow::Context;
use photogate::{
    access::Caller,
    catalog::findings::Findings,
    commands::{Commands, Enqueue, NewEvent, NewOrganisation, OnInsufficient, Payloads, Which},
    config::{Config, Flags},
    database,
    ids::Operation,
    queue::{claim::Reservation, enqueue::Priority},
    worker::{Stop, Worker, verdict::Verdict, work::Work},
};
use tokio_util::sync::CancellationToken;

#[derive(serde::Deserialize)]
struct Certificate {
    name: String,
}

struct Printer {
    directory: PathBuf,
}

impl Work for Printer {
    async fn perform(&self, job: &Reservation, _drain: &CancellationToken) -> Verdict {
        let name = match job.payload::<Certificate>() {
            Ok(certificate) => certificate.name,
            Err(error) => {
                return Verdict::Failed { reason: "bad_payload", detail: error.to_string() };
            }
        };
        let file = self.directory.join(format!("{}.txt", job.photo()));
        match tokio::fs::write(file, format!("{name} has finished.\n")).await {
            Ok(()) => Verdict::Processed(Findings::Nothing),
            Err(error) => Verdict::Failed { reason: "disk_failed", detail: error.to_string() },
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory: PathBuf = arguments.next().context("write a directory, then names")?.into();
    let config = Config::read(&Flags::default())?;

    // Somebody who pays, and an event to pay for. The second run finds both.
    let commands = Commands::open(&config).await?;
    let caller = Caller::trusted("certificates");
    let club = NewOrganisation::new("Certificates").with_reference("certificates");
    let club = commands.create_organisation(&caller, &club).await?.value;
    let race = NewEvent::new("Marathon", club.id).with_reference("marathon");
    let race = commands.create_event(&caller, &race).await?.value;

    // A job for each name. A name that was done before is not done, and not paid, again.
    let payload =
        |name: String| (format!("certificates/{name}"), serde_json::json!({"name": name}));
    let payloads: Payloads = arguments.map(payload).collect();
    let keys: Vec<String> = payloads.keys().cloned().collect();
    let jobs = Enqueue {
        operation: Operation::PhotoProcessing.into(),
        photos: Which::Keys(&keys),
        payloads,
        dry_run: false,
        on_insufficient: OnInsufficient::Wait,
        priority: Priority::Normal,
    };
    let plan = commands.enqueue(&caller, race.id, &jobs).await?;
    eprintln!("{} jobs are queued; {} credits are missing", plan.queued, plan.shortfall);
    eprintln!("add some: photogate credits grant {} 100 --key first", club.id);

    let pool = database::connect_worker(&config.database_url, 5).await?;
    let worker = Worker::new(&config, pool, Printer { directory })?
        .observe(|job: &Reservation, verdict: &Verdict| eprintln!("{}: {verdict:?}", job.key()));
    let stop = Stop::default();
    let working = tokio::spawn(worker.run(stop.clone()));
    tokio::signal::ctrl_c().await?;
    stop.drain.cancel();
    Ok(working.await??)
}
