//! What processing has found on the photos of an event, in numbers: what the credits have bought.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{away, photos::SURE};
use crate::ids::EventId;

/// What was found on the photos of an event. All values are counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = QualityReport)]
pub struct Report {
    /// Photos on which Photo Processing has looked for faces and numbers.
    pub photos: i64,
    /// Of these, photos with at least one sure bib number.
    pub with_sure_number: i64,
    /// Photos with bib numbers of which none is sure: these are worth a look.
    pub with_unsure_number: i64,
    /// Photos without a bib number.
    pub without_number: i64,
    /// Photos on which nothing was found, neither a face nor a number, and of which AI Rotation does
    /// not know which way is up. Those that lie on their side can be read after AI Rotation.
    pub maybe_sideways: i64,
    /// Photos with at least one face.
    pub with_face: i64,
    /// Faces on all photos.
    pub faces: i64,
    /// Bib numbers on all photos; one number on two photos counts twice.
    pub numbers: i64,
    /// Of these, numbers that are sure.
    pub sure_numbers: i64,
    /// Different bib numbers.
    pub different_numbers: i64,
    /// Numbers that the start list decided.
    pub settled_by_start_list: i64,
    /// Numbers that were decided by how the event's other numbers look.
    pub settled_by_numbering: i64,
    /// Numbers that the same person wears on another photo.
    pub settled_by_person: i64,
    /// Numbers that a person has corrected or confirmed.
    pub settled_by_organiser: i64,
    /// Photos whose turn AI Rotation has looked for.
    pub rotation_photos: i64,
    /// Of these, photos that were turned.
    pub turned: i64,
    /// Photos that were upright.
    pub upright: i64,
    /// Photos of which AI Rotation was not sure: they stay as they are.
    pub undecided: i64,
}

/// Counts what was found on the photos of an event.
///
/// # Errors
/// `PG011` if the event is archived, or trouble with the database.
pub async fn report(db: &mut PgConnection, event: EventId) -> sqlx::Result<Report> {
    away::must_be_here(db, event).await?;
    let report = sqlx::query_as!(
        Report,
        r#"WITH seen AS MATERIALIZED (
               SELECT p.photo_id, l.photo_id IS NOT NULL AS looked_at, r.turn, r.abstained
               FROM photo p LEFT JOIN looked_at l USING (photo_id) LEFT JOIN rotation r USING (photo_id)
               WHERE p.event_id = $1),
           numbers AS MATERIALIZED (
               SELECT b.photo_id, b.number, b.settled_by, b.score >= $2 AS sure
               FROM seen JOIN bib b USING (photo_id)),
           by_photo AS (SELECT photo_id, bool_or(sure) AS sure FROM numbers GROUP BY photo_id),
           faces AS (SELECT photo_id, count(*) AS n FROM seen JOIN face f USING (photo_id) GROUP BY photo_id)
           SELECT count(*) FILTER (WHERE s.looked_at) AS "photos!",
                  count(*) FILTER (WHERE b.sure) AS "with_sure_number!",
                  count(*) FILTER (WHERE NOT b.sure) AS "with_unsure_number!",
                  count(*) FILTER (WHERE s.looked_at AND b.photo_id IS NULL) AS "without_number!",
                  count(*) FILTER (WHERE s.looked_at AND b.photo_id IS NULL AND f.n IS NULL
                                         AND s.abstained IS NULL) AS "maybe_sideways!",
                  count(f.n) AS "with_face!",
                  coalesce(sum(f.n), 0)::bigint AS "faces!",
                  (SELECT count(*) FROM numbers) AS "numbers!",
                  (SELECT count(*) FROM numbers WHERE sure) AS "sure_numbers!",
                  (SELECT count(DISTINCT number) FROM numbers) AS "different_numbers!",
                  (SELECT count(*) FROM numbers WHERE settled_by = 'start_list') AS "settled_by_start_list!",
                  (SELECT count(*) FROM numbers WHERE settled_by = 'numbering') AS "settled_by_numbering!",
                  (SELECT count(*) FROM numbers WHERE settled_by = 'person') AS "settled_by_person!",
                  (SELECT count(*) FROM numbers WHERE settled_by = 'organiser') AS "settled_by_organiser!",
                  count(*) FILTER (WHERE s.abstained IS NOT NULL) AS "rotation_photos!",
                  count(*) FILTER (WHERE NOT s.abstained AND s.turn <> 0) AS "turned!",
                  count(*) FILTER (WHERE NOT s.abstained AND s.turn = 0) AS "upright!",
                  count(*) FILTER (WHERE s.abstained) AS "undecided!"
           FROM seen s LEFT JOIN by_photo b USING (photo_id) LEFT JOIN faces f USING (photo_id)"#,
        event.0,
        SURE
    )
    .fetch_one(&mut *db)
    .await?;
    away::must_be_here(db, event).await?;
    Ok(report)
}
