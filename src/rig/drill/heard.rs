//! Compares what the receiver of a drill's webhooks has heard with what has happened: nothing may be
//! lost, untrue, or out of order.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;
use sqlx::PgConnection;

use crate::ids::OrganisationId;

/// A call that the receiver got.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// Whose webhook was called.
    pub organisation: OrganisationId,
    /// The number of the change.
    pub id: i64,
    /// Its type.
    pub kind: String,
    /// What it happened to.
    pub subject: String,
    /// The details.
    pub data: Value,
    /// Whether the signature is right.
    pub is_signed: bool,
}

/// What came of the comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// What should have been heard: each photo that was settled, each entry of a timeline, each top-up.
    pub(super) causes: i64,
    /// What of that was not heard, and numbers that are missing.
    pub(super) lost: i64,
    /// What was heard and did not happen, or was not signed.
    pub(super) untrue: i64,
    /// Changes that came after a later one of their subject.
    pub(super) out_of_order: i64,
}

/// Compares the calls, in their order, with the database.
pub(super) async fn compare(db: &mut PgConnection, heard: &[Heard]) -> sqlx::Result<Compared> {
    let mut compared = Compared::default();
    let changes = once(heard, &mut compared);
    let mut numbers: HashMap<OrganisationId, HashSet<i64>> = HashMap::new();
    for change in &changes {
        numbers.entry(change.organisation).or_default().insert(change.id);
    }
    // The webhooks hear everything, and an organisation's numbers have no gaps.
    for heard in numbers.values() {
        compared.lost += heard.iter().max().unwrap_or(&0) - count(heard.len());
    }
    compare_photos(db, &changes, &mut compared).await?;
    compare_entries(db, &changes, &mut compared).await?;
    Ok(compared)
}

/// The changes, each once: a change that comes again must be the same. A later change of its subject
/// comes only after this one was heard.
fn once<'a>(heard: &'a [Heard], compared: &mut Compared) -> Vec<&'a Heard> {
    let mut first: HashMap<(OrganisationId, i64), &Heard> = HashMap::new();
    let mut last: HashMap<(OrganisationId, &str), i64> = HashMap::new();
    let mut changes = Vec::new();
    for call in heard {
        compared.untrue += i64::from(!call.is_signed);
        if let Some(before) = first.get(&(call.organisation, call.id)) {
            compared.untrue += i64::from(*before != call);
            continue;
        }
        first.insert((call.organisation, call.id), call);
        let last = last.entry((call.organisation, &call.subject)).or_default();
        compared.out_of_order += i64::from(*last > call.id);
        *last = (*last).max(call.id);
        changes.push(call);
    }
    changes
}

/// Each photo that was settled is in `photo.processed`, with what came of it, and no other is.
async fn compare_photos(
    db: &mut PgConnection,
    changes: &[&Heard],
    compared: &mut Compared,
) -> sqlx::Result<()> {
    let mut told = HashSet::new();
    for change in changes.iter().filter(|change| change.kind == "photo.processed") {
        let run = change.data["run"].as_i64().unwrap_or(0);
        for photo in change.data["photos"].as_array().into_iter().flatten() {
            let text = |field: &str| photo[field].as_str().unwrap_or_default().to_owned();
            let photo = (run, text("photo"), text("state"), text("reason"));
            // Twice in different changes: it would be a second settlement.
            compared.untrue += i64::from(!told.insert(photo));
        }
    }
    let settled = sqlx::query!(
        r#"SELECT run_id, photo_id::text AS "photo!", state::text AS "state!",
                  coalesce(reason, '') AS "reason!"
           FROM outcome"#
    )
    .fetch_all(db)
    .await?;
    compared.causes += count(settled.len());
    for one in settled {
        let was_told = told.remove(&(one.run_id, one.photo, one.state, one.reason));
        compared.lost += i64::from(!was_told);
    }
    compared.untrue += count(told.len());
    Ok(())
}

/// Each entry of a timeline that others hear of, and each top-up, is a change of its own.
async fn compare_entries(
    db: &mut PgConnection,
    changes: &[&Heard],
    compared: &mut Compared,
) -> sqlx::Result<()> {
    let happened = sqlx::query!(
        r#"SELECT organisation_id AS "organisation!: OrganisationId", type AS "kind!",
                  subject AS "subject!", count(*) AS "times!"
           FROM (
               SELECT organisation_id, 'run.' || kind AS type, 'runs/' || reference AS subject
               FROM timeline WHERE kind IN ('queued', 'started', 'finished', 'cancelled', 'undone')
               UNION ALL
               SELECT organisation_id, 'event.' || kind, 'events/' || event_id
               FROM timeline WHERE kind IN ('paused', 'resumed', 'held', 'lifted')
               UNION ALL
               SELECT organisation_id, 'event.deleted', 'events/' || event_id
               FROM event WHERE deleted_at IS NOT NULL
               UNION ALL
               SELECT organisation_id, 'credits.added', 'organisations/' || organisation_id
               FROM top_up) s
           GROUP BY 1, 2, 3"#
    )
    .fetch_all(&mut *db)
    .await?;
    let mut difference: BTreeMap<(OrganisationId, String, String), i64> = BTreeMap::new();
    for one in happened {
        compared.causes += one.times;
        difference.insert((one.organisation, one.kind, one.subject), one.times);
    }
    let mut raised: HashMap<&str, bool> = HashMap::new();
    for change in changes {
        match change.kind.as_str() {
            "photo.processed" => {}
            // That nothing of a queue is left is no row anywhere. It is true with as many photos as the
            // queue has settled; afterwards there may be more.
            "event.finished" => compared.untrue += i64::from(!was_finished(db, change).await?),
            // What an alert measures has no history. But it is raised and cleared in turn.
            "alert.raised" | "alert.cleared" => {
                let raises = change.kind == "alert.raised";
                let before = raised.insert(&change.subject, raises).unwrap_or(false);
                compared.untrue += i64::from(before == raises);
            }
            kind => {
                let key = (change.organisation, kind.to_owned(), change.subject.clone());
                *difference.entry(key).or_default() -= 1;
            }
        }
    }
    for times in difference.into_values() {
        compared.lost += times.max(0);
        compared.untrue += (-times).max(0);
    }
    Ok(())
}

async fn was_finished(db: &mut PgConnection, change: &Heard) -> sqlx::Result<bool> {
    let settled: Option<i64> = sqlx::query_scalar!(
        r#"SELECT s.committed + s.refunded AS "settled!"
           FROM queue q JOIN queue_settled s USING (queue_id)
           WHERE q.event_id = $1 AND q.operation::text = $2 AND q.organisation_id = $3"#,
        change.data["event"].as_i64(),
        change.data["operation"].as_str(),
        change.organisation.0
    )
    .fetch_optional(db)
    .await?;
    let photos = change.data["photos"].as_i64().unwrap_or(0);
    Ok(photos > 0 && settled.is_some_and(|settled| photos <= settled))
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(id: i64, subject: &str) -> Heard {
        Heard {
            organisation: OrganisationId(1),
            id,
            kind: "run.started".to_owned(),
            subject: subject.to_owned(),
            data: json!({}),
            is_signed: true,
        }
    }

    #[test]
    fn a_change_that_overtakes_and_one_that_comes_back_different_are_seen() {
        let mut other = call(2, "runs/1");
        other.data = json!({ "run": 1 });
        let forged = Heard { is_signed: false, ..call(4, "runs/3") };
        let calls = [
            call(1, "runs/1"),
            call(3, "runs/2"),
            call(2, "runs/1"),
            call(2, "runs/1"),
            other,
            call(6, "runs/2"),
            call(5, "runs/2"),
            forged,
        ];
        let mut compared = Compared::default();
        assert_eq!(once(&calls, &mut compared).len(), 6);
        assert_eq!((compared.out_of_order, compared.untrue), (1, 2));
    }
}
