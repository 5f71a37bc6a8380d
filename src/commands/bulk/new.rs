//! An act on several queues, as programs and the command line ask for it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Bulk, BulkAct, BulkDone, LeftOut, QUEUES_MAX};
use crate::{
    access::Caller,
    bounded,
    commands::{CommandError, Commands},
    ids::HoldId,
    queue::holds,
};

/// Largest number of holds of one act.
const HOLDS_MAX: usize = 1_000;

/// What is done to each of the queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BulkVerb {
    /// Hold those that are not held.
    Hold,
    /// Lift their holds.
    Lift,
    /// Queue the photos again that failed, at most 10,000 in all; each costs a credit again.
    Retry,
    /// Let the photos of the run that was queued last go before the others of its queue.
    NewestFirst,
}

/// An act on several queues: all of it happens, or nothing.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "queues": [11, 12], "act": "hold", "note": "bad camera clock" }))]
pub struct NewBulk {
    /// The numbers of the queues, at most 200: `id` in the list of queues.
    #[serde(deserialize_with = "bounded::list::<QUEUES_MAX, _, _>")]
    pub queues: Vec<i64>,
    /// What is done to each of them.
    pub act: BulkVerb,
    /// Why the queues are held: up to 1,000 characters. Only for `hold`.
    #[serde(default)]
    #[schema(max_length = 1000)]
    pub note: String,
    /// The time when the holds end by themselves. Null means that they stay until a person lifts
    /// them. Only for `hold`.
    #[serde(default)]
    pub until: Option<DateTime<Utc>>,
    /// The holds that are lifted, at most 1,000, and no others. Null means all that stand on the queues
    /// now. Only for `lift`.
    #[serde(default, deserialize_with = "bounded::optional_list::<HOLDS_MAX, _, _>")]
    pub holds: Option<Vec<HoldId>>,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

impl Commands {
    /// Does something to several queues, or tells what would be done. What somebody else did already
    /// is not done again: queues that are held are not held a second time.
    ///
    /// # Errors
    /// See [`CommandError`]; nothing is done then.
    pub async fn bulk_as_asked(
        &self,
        caller: &Caller,
        new: &NewBulk,
    ) -> Result<BulkDone, CommandError> {
        let bulk = Bulk { queues: new.queues.clone(), act: self.act(new).await? };
        if new.dry_run {
            let plan = self.plan_bulk(caller, &bulk).await?;
            let (queues, photos) = (plan.queues(), plan.photos());
            let left_out = plan.parts.into_iter().filter_map(|part| {
                let (queue, event) = (part.queue.id, part.queue.event);
                part.left_out.map(|why| LeftOut { queue, event, why })
            });
            let left_out = left_out.collect();
            return Ok(BulkDone { queues, photos, undo: None, left_out });
        }
        self.bulk(caller, &bulk).await
    }

    async fn act(&self, new: &NewBulk) -> Result<BulkAct, CommandError> {
        if new.act != BulkVerb::Hold && (!new.note.is_empty() || new.until.is_some()) {
            let detail = "a note and an end are only for `hold`: leave them out";
            return Err(CommandError::invalid("/note", detail));
        }
        if new.act != BulkVerb::Lift && new.holds.is_some() {
            return Err(CommandError::invalid("/holds", "only for `lift`: leave them out"));
        }
        Ok(match new.act {
            BulkVerb::Hold => BulkAct::Hold { note: new.note.clone(), until: new.until },
            BulkVerb::Lift => BulkAct::Lift(match &new.holds {
                Some(holds) => holds.clone(),
                // Which of these queues the caller may change is checked before any is lifted.
                None => {
                    let mut db = self.database.acquire().await?;
                    let standing = holds::standing_on(&mut db, &new.queues).await?;
                    standing.into_iter().map(|hold| hold.id).collect()
                }
            }),
            BulkVerb::Retry => BulkAct::Retry,
            BulkVerb::NewestFirst => BulkAct::NewestFirst,
        })
    }
}
