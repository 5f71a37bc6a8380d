//! The command line. Data goes to stdout, messages go to stderr. Exit codes: 0 ok, 1 error,
//! 2 usage, 3 the books do not balance, 4 not found; `migrate --check`: 5 to do, 6 stop first.

mod access;
mod alerts;
mod annotate;
mod archive;
mod audit;
mod auto_top_up;
mod changes;
mod clock;
mod config;
mod credits;
mod demo;
mod doctor;
mod drill;
mod enqueue;
mod erasures;
mod events;
mod export;
mod health;
mod inspect;
mod jobs;
mod ledger;
mod mail;
mod migrate;
mod models;
mod months;
mod organisations;
mod output;
mod pipelines;
mod purchases;
mod queues;
mod receipt;
mod reconcile;
mod refunds;
mod restored;
mod runs;
mod schedules;
mod search;
mod serve;
mod spending;
mod statement;
mod undo;
mod webhooks;
mod why;
mod work;

use std::{io::Write, process::ExitCode, time::Duration};

use clap::{CommandFactory, Parser, Subcommand};

use crate::{
    commands::{CommandError, Commands},
    config::{Config, Flags, LogFormat, json_is_wanted, unknown_variables},
    telemetry::{self, traces},
};
use output::{Output, say};

/// Processes event photos in the background, at one credit for each operation on a photo
#[derive(Debug, Parser)]
#[command(name = "photogate", version, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    /// Print data as JSON, for programs
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  photogate demo                              see the whole service at work; needs no server
  photogate migrate                           create or upgrade the database schema
  photogate doctor                            check that all is there and works
  photogate work                              run a worker
  photogate serve                             run the API and the pages
  photogate enqueue 1 IMG_0001.jpg IMG_0002.jpg
  photogate credits top-up 1 500 --key order-4711
  photogate events show 1 --json
  photogate inspect photo.jpg                 analyse a photo; needs no database

Most commands need PostgreSQL (--database-url). These do not: completions, config, demo, drill,
health, inspect, models, `mail test`, `ledger verify --export` and `serve --openapi`.

Exit codes: 0 ok, 1 error, 2 wrong usage, 3 the books do not balance, 4 not found. Of `migrate
--check`: 5 there is something to do, 6 workers and the service must be stopped first.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the whole service at work on sample photos; starts its own PostgreSQL and Redis
    Demo(demo::Demo),
    /// Creates the database schema, or upgrades it to this version
    Migrate(migrate::Migrate),
    /// Checks the database, Redis, the store, the models, the sandbox and this machine
    Doctor(doctor::Doctor),
    /// Runs a worker until SIGTERM
    Work(work::Run),
    /// Serves the API (for programs) and the pages (for people) over HTTP
    Serve(serve::Serve),
    /// Asks a worker or a service on this machine whether it works, for health checks
    #[command(subcommand)]
    Health(health::Health),
    /// Adds photos to the queue of an event
    Enqueue(enqueue::Enqueue),
    /// Creates and lists organisations, and sets their price per credit
    #[command(subcommand)]
    Organisations(organisations::Organisations),
    /// Shows an organisation's credits, and adds credits
    #[command(subcommand)]
    Credits(credits::Credits),
    /// Shows and sets which events get an organisation's credits, and how many
    #[command(subcommand)]
    Spending(spending::Spending),
    /// Lists purchases that wait for approval or payment, approves or refuses them; lists payments
    #[command(subcommand)]
    Purchases(purchases::Purchases),
    /// Creates, lists, shows, holds and deletes events
    #[command(subcommand)]
    Events(events::Events),
    /// Lists what was erased of an event, and makes erasures again after a restore
    #[command(subcommand)]
    Erasures(erasures::Erasures),
    /// Packs old events into the photo store, lists and verifies archives, and restores events
    #[command(subcommand)]
    Archive(archive::ArchiveCommand),
    /// Shows failed photos and retries them; skips waiting photos and restores them
    #[command(subcommand)]
    Jobs(jobs::Jobs),
    /// Cancels runs, and moves them to the front of their queue
    #[command(subcommand)]
    Runs(runs::Runs),
    /// Lists queues; holds, lifts or retries several at once, and takes that back
    #[command(subcommand)]
    Queues(queues::Queues),
    /// Takes back what was done to an event's queues, for a minute
    Undo(undo::Undo),
    /// Queues photos of an event at a later time; lists, changes and cancels that
    #[command(subcommand)]
    Schedules(schedules::Schedules),
    /// Prints what happened in an organisation, as it happens with --follow
    Changes(changes::Changes),
    /// Adds, lists and removes alerts: what an organisation wants to be told of
    #[command(subcommand)]
    Alerts(alerts::Alerts),
    /// Adds, tries and removes webhooks, and shows what was sent to them
    #[command(subcommand)]
    Webhooks(webhooks::Webhooks),
    /// Sets what people hear by e-mail, and tries the mail server
    #[command(subcommand)]
    Mail(mail::Mail),
    /// Finds photos of an event by bib number or by selfie
    #[command(subcommand)]
    Search(search::Search),
    /// Writes what people have corrected as labels
    #[command(subcommand)]
    Export(export::Export),
    /// Explains why a photo, an event or an organisation is not processed, and what to do
    #[command(subcommand)]
    Why(why::Why),
    /// Creates, lists and revokes tokens of programs that call the API
    #[command(subcommand)]
    Tokens(access::Tokens),
    /// Creates, lists and disables people who log in to the pages
    #[command(subcommand)]
    People(access::People),
    /// Lets logins of PostgreSQL queue photos in transactions of their own, and revokes that
    #[command(subcommand)]
    Pipelines(pipelines::Pipelines),
    /// Lists the audit log, and verifies the hash chains that seal it
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Analyses photo files and prints what was found; needs no database
    Inspect(inspect::Inspect),
    /// Shows everything that happened to the credit of a photo
    Receipt(receipt::Receipt),
    /// Shows an organisation's month: opening balance, every movement, closing balance
    Statement(statement::MonthOf),
    /// Shows a month of all organisations, to close the books
    Months(months::MonthOfAll),
    /// Counts refunded credits by reason, event or organisation, or lists them
    Refunds(refunds::Refunds),
    /// Verifies and exports the ledger with its hash chain
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    /// Checks the books; exits with 3 if they do not balance
    Reconcile(reconcile::Reconcile),
    /// Ends the workers of before a restore of the database, and makes later erasures again
    Restored(restored::Restored),
    /// Says that the clock of the database is right
    #[command(subcommand)]
    Clock(clock::Clock),
    /// Kills workers and servers on purpose during work, then checks that no credit was lost
    Drill(drill::Drill),
    /// Shows the current settings
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Fetches and checks the models, and lists their licences
    #[command(subcommand)]
    Models(models::Models),
    /// Prints a completion script for a shell
    #[command(after_help = "Needs no database.

Example:
  photogate completions bash > ~/.local/share/bash-completion/completions/photogate")]
    Completions {
        /// The shell to print the script for
        shell: clap_complete::Shell,
    },
}

/// How a command ended. It becomes the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Ok,
    BooksDoNotBalance,
    NotFound,
    Failed,
    Pending,
    MustStop,
}

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        Self::from(match end {
            End::Ok => 0,
            End::Failed => 1,
            End::BooksDoNotBalance => 3,
            End::NotFound => 4,
            End::Pending => 5,
            End::MustStop => 6,
        })
    }
}

/// Runs the command that the process was called with.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && json_is_wanted() => {
            output::speak_json();
            say!("{}", error.render());
            return ExitCode::from(2);
        }
        Err(error) => error.exit(),
    };
    if cli.flags.wants_json() {
        output::speak_json();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let end = runtime.block_on(dispatch(cli));
    traces::close();
    // Photos that were handed back may still be busy on a thread. Do not wait for them.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match end {
        Ok(end) => end.into(),
        // The reader of our output has closed the pipe, as `head` does. That is not an error.
        Err(error)
            if error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            say!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<End> {
    let output = Output { json: cli.json };
    if let Command::Completions { shell } = cli.command {
        // Not straight to stdout: clap_complete panics when the reader has closed the pipe.
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "photogate", &mut script);
        std::io::stdout().write_all(&script)?;
        return Ok(End::Ok);
    }
    // The doctor says it in a line of its own.
    let is_doctor = matches!(cli.command, Command::Doctor(_));
    for (name, nearest) in unknown_variables().into_iter().filter(|_| !is_doctor) {
        let hint = nearest.map(|nearest| format!(": did you mean {nearest}?")).unwrap_or_default();
        say!("warning: {name} is not a setting of photogate{hint}");
    }
    let config = match Config::read(&cli.flags) {
        // The demo and the drill print their own progress: the log shows only warnings.
        Ok(config)
            if matches!(cli.command, Command::Demo(_) | Command::Drill(_))
                && cli.flags.log.is_none() =>
        {
            Config { log: "warn,sqlx=error".into(), ..config }
        }
        // Its lines say all there is to say.
        Ok(config) if is_doctor && cli.flags.log.is_none() => {
            Config { log: "off".into(), ..config }
        }
        Ok(config) => config,
        Err(error) if is_doctor => {
            return doctor::without_settings(&error, output);
        }
        Err(error) => {
            say!("error: {error}");
            return Ok(End::Failed);
        }
    };
    if config.log_format == LogFormat::Json {
        output::speak_json();
    }
    telemetry::start(&config)?;
    match cli.command {
        Command::Demo(demo) => demo.run(config).await,
        Command::Migrate(migrate) => migrate.run(&config, output).await,
        Command::Doctor(doctor) => doctor.run(&config, output).await,
        Command::Work(work) => work.run(config).await,
        Command::Serve(serve) => serve.run(config).await,
        Command::Health(health) => health.run(&config).await,
        Command::Why(why) => why.run(&config, output).await,
        Command::Tokens(tokens) => tokens.run(&config, output).await,
        Command::People(people) => people.run(&config, output).await,
        Command::Pipelines(pipelines) => pipelines.run(&config, output).await,
        Command::Audit(audit) => audit.run(&config, output).await,
        Command::Enqueue(enqueue) => enqueue.run(&config, output).await,
        Command::Organisations(organisations) => organisations.run(&config, output).await,
        Command::Credits(credits) => credits.run(&config, output).await,
        Command::Spending(spending) => spending.run(&config, output).await,
        Command::Purchases(purchases) => purchases.run(&config, output).await,
        Command::Erasures(erasures) => erasures.run(&config, output).await,
        Command::Restored(restored) => restored.run(&config, output).await,
        Command::Events(events) => events.run(&config, output).await,
        Command::Archive(archive) => archive.run(&config, output).await,
        Command::Jobs(jobs) => jobs.run(&config, output).await,
        Command::Runs(runs) => runs.run(&config, output).await,
        Command::Queues(queues) => queues.run(&config, output).await,
        Command::Undo(undo) => undo.run(&config, output).await,
        Command::Schedules(schedules) => schedules.run(&config, output).await,
        Command::Changes(changes) => changes.run(&config, output).await,
        Command::Alerts(alerts) => alerts.run(&config, output).await,
        Command::Webhooks(webhooks) => webhooks.run(&config, output).await,
        Command::Mail(mail) => mail.run(&config, output).await,
        Command::Search(search) => search.run(config, output).await,
        Command::Export(export) => export.run(&config).await,
        Command::Inspect(inspect) => inspect.run(&config, output),
        Command::Receipt(receipt) => receipt.run(&config, output).await,
        Command::Statement(month) => month.run(&config, output).await,
        Command::Months(month) => month.run(&config, output).await,
        Command::Refunds(since) => since.run(&config, output).await,
        Command::Ledger(ledger) => ledger.run(&config, output).await,
        Command::Reconcile(reconcile) => reconcile.run(&config, output).await,
        Command::Clock(clock) => clock.run(&config, output).await,
        Command::Drill(drill) => drill.run(config, output).await,
        Command::Config(config::ConfigCommand::Show) => config::show(config, output),
        Command::Models(models) => models.run(&config, output),
        Command::Completions { .. } => Ok(End::Ok),
    }
}

/// The write commands.
async fn commands(config: &Config) -> anyhow::Result<Commands> {
    Ok(Commands::open(config).await?)
}

/// Turns "not found" into exit code 4, and everything else into an error (exit code 1).
fn refused(error: CommandError) -> anyhow::Result<End> {
    if error.is_not_found() {
        say!("error: {error}");
        return Ok(End::NotFound);
    }
    // Its own words are enough: the causes below it say the same again.
    Err(anyhow::anyhow!("{error}"))
}

/// True if these words are a valid command line. Tests check the commands in the documents with it.
pub fn understands<'a>(words: impl Iterator<Item = &'a str>) -> bool {
    Cli::try_parse_from(std::iter::once("photogate").chain(words)).is_ok()
}
