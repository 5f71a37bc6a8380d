//! The command line: data on stdout, messages on stderr; exit 0 ok, 1 error, 2 usage, 3 the books do not balance,
//! 4 not found.

mod access;
mod annotate;
mod config;
mod credits;
mod demo;
mod drill;
mod enqueue;
mod events;
mod inspect;
mod jobs;
mod ledger;
mod migrate;
mod models;
mod organisations;
mod output;
mod receipt;
mod reconcile;
mod refunds;
mod search;
mod serve;
mod statement;
mod why;
mod work;

use std::{io::Write, process::ExitCode, time::Duration};

use clap::{CommandFactory, Parser, Subcommand};

use crate::{
    commands::{CommandError, Commands},
    config::{Config, Flags},
    database,
    notify::wake::Wake,
    telemetry::{self, traces},
};
use output::{Output, say};

/// A background job worker for event photos, gated by credit.
#[derive(Debug, Parser)]
#[command(name = "photogate", version, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    /// Prints data as JSON, for programs
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  photogate demo                              see all of it work, with services of its own
  photogate migrate                           prepare the database
  photogate work                              run a worker
  photogate serve                             answer over HTTP
  photogate enqueue 1 IMG_0001.jpg IMG_0002.jpg
  photogate credits top-up 1 500 --key order-4711
  photogate events show 1 --json
  photogate inspect photo.jpg                 look at a photo, without a database";

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the whole service at work, on sample photos, with a PostgreSQL and a Redis of its own
    Demo(demo::Demo),
    /// Brings the database up to date
    Migrate(migrate::Migrate),
    /// Runs a worker until SIGTERM
    Work(work::Run),
    /// Answers over HTTP: the API for programs, and the pages for people
    Serve(serve::Serve),
    /// Queues photos of an event
    Enqueue(enqueue::Enqueue),
    /// Creates and lists organisations
    #[command(subcommand)]
    Organisations(organisations::Organisations),
    /// Shows and tops up an organisation's credits
    #[command(subcommand)]
    Credits(credits::Credits),
    /// Creates, shows, holds and deletes events
    #[command(subcommand)]
    Events(events::Events),
    /// Shows failed photos, and queues them again
    #[command(subcommand)]
    Jobs(jobs::Jobs),
    /// Finds photos of an event, by a bib number or a selfie
    #[command(subcommand)]
    Search(search::Search),
    /// Tells why something does not run, and what to do
    #[command(subcommand)]
    Why(why::Why),
    /// Makes, lists and revokes tokens for programs
    #[command(subcommand)]
    Tokens(access::Tokens),
    /// Gives people accounts for the pages
    #[command(subcommand)]
    People(access::People),
    /// Looks at photos, without a database
    Inspect(inspect::Inspect),
    /// Shows everything that happened to the credit of a photo
    Receipt(receipt::Receipt),
    /// Shows a month of an organisation: opening, every movement, closing
    Statement(statement::MonthOf),
    /// Counts the credits that came back, and why
    Refunds(refunds::Refunds),
    /// Verifies and exports the ledger's chain
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    /// Proves the books; exits with 3 if they do not balance
    Reconcile(reconcile::Reconcile),
    /// Kills workers, servers and connections while photos are paid for, and counts what came of it
    Drill(drill::Drill),
    /// Shows the settings in force
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Fetches and checks the models, and tells their licences
    #[command(subcommand)]
    Models(models::Models),
    /// Prints a completion script for a shell
    #[command(
        after_help = "Example:\n  photogate completions bash > ~/.local/share/bash-completion/completions/photogate"
    )]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// How a command ended that did not end in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Ok,
    BooksDoNotBalance,
    NotFound,
    Failed,
}

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        Self::from(match end {
            End::Ok => 0,
            End::Failed => 1,
            End::BooksDoNotBalance => 3,
            End::NotFound => 4,
        })
    }
}

/// Runs the command that the process was called with.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let end = runtime.block_on(dispatch(cli));
    traces::close();
    // Work that was handed back may still be busy on its thread: nobody waits for it.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match end {
        Ok(end) => end.into(),
        // Whoever read our output has gone: that is no trouble.
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
        // Not straight to stdout: clap_complete panics when whoever reads it has gone.
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "photogate", &mut script);
        std::io::stdout().write_all(&script)?;
        return Ok(End::Ok);
    }
    let config = match Config::read(&cli.flags) {
        // The demo tells its own story.
        Ok(config)
            if matches!(cli.command, Command::Demo(_) | Command::Drill(_))
                && cli.flags.log.is_none() =>
        {
            Config { log: "warn,sqlx=error".into(), ..config }
        }
        Ok(config) => config,
        Err(error) => {
            say!("error: {error}");
            return Ok(End::Failed);
        }
    };
    telemetry::start(&config)?;
    match cli.command {
        Command::Demo(demo) => demo.run(config).await,
        Command::Migrate(migrate) => migrate.run(&config, output).await,
        Command::Work(work) => work.run(config).await,
        Command::Serve(serve) => serve.run(config).await,
        Command::Why(why) => why.run(&config, output).await,
        Command::Tokens(tokens) => tokens.run(&config, output).await,
        Command::People(people) => people.run(&config, output).await,
        Command::Enqueue(enqueue) => enqueue.run(&config, output).await,
        Command::Organisations(organisations) => organisations.run(&config, output).await,
        Command::Credits(credits) => credits.run(&config, output).await,
        Command::Events(events) => events.run(&config, output).await,
        Command::Jobs(jobs) => jobs.run(&config, output).await,
        Command::Search(search) => search.run(config, output).await,
        Command::Inspect(inspect) => inspect.run(&config, output),
        Command::Receipt(receipt) => receipt.run(&config, output).await,
        Command::Statement(month) => month.run(&config, output).await,
        Command::Refunds(since) => since.run(&config, output).await,
        Command::Ledger(ledger) => ledger.run(&config, output).await,
        Command::Reconcile(reconcile) => reconcile.run(&config, output).await,
        Command::Drill(drill) => drill.run(config, output).await,
        Command::Config(config::ConfigCommand::Show) => config::show(config, output),
        Command::Models(models) => models.run(&config, output),
        Command::Completions { .. } => Ok(End::Ok),
    }
}

/// The commands of the library, for whoever works here; workers are told before the process ends.
async fn commands(config: &Config) -> anyhow::Result<Commands> {
    let pool = database::connect(&config.database_url, 2).await?;
    Ok(Commands::new(pool, Wake::open(config.redis_url.as_deref())?.waiting()))
}

/// Exit code 4 for what is not there; anything else is an error.
fn refused(error: CommandError) -> anyhow::Result<End> {
    if error.is_not_found() {
        say!("error: {error}");
        return Ok(End::NotFound);
    }
    Err(error.into())
}

/// True when these words make a command line: what the documents show is checked with it.
pub fn understands<'a>(words: impl Iterator<Item = &'a str>) -> bool {
    Cli::try_parse_from(std::iter::once("photogate").chain(words)).is_ok()
}
