//! Decides the bib numbers of an event again, when more is known of it: after a new start list, and
//! while photos come in. The service does it beside its requests. It costs no credit, and looks at
//! no photo: what was read is in the database.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use photogate_jobs::{
    Bib, Known, Line, Numbering, StartList, Wearer, Worn, bibs, may_be, reconsider, wearer,
};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool, postgres::types::PgInterval, types::Json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    findings::embeddings,
    photos::{BibBox, SURE, SettledBy},
};
use crate::ids::EventId;

/// How often the service looks for events that are due.
const EVERY: Duration = Duration::from_secs(5);
/// Time for which an event is taken; each page takes it anew. A process that dies leaves it to
/// others afterwards.
const LEASE: PgInterval = PgInterval { months: 0, days: 0, microseconds: 120_000_000 };
/// Photos that are read and decided at a time. What a hostile photo may say is 300 KB.
const PAGE: i64 = 50;
/// Largest number of faces that are remembered for a number: more photos of one person prove
/// nothing more.
const WORN_MAX: usize = 12;
/// Largest number of faces that are remembered: 30 MB.
const FACES_MAX: usize = 50_000;
/// Largest number of different numbers that are remembered.
const NUMBERS_MAX: usize = 100_000;

/// Decides the numbers of events again when they are due, until stopped.
pub async fn when_due(pool: PgPool, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        if let Some(Err(error)) = stop.run_until_cancelled(all_due(&pool)).await {
            tracing::warn!(%error, "bib numbers could not be decided again yet");
        }
    }
}

/// Decides the numbers of all events again that are due. Returns how many photos have changed.
///
/// # Errors
/// When the database has trouble. The event is taken up again later.
pub async fn all_due(pool: &PgPool) -> sqlx::Result<u64> {
    let mut changed = 0;
    let mut db = pool.acquire().await?;
    loop {
        let taken = sqlx::query!(
            "SELECT r_event, r_settled, r_asked, r_began FROM take_reconsideration($1)",
            LEASE
        );
        let taken = taken.fetch_one(&mut *db).await?;
        let (Some(event), Some(began)) = (taken.r_event, taken.r_began) else {
            return Ok(changed);
        };
        let photos = of_event(&mut db, EventId(event), began).await?;
        if photos > 0 {
            tracing::info!(event, photos, "bib numbers were decided again");
        }
        changed += photos;
        let end = sqlx::query_scalar!(
            r#"SELECT end_reconsideration($1, $2, $3, $4) AS "none""#,
            event,
            began,
            taken.r_settled,
            taken.r_asked
        );
        end.fetch_one(&mut *db).await?;
    }
}

/// A photo, as far as it is needed here.
struct Seen {
    photo: Uuid,
    key: String,
    lines: Json<Vec<Line>>,
    /// Another one, as soon as the lines change.
    version: String,
    /// By how much the photo was turned to look at it.
    turn: i16,
    bibs: Json<Vec<BibBox>>,
    /// A person has corrected the numbers: they stay as they are, and tell about other photos.
    is_corrected: bool,
}

/// What is known of an event, and which numbers are erased from it.
struct Event {
    known: Known,
    erased: HashSet<String>,
}

/// Photos with their faces.
type Page = Vec<(Seen, Vec<Wearer>)>;

/// Decides the numbers of an event again, with all that is known of it now.
async fn of_event(
    db: &mut PgConnection,
    event: EventId,
    began: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let known = Arc::new(known(db, event).await?);
    let (mut changed, mut after) = (0, String::new());
    loop {
        let page = page(db, event, &after).await?;
        let Some((last, _)) = page.last() else { return Ok(changed) };
        after.clone_from(&last.key);
        let known = known.clone();
        let decided = apart(move || decided(&page, &known)).await?;
        let written = sqlx::query_scalar!(
            "SELECT write_reconsidered($1, $2, $3, $4)",
            event.0,
            began,
            LEASE,
            decided
        );
        // Somebody else has it, or what was known is not so any more.
        let Some(photos) = written.fetch_one(&mut *db).await? else { return Ok(changed) };
        changed += u64::from(photos.unsigned_abs());
    }
}

/// Computes something beside the requests, on a thread of its own.
async fn apart<T: Send + 'static>(compute: impl FnOnce() -> T + Send + 'static) -> sqlx::Result<T> {
    let computed = tokio::task::spawn_blocking(compute).await;
    computed.map_err(|error| io::Error::other(error).into())
}

/// What changes on the photos of a page, as the database takes it.
fn decided(page: &Page, event: &Event) -> Value {
    page.iter().filter_map(|(seen, people)| again(seen, people, event)).collect()
}

/// What changes on a photo. A number whose line is not known any more stays: a part of what was
/// read may have been erased.
fn again(seen: &Seen, people: &[Wearer], event: &Event) -> Option<Value> {
    let (lines, gone): (Vec<_>, Vec<_>) = seen.lines.0.iter().cloned().partition(|line| {
        event.erased.is_empty()
            || may_be(line, &event.known.start_list)
                .iter()
                .all(|number| !event.erased.contains(number))
    });
    let mut now: Vec<_> = reconsider(seen.photo.as_u128(), &lines, people, &event.known)
        .into_iter()
        .map(BibBox::from)
        .collect();
    for was in &seen.bibs.0 {
        let has_line = lines.iter().any(|line| was.x == Some(line.x) && was.y == Some(line.y));
        if !has_line && now.iter().all(|bib| bib.number != was.number) {
            now.push(was.clone());
        }
    }
    let changes = !seen.is_corrected && !is_same(&now, &seen.bibs.0);
    let mut decided = json!({ "photo": seen.photo, "version": seen.version, "bibs": now });
    if !gone.is_empty() {
        decided["lines"] = json!(lines);
    }
    (changes || !gone.is_empty()).then_some(decided)
}

/// Whether the numbers, and what decided them, are the same.
fn is_same(now: &[BibBox], before: &[BibBox]) -> bool {
    let told = |bibs: &[BibBox]| {
        let one = |bib: &BibBox| {
            (bib.number.clone(), bib.settled_by as u8, bib.was.clone(), bib.score >= SURE)
        };
        bibs.iter().map(one).collect::<BTreeSet<_>>()
    };
    told(now) == told(before)
}

/// What is known of an event.
async fn known(db: &mut PgConnection, event: EventId) -> sqlx::Result<Event> {
    let list = sqlx::query_scalar!("SELECT numbers FROM start_list WHERE event_id = $1", event.0);
    let list = list.fetch_optional(&mut *db).await?.unwrap_or_default();
    let erased = sqlx::query_scalar!("SELECT number FROM erased_bib WHERE event_id = $1", event.0);
    let erased = erased.fetch_all(&mut *db).await?.into_iter().collect();
    let mut evidence = Evidence {
        list: StartList::new(list),
        sure: BTreeSet::new(),
        worn: HashMap::new(),
        faces: 0,
    };
    let mut after = String::new();
    loop {
        let page = page(db, event, &after).await?;
        let Some((last, _)) = page.last() else { break };
        after.clone_from(&last.key);
        evidence = apart(move || {
            for (seen, people) in &page {
                evidence.add(seen, people);
            }
            evidence
        })
        .await?;
    }
    let Evidence { list: start_list, sure, worn, .. } = evidence;
    let numbering = Numbering::learn(sure.iter().map(String::as_str));
    Ok(Event { known: Known { start_list, numbering, worn }, erased })
}

/// The numbers of an event that are sure, and who wears them.
struct Evidence {
    list: StartList,
    sure: BTreeSet<String>,
    worn: HashMap<String, Vec<Worn>>,
    /// How many faces `worn` has.
    faces: usize,
}

impl Evidence {
    /// Adds the numbers of a photo that its readings, the start list or a person have decided. What
    /// other numbers have decided proves nothing: a mistake would spread.
    fn add(&mut self, seen: &Seen, people: &[Wearer]) {
        let read = if seen.is_corrected { Vec::new() } else { bibs(&seen.lines.0, &self.list) };
        let told = seen.bibs.0.iter().filter(|bib| bib.settled_by == SettledBy::Organiser).cloned();
        let sure = read.into_iter().map(BibBox::from).filter(|bib| bib.sure).chain(told);
        for bib in sure {
            let face = face_of(&bib, people);
            if self.sure.len() < NUMBERS_MAX {
                self.sure.insert(bib.number.clone());
            }
            if let Some(face) = face.filter(|_| self.faces < FACES_MAX) {
                let worn = self.worn.entry(bib.number).or_default();
                if worn.len() < WORN_MAX {
                    worn.push(Worn { photo: seen.photo.as_u128(), face });
                    self.faces += 1;
                }
            }
        }
    }
}

/// The face of whoever wears a number.
fn face_of(bib: &BibBox, people: &[Wearer]) -> Option<Vec<f32>> {
    let index = wearer(bib.x?, bib.y?, bib.width?, bib.height?, people)?;
    people[index].face.clone()
}

/// The next photos of an event on which a line was read, in the order of their keys, with the faces
/// on them.
async fn page(db: &mut PgConnection, event: EventId, after: &str) -> sqlx::Result<Page> {
    let seen = sqlx::query_as!(
        Seen,
        r#"SELECT p.photo_id AS photo, p.key, l.lines AS "lines: _", l.xmin::text AS "version!",
                  l.looked_turn AS turn,
                  coalesce((SELECT jsonb_agg(jsonb_build_object(
                                'number', b.number, 'x', b.x, 'y', b.y, 'width', b.width,
                                'height', b.height, 'score', b.score, 'sure', b.score >= $4,
                                'settled_by', b.settled_by, 'was', b.was))
                            FROM bib b WHERE b.photo_id = p.photo_id), '[]') AS "bibs!: _",
                  EXISTS (SELECT FROM number_correction c WHERE c.photo_id = p.photo_id)
                      AS "is_corrected!"
           FROM photo p JOIN looked_at l USING (photo_id)
           WHERE p.event_id = $1 AND p.key > $2 AND l.lines <> '[]'
           ORDER BY p.key LIMIT $3"#,
        event.0,
        after,
        PAGE,
        SURE
    )
    .fetch_all(&mut *db)
    .await?;
    let mut people = people(db, event, &seen).await?;
    // Where a photo was turned to look at it, what is below a face is not below it here.
    let of = |seen: Seen| {
        let people = people.remove(&seen.photo).filter(|_| seen.turn == 0);
        (seen, people.unwrap_or_default())
    };
    Ok(seen.into_iter().map(of).collect())
}

/// The faces on these photos, with embeddings while the event's face search is on.
async fn people(
    db: &mut PgConnection,
    event: EventId,
    page: &[Seen],
) -> sqlx::Result<HashMap<Uuid, Vec<Wearer>>> {
    let photos: Vec<_> = page.iter().map(|seen| seen.photo).collect();
    let faces = sqlx::query!(
        r#"SELECT f.photo_id, f.x, f.y, f.width, f.height,
                  CASE WHEN e.face_search THEN f.embedding END AS embedding
           FROM face f CROSS JOIN event e
           WHERE f.photo_id = ANY ($1) AND e.event_id = $2 AND e.deleted_at IS NULL"#,
        &photos,
        event.0
    )
    .fetch_all(db)
    .await?;
    let mut people: HashMap<Uuid, Vec<Wearer>> = HashMap::new();
    for face in faces {
        people.entry(face.photo_id).or_default().push(Wearer {
            x: face.x,
            y: face.y,
            width: face.width,
            height: face.height,
            face: face.embedding.as_deref().map(embeddings::unpacked),
        });
    }
    Ok(people)
}

impl From<Bib> for BibBox {
    fn from(bib: Bib) -> Self {
        let Bib { number, score, settled_by, was, x, y, width, height } = bib;
        Self {
            number,
            x: Some(x),
            y: Some(y),
            width: Some(width),
            height: Some(height),
            score,
            sure: score >= SURE,
            settled_by: match settled_by {
                photogate_jobs::SettledBy::Reading => SettledBy::Reading,
                photogate_jobs::SettledBy::StartList => SettledBy::StartList,
                photogate_jobs::SettledBy::Numbering => SettledBy::Numbering,
                photogate_jobs::SettledBy::Person => SettledBy::Person,
            },
            was,
        }
    }
}
