//! Verifies an archive: its files are as they were written, and what is in them is what the ledger
//! says.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::PgConnection;

use super::{ArchiveError, Archivist, Row, State, manifest, part, seal};
use crate::{
    catalog::{key::Key, photo_store::StoreError},
    ids::{ArchiveId, EventId},
};

/// Jobs that are compared with the ledger at a time.
const JOBS: usize = 5_000;
/// The most that is said of one archive.
const SAID_MAX: usize = 20;

/// What the signature of a manifest says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Signature {
    /// Our key has signed it.
    Good,
    /// It has none.
    None,
    /// It has one, and there is no key to compare it with.
    Unchecked,
    /// Our key has not signed it.
    Bad,
}

impl Signature {
    /// The name, as programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::None => "none",
            Self::Unchecked => "unchecked",
            Self::Bad => "bad",
        }
    }
}

/// What a verification has found.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    /// The archive.
    pub archive: ArchiveId,
    /// Its event.
    pub event: EventId,
    /// The parts that were read.
    pub parts: usize,
    /// The photos in them.
    pub photos: i64,
    /// The jobs in them.
    pub jobs: i64,
    /// Jobs whose credit was spent, in the archive and in the ledger.
    pub committed: i64,
    /// Jobs whose credit was given back, in the archive and in the ledger.
    pub refunded: i64,
    /// What the signature says.
    pub signature: Signature,
    /// What is wrong; empty if all is right.
    pub broken: Vec<String>,
    /// Files are missing, or are not as they were written. False: what is wrong is what they say beside
    /// the ledger.
    #[serde(skip)]
    pub is_damaged: bool,
}

/// Jobs that are to be compared with the ledger: whether each was committed, `None`: it did not end.
type Ends = Vec<(i64, Option<bool>)>;

impl Archivist {
    /// Verifies an archive whose files are needed, and notes what it has found. `seen` is told of each
    /// part.
    ///
    /// # Errors
    /// When the database or the store has trouble. Damage is a result.
    pub async fn verify(
        &self,
        archive: ArchiveId,
        seen: &mut (dyn FnMut(usize) + Send),
    ) -> Result<Verified, ArchiveError> {
        let mut db = self.pool.acquire().await?;
        let row = Row::read(&mut db, archive).await?;
        let noted = manifest::of(&mut db, &row).await?;
        let queues = queues(&mut db, archive).await?;
        let mut verified = Verified {
            archive,
            event: row.event,
            parts: 0,
            photos: 0,
            jobs: 0,
            committed: 0,
            refunded: 0,
            signature: Signature::None,
            broken: Vec::new(),
            is_damaged: false,
        };
        self.manifest(&row, &noted, &mut verified).await?;
        let mut found: BTreeMap<i64, Counts> = BTreeMap::new();
        for part in &noted.parts {
            let file = match self.part(&row, part).await {
                Ok(file) => file,
                Err(ArchiveError::Damaged { what, .. }) => {
                    verified.damages(what);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Err(error) = read(&mut db, &row, part, &file, &mut verified, &mut found).await? {
                verified.damages(format!("part {}: {error}", part.number));
            }
            verified.parts += 1;
            seen(verified.parts);
        }
        if row.manifest.is_some() && row.state != State::Restored && found != queues {
            verified.breaks("its outcomes are not as many as its queues have counted".into());
        }
        let damage = verified.broken.first();
        sqlx::query!("SELECT archive_is_verified($1, $2)", archive.0, damage)
            .execute(&mut *db)
            .await?;
        Ok(verified)
    }

    /// Compares the manifest in the store with what the database knows of it.
    async fn manifest(
        &self,
        row: &Row,
        noted: &manifest::Manifest,
        verified: &mut Verified,
    ) -> Result<(), ArchiveError> {
        let Some(sha256) = &row.manifest else { return Ok(()) };
        let key = Key::archive_manifest(row.directory, sha256, "json");
        let file = match self.file(row, &key, sha256).await {
            Ok(file) => file,
            Err(ArchiveError::Damaged { what, .. }) => {
                verified.damages(what);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        match serde_json::from_slice::<manifest::Manifest>(&file) {
            Ok(manifest) if manifest == *noted => {}
            Ok(_) => verified.damages(format!("{key} does not say what the database knows")),
            Err(error) => verified.damages(format!("{key} cannot be read: {error}")),
        }
        let sig = Key::archive_manifest(row.directory, sha256, "json.sig");
        verified.signature = match (self.store.get(&sig, manifest::FILE_MAX).await, &self.key) {
            (Err(StoreError::Missing(_)), _) => Signature::None,
            (Err(error), _) => return Err(error.into()),
            (Ok(_), None) => Signature::Unchecked,
            (Ok(signed), Some(key)) => match serde_json::from_slice::<seal::Signed>(&signed) {
                Ok(signed) if key.has_signed(&file, &signed) => Signature::Good,
                Ok(_) | Err(_) => Signature::Bad,
            },
        };
        Ok(())
    }
}

impl Verified {
    fn damages(&mut self, what: String) {
        self.is_damaged = true;
        self.breaks(what);
    }

    fn breaks(&mut self, what: String) {
        if self.broken.len() < SAID_MAX {
            self.broken.push(what);
        }
    }
}

/// Counts of a queue.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    jobs: i64,
    committed: i64,
    refunded: i64,
}

/// What the queues had counted when their event was archived; those with jobs.
async fn queues(db: &mut PgConnection, archive: ArchiveId) -> sqlx::Result<BTreeMap<i64, Counts>> {
    let rows = sqlx::query!(
        "SELECT queue_id, jobs, committed, refunded FROM archive_queue
         WHERE archive_id = $1 AND jobs > 0",
        archive.0
    )
    .fetch_all(db)
    .await?;
    let counts = rows.into_iter().map(|row| {
        let counts = Counts { jobs: row.jobs, committed: row.committed, refunded: row.refunded };
        (row.queue_id, counts)
    });
    Ok(counts.collect())
}

/// Reads a part, and compares its jobs with the ledger.
async fn read(
    db: &mut PgConnection,
    row: &Row,
    part: &manifest::Part,
    file: &[u8],
    verified: &mut Verified,
    found: &mut BTreeMap<i64, Counts>,
) -> Result<std::io::Result<()>, ArchiveError> {
    let lines = match part::lines(file, part.text_bytes) {
        Ok(lines) => lines,
        Err(error) => return Ok(Err(error)),
    };
    let (mut count, mut ends) = (0, Ends::new());
    for line in lines {
        let line = match line.and_then(|line| part::Line::parse(&line)) {
            Ok(line) => line,
            Err(error) => return Ok(Err(error)),
        };
        count += 1;
        verified.photos += i64::from(line.photo.is_some());
        for job in line.jobs {
            let counts = found.entry(job.queue).or_default();
            let end = job.outcome.map(|outcome| outcome.is_committed());
            counts.jobs += 1;
            counts.committed += i64::from(end == Some(true));
            counts.refunded += i64::from(end == Some(false));
            verified.jobs += 1;
            verified.committed += i64::from(end == Some(true));
            verified.refunded += i64::from(end == Some(false));
            ends.push((job.id, end));
        }
        if ends.len() >= JOBS {
            compare(db, row, std::mem::take(&mut ends), verified).await?;
        }
    }
    compare(db, row, ends, verified).await?;
    if count != part.lines {
        verified.breaks(format!("part {} has {count} lines, not {}", part.number, part.lines));
    }
    Ok(Ok(()))
}

/// Compares jobs with the ledger: each that ended was reserved, and committed or refunded as the
/// archive says; any other was never reserved.
async fn compare(
    db: &mut PgConnection,
    row: &Row,
    ends: Ends,
    verified: &mut Verified,
) -> Result<(), ArchiveError> {
    let (jobs, ends): (Vec<i64>, Vec<Option<bool>>) = ends.into_iter().unzip();
    let wrong = sqlx::query!(
        r#"SELECT u.job AS "job!", u.committed,
                  (SELECT l.movement::text FROM ledger l
                   WHERE l.transaction_id = u.job AND l.leg = 1
                     AND l.organisation_id + 0 = $3 LIMIT 1) AS closed
           FROM unnest($1::bigint[], $2::boolean[]) u (job, committed)
           WHERE (SELECT l.movement FROM ledger l WHERE l.transaction_id = u.job AND l.leg = 0
                    AND l.organisation_id + 0 = $3 LIMIT 1)
                 IS DISTINCT FROM CASE WHEN u.committed IS NOT NULL THEN 'reserve'::movement END
              OR (SELECT l.movement FROM ledger l WHERE l.transaction_id = u.job AND l.leg = 1
                    AND l.organisation_id + 0 = $3 LIMIT 1)
                 IS DISTINCT FROM CASE u.committed WHEN true THEN 'commit'::movement
                                                   WHEN false THEN 'refund'::movement END
           LIMIT 20"#,
        &jobs,
        &ends as &[Option<bool>],
        row.organisation.0
    )
    .fetch_all(db)
    .await?;
    for row in wrong {
        let said = match row.committed {
            Some(true) => "was processed",
            Some(false) => "was refunded",
            None => "did not end",
        };
        let ledger = row.closed.unwrap_or_else(|| "nothing".into());
        verified
            .breaks(format!("job {} {said} in the archive, and the ledger says {ledger}", row.job));
    }
    Ok(())
}
