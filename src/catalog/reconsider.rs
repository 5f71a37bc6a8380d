//! Decides the bib numbers of an event again, when more is known of it: after a new start list, and
//! while photos come in. The service does it beside its requests. It costs no credit, and looks at
//! no photo: what was read is in the database.

use std::{collections::HashMap, time::Duration};

use photogate_jobs::{Bib, Known, Line, Numbering, StartList, Wearer, Worn, reconsider, wearer};
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
/// Time for which an event is taken. A process that dies leaves it to others afterwards.
const LEASE: PgInterval = PgInterval { months: 0, days: 0, microseconds: 600_000_000 };
/// Photos that are read and decided at a time.
const PAGE: i64 = 200;
/// Largest number of faces that are remembered for a number: more photos of one person prove
/// nothing more.
const WORN_MAX: usize = 12;

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
        let taken =
            sqlx::query!("SELECT r_event, r_settled, r_asked FROM take_reconsideration($1)", LEASE);
        let taken = taken.fetch_one(&mut *db).await?;
        let Some(event) = taken.r_event else { return Ok(changed) };
        let photos = of_event(&mut db, EventId(event)).await?;
        if photos > 0 {
            tracing::info!(event, photos, "bib numbers were decided again");
        }
        changed += photos;
        let end = sqlx::query_scalar!(
            r#"SELECT end_reconsideration($1, $2, $3) AS "none""#,
            event,
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
    bibs: Json<Vec<BibBox>>,
    /// A person has corrected the numbers: they stay as they are, and tell about other photos.
    is_corrected: bool,
}

/// Decides the numbers of an event again, with all that is known of it now.
async fn of_event(db: &mut PgConnection, event: EventId) -> sqlx::Result<u64> {
    let known = known(db, event).await?;
    let (mut changed, mut after) = (0, String::new());
    loop {
        let page = page(db, event, &after).await?;
        let Some(last) = page.last() else { return Ok(changed) };
        after.clone_from(&last.key);
        let mut people = people(db, &page).await?;
        let decided: Value = page
            .iter()
            .filter(|seen| !seen.is_corrected)
            .filter_map(|seen| {
                let people = people.remove(&seen.photo).unwrap_or_default();
                let now = again(seen, &people, &known);
                let decided = json!({ "photo": seen.photo, "version": seen.version, "bibs": now });
                (!is_same(&now, &seen.bibs.0)).then_some(decided)
            })
            .collect();
        let written = sqlx::query_scalar!(
            r#"SELECT write_reconsidered($1, $2) AS "photos!""#,
            event.0,
            decided
        );
        changed += u64::from(written.fetch_one(&mut *db).await?.unsigned_abs());
    }
}

/// The numbers of a photo, decided again. A number whose line is not known any more stays: a part of
/// what was read may have been erased.
fn again(seen: &Seen, people: &[Wearer], known: &Known) -> Vec<BibBox> {
    let (photo, lines) = (seen.photo.as_u128(), &seen.lines.0);
    let mut now: Vec<_> =
        reconsider(photo, lines, people, known).into_iter().map(BibBox::from).collect();
    for was in &seen.bibs.0 {
        let has_line = lines.iter().any(|line| was.x == Some(line.x) && was.y == Some(line.y));
        if !has_line && now.iter().all(|bib: &BibBox| bib.number != was.number) {
            now.push(was.clone());
        }
    }
    now
}

/// Whether the numbers, and what decided them, are the same.
fn is_same(now: &[BibBox], before: &[BibBox]) -> bool {
    let told = |bibs: &[BibBox]| {
        let mut all: Vec<_> = bibs
            .iter()
            .map(|bib| {
                (bib.number.clone(), bib.settled_by as u8, bib.was.clone(), bib.score >= SURE)
            })
            .collect();
        all.sort();
        all
    };
    told(now) == told(before)
}

/// What is known of an event.
async fn known(db: &mut PgConnection, event: EventId) -> sqlx::Result<Known> {
    let list = sqlx::query_scalar!("SELECT numbers FROM start_list WHERE event_id = $1", event.0);
    let list = list.fetch_optional(&mut *db).await?.unwrap_or_default();
    let (mut sure, mut worn) = (Vec::new(), HashMap::<String, Vec<Worn>>::new());
    let mut after = String::new();
    loop {
        let page = page(db, event, &after).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.key);
        let people = people(db, &page).await?;
        for seen in &page {
            let people = people.get(&seen.photo).map_or(&[][..], Vec::as_slice);
            for bib in seen.bibs.0.iter().filter(|bib| bib.score >= SURE && is_evidence(bib)) {
                sure.push(bib.number.clone());
                let faces = worn.entry(bib.number.clone()).or_default();
                if let Some(face) = face_of(bib, people).filter(|_| faces.len() < WORN_MAX) {
                    faces.push(Worn { photo: seen.photo.as_u128(), face });
                }
            }
        }
    }
    let numbering = Numbering::learn(sure.iter().map(String::as_str));
    Ok(Known { start_list: StartList::new(list), numbering, worn })
}

/// Whether a number may decide others. One that others have decided may not: a mistake would spread.
fn is_evidence(bib: &BibBox) -> bool {
    match bib.settled_by {
        SettledBy::Reading | SettledBy::StartList | SettledBy::Organiser => true,
        SettledBy::Numbering | SettledBy::Person => false,
    }
}

/// The face of whoever wears a number.
fn face_of(bib: &BibBox, people: &[Wearer]) -> Option<Vec<f32>> {
    let index = wearer(bib.x?, bib.y?, bib.width?, bib.height?, people)?;
    people[index].face.clone()
}

/// The next photos of an event on which a line was read, in the order of their keys.
async fn page(db: &mut PgConnection, event: EventId, after: &str) -> sqlx::Result<Vec<Seen>> {
    sqlx::query_as!(
        Seen,
        r#"SELECT p.photo_id AS photo, p.key, l.lines AS "lines: _", l.xmin::text AS "version!",
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
    .fetch_all(db)
    .await
}

/// The faces of these photos.
async fn people(db: &mut PgConnection, page: &[Seen]) -> sqlx::Result<HashMap<Uuid, Vec<Wearer>>> {
    let photos: Vec<_> = page.iter().map(|seen| seen.photo).collect();
    let faces = sqlx::query!(
        "SELECT photo_id, x, y, width, height, embedding FROM face WHERE photo_id = ANY ($1)",
        &photos
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
