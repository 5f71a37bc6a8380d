//! `photogate archive …`: packs old events into the photo store, and restores them.

use indicatif::HumanBytes;
use serde_json::json;

use super::{End, Output, say};
use crate::{
    access::Caller,
    catalog::{
        archive::{self, Archive, Archivist, Signature, State, Verified, Which},
        away,
    },
    commands::Commands,
    config::Config,
    database,
    ids::{ArchiveId, EventId, OrganisationId},
    notify::wake::Wake,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum ArchiveCommand {
    /// Archives an event now, whenever something moved in it last
    #[command(after_help = "Needs: PostgreSQL (--database-url) and the photo store (--store-url).

Nothing may wait or be in progress, and no schedule. Its ledger, its history and its photos' keys
stay. What was found on its photos is not searched any more, and nothing is queued or changed, until
`photogate archive restore`. If this is interrupted, the service or the same command goes on.

Example:
  photogate archive event 1 --actor anna@example.org")]
    Event {
        /// The event's number
        event: EventId,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Archives the events in which nothing has moved for `archive_after_months`
    #[command(after_help = "Needs: PostgreSQL (--database-url) and the photo store (--store-url).

The service does this once a day by itself, if the setting archive_after_months is not 0.")]
    Due {
        /// Months in which nothing has moved, 1 to 1200 [default: the setting `archive_after_months`]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1200))]
        months: Option<u32>,
        /// Only list the events that are due, at most 20
        #[arg(long)]
        list: bool,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Lists archives, newest first
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    List {
        /// Only archives of this event, by number [default: all]
        #[arg(long)]
        event: Option<EventId>,
    },
    /// Reads an archive, and compares it with what was written and with the ledger
    #[command(after_help = "Needs: PostgreSQL (--database-url) and the photo store (--store-url).

Exits with 3 if the archive is damaged, says something else than the ledger, or has another key's
signature.")]
    Verify {
        /// The event's number
        event: EventId,
    },
    /// Restores an archived event: its rows are in the database again, as they were
    #[command(after_help = "Needs: PostgreSQL (--database-url) and the photo store (--store-url).

The archive is verified first; nothing is restored from one that is damaged. Whoever asked to be
erased meanwhile is not restored. If this is interrupted, the service or the same command goes on.

Example:
  photogate archive restore 1 --actor anna@example.org")]
    Restore {
        /// The event's number
        event: EventId,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Gives an archive up that is lost or damaged, so that erasures do not wait for it for ever
    #[command(after_help = "Needs: PostgreSQL (--database-url) and the photo store (--store-url).

The archive is verified first; one that is intact is not given up. What was found on the event's
photos, and their receipts, are lost for ever: look for the files in a backup of the store first.
What is left of them is deleted, here and in the store, and erasures that waited are done. No credit
moves: the ledger, its chain, statements and the history stay, and `photogate reconcile` still
checks them. If this is interrupted, the service or the same command goes on.

Example:
  photogate archive give-up 1 --reason 'disk 3 burnt' --actor anna@example.org --yes")]
    GiveUp {
        /// The event's number
        event: EventId,
        /// Why, for the audit log and those who run photogate
        #[arg(long)]
        reason: String,
        /// Confirm: without this flag nothing is given up
        #[arg(long)]
        yes: bool,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
}

/// Gives an archive up that is lost or damaged; without --yes, it only says what would be lost.
struct GiveUp {
    event: EventId,
    reason: String,
    yes: bool,
    actor: String,
}

impl GiveUp {
    async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let Self { event, reason, yes, actor } = self;
        let pool = database::connect(&config.database_url, 2).await?;
        let commands = Commands::new(pool.clone(), Wake::open(None)?);
        let archivist = Archivist::open(config, pool.clone())?;
        // A store that is not there, or another one, must not look like one that has lost its files.
        archivist.must_have_a_store().await?;
        let standing = archive::of_event(&mut *pool.acquire().await?, event).await?;
        let has_files = standing.filter(|one| one.manifest.is_some() && one.given_up_at.is_none());
        if let Some(one) = has_files {
            let verified = archivist.verify(one.id, &mut |_| {}).await?;
            say!("{}", sentence(&verified));
            anyhow::ensure!(
                !verified.broken.is_empty(),
                "it is intact: restore it with `photogate archive restore {event}`"
            );
            anyhow::ensure!(
                verified.is_damaged,
                "its files are as they were written, and do not say what the ledger says: keep them as \
                 evidence, and run `photogate reconcile`"
            );
            anyhow::ensure!(
                verified.parts > 0 || archivist.store_has_files().await?,
                "the store {} has no file at all: is it the right one, and is it mounted?",
                config.store_url
            );
            anyhow::ensure!(
                yes,
                "what was found on the {} photos of event {event} and their receipts would be lost \
                 for ever, and so would what is left of them in the store. If the store is the right \
                 one ({}), and no backup has the files, confirm with --yes",
                one.photos,
                config.store_url
            );
        }
        let caller = Caller::trusted(&actor);
        let id = match commands.give_up_archive(&caller, event, &reason).await {
            Ok(archive) => archive,
            Err(error) => return super::refused(error),
        };
        let state = archivist.go_on(id).await?;
        ended(event, id, state, State::GivenUp, output)
    }
}

/// Says which archives were given up: their outcomes cannot be compared with the ledger.
pub(super) async fn say_given_up(
    config: &Config,
    organisation: Option<OrganisationId>,
) -> anyhow::Result<()> {
    let pool = database::connect(&config.database_url, 1).await?;
    let which = Which { organisation, ..Which::default() };
    for one in archive::list(&mut *pool.acquire().await?, which, i64::MAX).await? {
        if let (Some(by), Some(at)) = (&one.given_up_by, one.given_up_at) {
            say!(
                "warning: {by} gave archive {} of event {} up on {}: the ledger has its {} credits spent \
                 and {} given back, and what they were for is lost",
                one.id,
                one.event,
                at.format("%Y-%m-%d"),
                one.committed,
                one.refunded
            );
        }
    }
    Ok(())
}

impl ArchiveCommand {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 2).await?;
        let commands = Commands::new(pool.clone(), Wake::open(None)?);
        match self {
            Self::Event { event, actor } => {
                let archivist = Archivist::open(config, pool.clone())?;
                let standing = archive::of_event(&mut *pool.acquire().await?, event).await?;
                archivist.must_have_a_store().await?;
                // One that was interrupted goes on.
                let id = match standing.filter(|archive| archive.state.is_on_its_way()) {
                    Some(archive) => archive.id,
                    None => {
                        match commands.archive_event(&Caller::trusted(&actor), event, None).await {
                            Ok(archive) => archive,
                            Err(error) => return super::refused(error),
                        }
                    }
                };
                let state = archivist.go_on(id).await?;
                ended(event, id, state, State::Archived, output)
            }
            Self::Restore { event, actor } => {
                let archivist = Archivist::open(config, pool.clone())?;
                let standing = archive::of_event(&mut *pool.acquire().await?, event).await?;
                let has_files = |one: &Archive| one.manifest.is_some() && one.given_up_at.is_none();
                if let Some(standing) = standing.filter(has_files) {
                    let verified = archivist.verify(standing.id, &mut |_| {}).await?;
                    if !verified.broken.is_empty() {
                        say!("{}", sentence(&verified));
                        return Ok(End::BooksDoNotBalance);
                    }
                }
                let id = match commands.restore_event(&Caller::trusted(&actor), event).await {
                    Ok(archive) => archive,
                    Err(error) => return super::refused(error),
                };
                let state = archivist.go_on(id).await?;
                ended(event, id, state, State::Restored, output)
            }
            Self::GiveUp { event, reason, yes, actor } => {
                GiveUp { event, reason, yes, actor }.run(config, output).await
            }
            Self::Due { months, list, actor } => {
                let months = months.unwrap_or(config.archive_after_months);
                if months == 0 {
                    anyhow::bail!("set archive_after_months, or say how many with --months");
                }
                if list {
                    let due = archive::due(&pool, archive::before(&pool, months).await?).await?;
                    output.rows(&due, &["Event"], |event| vec![event.to_string()])?;
                    return Ok(End::Ok);
                }
                let archivist = Archivist::open(config, pool)?;
                let mut archived = 0;
                while archivist.archive_a_due_one(months, &actor).await?.is_some() {
                    archived += 1;
                }
                output.one(&json!({ "archived": archived }), |out| {
                    writeln!(out, "{archived} events were archived")
                })?;
                Ok(End::Ok)
            }
            // All of them: what is not named here may be taken for what nobody needs.
            Self::List { event } => {
                let which = Which { event, ..Which::default() };
                let found = archive::list(&mut *pool.acquire().await?, which, i64::MAX).await?;
                let header =
                    ["Archive", "Event", "State", "Since", "Photos", "Credits spent", "Size"];
                output.rows(&found, &header, row)?;
                for (archive, trouble) in
                    found.iter().filter_map(|one| Some((one.id, one.trouble.as_ref()?)))
                {
                    say!("warning: archive {archive} could not go on: {trouble}");
                }
                Ok(End::Ok)
            }
            Self::Verify { event } => {
                let verified = verify_standing(config, None, Some(event)).await?;
                let Some(verified) = verified.first() else {
                    away::since(&mut *pool.acquire().await?, event).await?;
                    say!("error: the event {event} is not archived");
                    return Ok(End::NotFound);
                };
                output.one(verified, |out| writeln!(out, "{}", sentence(verified)))?;
                let is_ours = verified.signature != Signature::Bad;
                let is_good = verified.broken.is_empty() && is_ours;
                Ok(if is_good { End::Ok } else { End::BooksDoNotBalance })
            }
        }
    }
}

fn row(one: &Archive) -> Vec<String> {
    vec![
        one.id.to_string(),
        one.event.to_string(),
        one.state.name().into(),
        one.archived_at.unwrap_or(one.began_at).format("%Y-%m-%d %H:%M:%S").to_string(),
        one.photos.to_string(),
        one.committed.to_string(),
        HumanBytes(one.bytes.unsigned_abs()).to_string(),
    ]
}

/// Says how it ended. It is no success if somebody else has it, or has stopped it.
fn ended(
    event: EventId,
    id: ArchiveId,
    state: State,
    wanted: State,
    output: Output,
) -> anyhow::Result<End> {
    let json = json!({ "event": event, "archive": id, "state": state });
    output.one(&json, |out| writeln!(out, "Archive {id} of event {event}: {}", state.name()))?;
    match state {
        _ if state == wanted => Ok(End::Ok),
        State::Stopped if wanted == State::Restored => Ok(End::Ok),
        State::Packing | State::Deleting | State::Restoring | State::GivingUp => {
            say!(
                "error: another process has it, or it waits after trouble: look with `photogate archive list`"
            );
            Ok(End::Failed)
        }
        State::Archived | State::Restored | State::Stopped | State::GivenUp => {
            say!("error: somebody else has stopped this: look with `photogate archive list`");
            Ok(End::Failed)
        }
    }
}

/// Verifies the archives that stand: of one event, of one organisation, or all.
pub(super) async fn verify_standing(
    config: &Config,
    organisation: Option<OrganisationId>,
    event: Option<EventId>,
) -> anyhow::Result<Vec<Verified>> {
    let pool = database::connect(&config.database_url, 2).await?;
    let standing = archive::standing(&mut *pool.acquire().await?, organisation, event).await?;
    if standing.is_empty() {
        return Ok(Vec::new());
    }
    let archivist = Archivist::open(config, pool)?;
    let mut all = Vec::new();
    for id in standing {
        all.push(archivist.verify(id, &mut |_| {}).await?);
    }
    Ok(all)
}

/// What a verification has found, in a sentence, or one for each thing that is wrong.
pub(super) fn sentence(one: &Verified) -> String {
    if !one.broken.is_empty() {
        let say = |what: &String| {
            format!("error: archive {} of event {} is damaged: {what}", one.archive, one.event)
        };
        return one.broken.iter().map(say).collect::<Vec<_>>().join("\n");
    }
    let signature = match one.signature {
        Signature::Good => "signed by our key",
        Signature::None => "not signed",
        Signature::Unchecked => "signed, and not checked, because archive_key is not set",
        Signature::Bad => "not signed by our key",
    };
    format!(
        "Archive {} of event {} is intact: {} photos in {} parts, {} credits spent and {} given back, \
         as the ledger says; {signature}.",
        one.archive, one.event, one.photos, one.parts, one.committed, one.refunded
    )
}
