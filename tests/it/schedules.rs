//! Photos that are queued at a later time: exactly once, whatever happens until then.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use photogate::{
    access::{Caller, Role, audit_log},
    catalog::{events, photos},
    commands::{Enqueue, NewSchedule, OnInsufficient, Payloads, Quotas, Which},
    config::Config,
    ids::{EventId, Operation, OrganisationId, PhotoId, ScheduleId},
    queue::{
        schedules::{self, End, Schedule},
        why,
    },
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    App, code_of, photogate, refused_for_want_of_privilege,
    site::{Site, Visitor, answered},
};

/// As much as nobody reaches.
const PLENTY: i64 = 1_000_000;

fn keys(n: usize) -> Vec<String> {
    (1..=n).map(|i| format!("rehearsal/ok/{i}")).collect()
}

fn in_hours(hours: i64) -> DateTime<Utc> {
    Utc::now() + TimeDelta::hours(hours)
}

async fn schedule_by(
    app: &App,
    caller: &Caller,
    event: EventId,
    photos: Which<'_>,
    not_before: DateTime<Utc>,
) -> Result<Schedule, photogate::commands::CommandError> {
    let (operation, payloads) = (Operation::PhotoProcessing, Payloads::default());
    let new = NewSchedule { operation, photos, payloads, not_before };
    app.commands().schedule(caller, event, &new).await
}

async fn schedule(app: &App, event: EventId, n: usize) -> ScheduleId {
    let anna = Caller::trusted("anna@club.example");
    let keys = keys(n);
    schedule_by(app, &anna, event, Which::Keys(&keys), in_hours(1)).await.unwrap().id
}

/// Time passes: what was for later is due.
async fn time_passes(app: &App) {
    app.owner_runs(
        "UPDATE photogate.schedule SET due_at = photogate.clock() - interval '1 s', tried_at = NULL, \
         trouble = NULL WHERE ended_at IS NULL",
    )
    .await;
}

/// What a worker does each second: queues one part after the other. Returns how many were queued.
async fn look(app: &App) -> i32 {
    let (mut last, mut queued) = (OrganisationId(0), 0);
    let mut db = app.db().await;
    while let Some((organisation, schedule)) = schedules::next_due(&mut db, last).await.unwrap() {
        last = organisation;
        let Some(part) = schedules::enqueue_next(&mut db, schedule, PLENTY).await.unwrap() else {
            break; // somebody else has it
        };
        queued += part;
    }
    queued
}

async fn found(app: &App, id: ScheduleId) -> Schedule {
    let which = schedules::Which { id: Some(id), ..schedules::Which::default() };
    schedules::list(&mut *app.db().await, which, 1).await.unwrap().pop().unwrap()
}

#[tokio::test]
async fn nothing_is_queued_before_the_time_and_all_of_it_once_after_it() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let id = schedule(&app, event, 3).await;

    assert_eq!(look(&app).await, 0);
    assert_eq!(app.count("SELECT count(*) FROM photo").await, 0);
    time_passes(&app).await;
    assert_eq!((look(&app).await, look(&app).await), (3, 0));

    assert_eq!(app.processing(event).await.waiting, 3);
    let over = found(&app, id).await;
    assert_eq!((over.ended, over.queued), (Some(End::Done), 3));
    assert_eq!(app.count("SELECT count(*) FROM schedule_part").await, 0, "nothing is kept twice");
    // As if anna had queued them, and by a schedule.
    let log = audit_log::list(&mut *app.db().await, Some(organisation), None, 9).await.unwrap();
    let told: Vec<_> = log.iter().rev().map(|one| (&*one.action, &*one.actor)).collect();
    let anna = "anna@club.example";
    assert_eq!(told, [("schedule.create", anna), ("photos.enqueue", anna)]);
    assert_eq!(log[0].detail["schedule"], json!(id));
    assert_eq!(app.count("SELECT count(*) FROM run WHERE actor = 'anna@club.example'").await, 1);
}

/// The service was down at that time: a real worker, which begins later.
#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_was_missed_is_queued_by_the_next_worker() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    schedule(&app, event, 3).await;
    time_passes(&app).await;

    let worker = app.start_worker();

    app.until("they are processed", async || app.processing(event).await.processed == 3).await;
    worker.drain().await;
}

/// Sixteen look at the same time, at a call of more than one part.
#[tokio::test(flavor = "multi_thread")]
async fn many_workers_queue_each_part_once() {
    let app = Arc::new(App::new().await);
    let (_, event) = app.an_event_with(5).await;
    let photos = keys(25_000);
    let anna = Caller::trusted("anna");
    let which = Which::Keys(&photos);
    let id = schedule_by(&app, &anna, event, which, in_hours(1)).await.unwrap().id;
    assert_eq!(app.count("SELECT count(*) FROM schedule_part").await, 3);
    time_passes(&app).await;

    let looking: Vec<_> = (0..16)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move {
                let mut queued = 0;
                while let Some((_, schedule)) =
                    schedules::next_due(&mut *app.db().await, OrganisationId(0)).await.unwrap()
                {
                    let part =
                        schedules::enqueue_next(&mut *app.db().await, schedule, PLENTY).await;
                    queued += part.unwrap().unwrap_or(0);
                }
                queued
            })
        })
        .collect();
    let queued: i32 =
        futures::future::join_all(looking).await.into_iter().map(Result::unwrap).sum();

    assert_eq!((queued, found(&app, id).await.queued), (25_000, 25_000));
    assert_eq!(app.count("SELECT count(*) FROM run").await, 3);
    assert_eq!(app.processing(event).await.waiting, 25_000, "and positions have no gap");
}

/// The connection is cut in the middle of a part: all of it, or nothing.
#[tokio::test]
async fn a_part_that_is_not_committed_is_queued_again() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    let id = schedule(&app, event, 3).await;
    time_passes(&app).await;
    let mut dying = app.as_owner().await;
    sqlx::raw_sql("BEGIN").execute(&mut dying).await.unwrap();
    assert_eq!(schedules::enqueue_next(&mut dying, id, PLENTY).await.unwrap(), Some(3));

    assert_eq!(look(&app).await, 0, "who has it, has it");
    drop(dying);
    app.until("the other one is gone", async || look(&app).await == 3).await;

    assert_eq!(app.processing(event).await.waiting, 3);
}

#[tokio::test]
async fn go_live_queues_what_the_event_has_then_in_parts() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    app.queue_keys(event, Operation::AiRotation, &keys(10_000)).await;
    let anna = Caller::trusted("anna");
    let id = schedule_by(&app, &anna, event, Which::All, in_hours(1)).await.unwrap().id;
    app.queue_keys(event, Operation::AiRotation, &["late.jpg".into()]).await;
    time_passes(&app).await;

    let mut db = app.db().await;
    let first = schedules::enqueue_next(&mut db, id, PLENTY).await.unwrap();
    assert_eq!((first, found(&app, id).await.ended), (Some(10_000), None));
    assert_eq!(look(&app).await, 1);

    assert_eq!(app.processing(event).await.waiting, 10_001);
    assert_eq!(found(&app, id).await.ended, Some(End::Done));
    // An event without photos has nothing to queue, and the schedule is over.
    let empty = app.an_event_of(found(&app, id).await.organisation).await;
    let id = schedule_by(&app, &anna, empty, Which::All, in_hours(1)).await.unwrap().id;
    time_passes(&app).await;
    assert_eq!(look(&app).await, 0);
    assert_eq!(found(&app, id).await.ended, Some(End::Done));
}

/// Payloads wait with their photos.
#[tokio::test]
async fn the_worker_gets_the_payloads() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    let keys = keys(2);
    let payloads = Payloads::from([(keys[1].clone(), json!({ "name": "Ann" }))]);
    let new = NewSchedule {
        operation: Operation::PhotoProcessing,
        photos: Which::Keys(&keys),
        payloads,
        not_before: in_hours(1),
    };
    app.commands().schedule(&Caller::trusted("anna"), event, &new).await.unwrap();
    time_passes(&app).await;
    look(&app).await;

    let claimed = app.a_worker().await.claim(5).await;
    let mut got: Vec<_> = claimed
        .iter()
        .map(|one| (one.key().to_owned(), one.payload::<Option<Value>>().unwrap()))
        .collect();
    got.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(got, [(keys[0].clone(), None), (keys[1].clone(), Some(json!({ "name": "Ann" })))]);
}

#[tokio::test]
async fn a_schedule_is_changed_and_cancelled_and_each_is_in_the_audit_log() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let id = schedule(&app, event, 3).await;
    let commands = app.commands();
    let bert = Caller::trusted("bert@club.example");

    let moved = commands.move_schedule(&bert, id, in_hours(9)).await.unwrap();
    assert!(moved.not_before > in_hours(8));
    assert_eq!(moved.actor, "bert@club.example", "who changes it answers for it");
    let cancelled = commands.cancel_schedule(&bert, id).await.unwrap();
    assert_eq!((cancelled.ended, cancelled.queued), (Some(End::Cancelled), 0));
    for again in [
        commands.cancel_schedule(&bert, id).await.unwrap_err(),
        commands.move_schedule(&bert, id, in_hours(9)).await.unwrap_err(),
    ] {
        assert!(again.to_string().contains("has ended"), "{again}");
    }
    app.owner_runs("UPDATE photogate.schedule SET due_at = now() - interval '1 s'").await;
    assert_eq!(look(&app).await, 0);

    let log = audit_log::list(&mut *app.db().await, Some(organisation), None, 9).await.unwrap();
    let told: Vec<_> = log.iter().rev().map(|one| &*one.action).collect();
    assert_eq!(told, ["schedule.create", "schedule.change", "schedule.cancel"]);
}

/// A cancel that meets the part that is queued now: in either order it is one or the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_meets_a_part_waits_for_it_and_cancels_the_rest() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    let photos = keys(10_001);
    let anna = Caller::trusted("anna");
    let made = schedule_by(&app, &anna, event, Which::Keys(&photos), in_hours(1)).await.unwrap();
    time_passes(&app).await;
    let mut part = app.as_owner().await;
    sqlx::raw_sql("BEGIN").execute(&mut part).await.unwrap();
    schedules::enqueue_next(&mut part, made.id, PLENTY).await.unwrap();

    let commands = app.commands();
    let cancel = tokio::spawn(async move { commands.cancel_schedule(&anna, made.id).await });
    app.until_somebody_waits_for_a_lock().await;
    sqlx::raw_sql("COMMIT").execute(&mut part).await.unwrap();

    let cancelled = cancel.await.unwrap().unwrap();
    assert_eq!((cancelled.ended, cancelled.queued), (Some(End::Cancelled), 10_000));
    assert_eq!((look(&app).await, app.processing(event).await.waiting), (0, 10_000));
}

#[tokio::test]
async fn what_is_asked_for_must_make_sense() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let anna = Caller::trusted("anna");
    let keys = keys(1);
    for at in [in_hours(-1), in_hours(24 * 400)] {
        let refused = schedule_by(&app, &anna, event, Which::Keys(&keys), at).await.unwrap_err();
        assert!(refused.to_string().contains("a later time, within a year"), "{refused}");
    }
    let none = schedule_by(&app, &anna, event, Which::Keys(&[]), in_hours(1)).await.unwrap_err();
    assert!(none.to_string().contains("no such photos"), "{none}");
    let missing = schedule_by(&app, &anna, EventId(99), Which::All, in_hours(1)).await;
    assert!(missing.unwrap_err().is_not_found());
    // Who may not queue photos may not schedule them; and others see no schedule.
    let finance =
        Caller { actor: "f".into(), role: Role::Finance, organisation: Some(organisation) };
    assert!(schedule_by(&app, &finance, event, Which::All, in_hours(1)).await.is_err());
    let id = schedule(&app, event, 1).await;
    let other = app.an_organisation_with(0).await;
    let eve = Caller { actor: "eve".into(), role: Role::Organiser, organisation: Some(other) };
    let refused = app.commands().cancel_schedule(&eve, id).await.unwrap_err();
    assert!(refused.is_not_found() && refused.to_string().contains("schedule"), "{refused}");
    for statement in
        ["SELECT end_schedule(1, 'done', 'x')", "DELETE FROM schedule_part", "DELETE FROM schedule"]
    {
        refused_for_want_of_privilege(&mut *app.db().await, statement).await;
    }
}

#[tokio::test]
async fn an_organisation_has_a_limit_of_schedules_and_of_scheduled_photos() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let anna = Caller::trusted("anna");
    for _ in 0..100 {
        schedule_by(&app, &anna, event, Which::All, in_hours(1)).await.unwrap();
    }
    let refused = schedule_by(&app, &anna, event, Which::All, in_hours(1)).await.unwrap_err();
    assert!(refused.to_string().contains("at most 100 schedules"), "{refused}");
    // Not others.
    let (_, other) = app.an_event_with(5).await;
    schedule_by(&app, &anna, other, Which::All, in_hours(1)).await.unwrap();
    app.tamper("UPDATE schedule SET ended_at = now(), ended = 'done', ended_by = 'x'").await;

    let keys = keys(2);
    schedule_by(&app, &anna, event, Which::Keys(&keys), in_hours(1)).await.unwrap();
    app.tamper("UPDATE schedule SET photos = 999997 WHERE ended_at IS NULL").await;
    schedule_by(&app, &anna, event, Which::Keys(&keys), in_hours(1)).await.unwrap();
    let refused =
        schedule_by(&app, &anna, event, Which::Keys(&keys), in_hours(1)).await.unwrap_err();
    assert!(refused.to_string().contains("at most 1000000 photos"), "{refused}");
    let which = schedules::Which {
        organisation: Some(organisation),
        waiting: true,
        ..schedules::Which::default()
    };
    assert_eq!(schedules::list(&mut *app.db().await, which, 9).await.unwrap().len(), 2);
}

/// Each organisation in turn, however much one of them has scheduled.
#[tokio::test]
async fn parts_are_queued_in_turns_over_organisations() {
    let app = App::new().await;
    let mut of = Vec::new();
    for _ in 0..3 {
        let (organisation, event) = app.an_event_with(1).await;
        schedule(&app, event, 1).await;
        schedule(&app, event, 2).await;
        of.push(organisation);
    }
    time_passes(&app).await;

    let (mut turns, mut last) = (Vec::new(), OrganisationId(0));
    let mut db = app.db().await;
    while let Some((organisation, schedule)) = schedules::next_due(&mut db, last).await.unwrap() {
        turns.push(organisation);
        last = organisation;
        schedules::enqueue_next(&mut db, schedule, PLENTY).await.unwrap();
    }

    assert_eq!(turns, [of.clone(), of].concat());
}

/// An organisation that keeps its own queue locked does not hold up the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_locked_is_put_off_and_others_go_on() {
    let app = App::new().await;
    let (_, stuck) = app.an_event_with(5).await;
    let (_, event) = app.an_event_with(5).await;
    let id = schedule(&app, stuck, 1).await;
    schedule(&app, event, 1).await;
    time_passes(&app).await;
    let mut lock = app.as_owner().await;
    sqlx::raw_sql(
        "BEGIN; SELECT FROM queue_tail t JOIN queue q USING (queue_id) \
                   WHERE q.event_id = (SELECT min(event_id) FROM event) FOR UPDATE OF t",
    )
    .execute(&mut lock)
    .await
    .unwrap();

    let worker = app.start_worker();
    app.until("the other is processed", async || app.processing(event).await.processed == 1).await;
    app.until("it says why", async || found(&app, id).await.trouble.is_some()).await;
    assert!(found(&app, id).await.trouble.unwrap().contains("locked"));
    sqlx::raw_sql("ROLLBACK").execute(&mut lock).await.unwrap();
    time_passes(&app).await;
    app.until("it is processed", async || app.processing(stuck).await.processed == 1).await;
    worker.drain().await;
}

/// Nobody is there to be told no: it waits, says why, and is queued when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_reached_then_puts_it_off() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(0).await;
    app.queue(event, "ok", 3).await;
    let photos = vec!["a.jpg".to_owned()];
    let anna = Caller::trusted("anna");
    let made = schedule_by(&app, &anna, event, Which::Keys(&photos), in_hours(1)).await.unwrap();
    time_passes(&app).await;

    let error = schedules::enqueue_next(&mut *app.db().await, made.id, 3).await.unwrap_err();
    assert_eq!(code_of(&error).as_deref(), Some("PG009"), "{error}");
    assert_eq!(app.processing(event).await.waiting, 3, "nothing was queued");
    schedules::put_off(&mut *app.db().await, made.id, "too many wait").await.unwrap();
    let next = async || schedules::next_due(&mut *app.db().await, OrganisationId(0)).await.unwrap();
    assert_eq!(next().await, None, "not at once again");
    app.owner_runs("UPDATE photogate.schedule SET tried_at = tried_at - interval '61 s'").await;
    assert_eq!(next().await, Some((organisation, made.id)));
    app.top_up(organisation, 1).await;
    let queued = schedules::enqueue_next(&mut *app.db().await, made.id, 3).await.unwrap();
    assert_eq!((queued, found(&app, made.id).await.trouble), (Some(1), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_is_deleted_or_its_organisation_has_another_part_of_the_store() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    let id = schedule(&app, event, 1).await;
    let waits = app.an_event_of(OrganisationId(1)).await;
    let other = schedule(&app, waits, 1).await;
    events::flag_deleted(&mut *app.db().await, event, "anna").await.unwrap();
    // Before its findings are forgotten, and after.
    time_passes(&app).await;
    assert_eq!(look(&app).await, 1, "of the other event");
    let ended =
        "SELECT count(*) FROM schedule WHERE ended = 'refused' AND ended_by = 'event_deleted'";
    assert_eq!(app.count(ended).await, 1);
    let gone = app.an_event_of(OrganisationId(1)).await;
    schedule(&app, gone, 1).await;
    app.commands().delete_event(&Caller::trusted("anna"), gone).await.unwrap();
    events::forget(&mut *app.db().await, gone).await.unwrap();
    assert_eq!(
        (app.count(ended).await, app.count("SELECT count(*) FROM schedule_part").await),
        (2, 0)
    );
    assert_eq!(found(&app, other).await.ended, Some(End::Done));
    let which = schedules::Which { id: Some(id), ..schedules::Which::default() };
    assert!(schedules::list(&mut *app.db().await, which, 1).await.unwrap().is_empty(), "hidden");

    let id = schedule(&app, waits, 2).await;
    app.owner_runs("UPDATE photogate.organisation SET photos_under = 'club/'").await;
    time_passes(&app).await;
    assert_eq!(look(&app).await, 0);
    let over = found(&app, id).await;
    assert_eq!(
        (over.ended, over.ended_by.as_deref()),
        (Some(End::Refused), Some("outside_photos_under"))
    );
}

/// Whoever may not come in any more queues nothing, also not by what was scheduled before.
#[tokio::test]
async fn who_scheduled_it_may_not_come_in_any_more() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let staff = Caller::trusted("staff@photogate.example");
    let new = photogate::commands::NewToken {
        name: "uploads".into(),
        role: Role::Pipeline,
        organisation: Some(organisation),
        expires_in_days: None,
    };
    let token = app.commands().create_token(&staff, &new).await.unwrap().id;
    let of =
        |actor: String| Caller { actor, role: Role::Organiser, organisation: Some(organisation) };
    let anna = of("anna@club.example".into());
    let uploads = of(format!("token {token} (uploads)"));
    let mut ids = Vec::new();
    for caller in [&anna, &uploads, &staff] {
        ids.push(schedule_by(&app, caller, event, Which::All, in_hours(1)).await.unwrap().id);
    }
    // Another person takes it over.
    let taken = schedule_by(&app, &anna, event, Which::All, in_hours(1)).await.unwrap().id;
    app.commands().move_schedule(&staff, taken, in_hours(2)).await.unwrap();
    app.owner_runs("UPDATE photogate.person SET disabled_at = now()").await;
    app.commands().revoke_token(&staff, token).await.unwrap();
    time_passes(&app).await;
    look(&app).await;

    let mut ends = Vec::new();
    for id in ids.into_iter().chain([taken]) {
        ends.push(found(&app, id).await.ended.unwrap());
    }
    assert_eq!(ends, [End::Refused, End::Refused, End::Done, End::Done]);
    let refusals =
        "SELECT count(*) FROM audit_log WHERE action = 'schedule.refuse' AND actor = 'System'";
    assert_eq!(app.count(refusals).await, 2);
}

#[tokio::test]
async fn a_clock_that_is_wrong_queues_nothing_and_one_that_was_put_back_does_not_keep_it() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    let id = schedule(&app, event, 1).await;
    let next = async || schedules::next_due(&mut *app.db().await, OrganisationId(0)).await.unwrap();

    app.let_the_clock_jump("2090-01-01 00:00:00Z").await;
    assert_eq!(next().await, None, "an implausible clock");
    app.owner_runs(
        "CREATE OR REPLACE FUNCTION photogate.clock() RETURNS timestamptz LANGUAGE sql \
                    VOLATILE AS 'SELECT clock_timestamp()'",
    )
    .await;
    time_passes(&app).await;
    // It was tried while the clock was ahead.
    app.tamper("UPDATE schedule SET trouble = 'x', tried_at = now() + interval '1 day'").await;
    assert_eq!(next().await.map(|(_, id)| id), Some(id));
    assert_eq!(look(&app).await, 1);
}

#[tokio::test]
async fn why_says_when_a_photo_is_queued() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    app.queue_keys(event, Operation::AiRotation, &keys(2)).await;
    let photo = app.photo_of(event).await;
    let why =
        async |photo: PhotoId| why::photo(&mut *app.db().await, photo).await.unwrap().unwrap();
    assert!(why(photo).await.chain.iter().all(|cause| cause.code != "scheduled"));

    schedule(&app, event, 1).await;

    let told = why(photo).await;
    let cause = told.chain.iter().find(|cause| cause.code == "scheduled").expect("it says so");
    let at = in_hours(1).format("%Y-%m-%d %H:").to_string();
    assert!(cause.says.contains("photo processing at") && cause.says.contains(&at), "{cause:?}");
    let filter = photos::Filter { most: 9, ..photos::Filter::default() };
    let all = photos::list(&mut *app.db().await, event, filter).await.unwrap();
    let other = all.iter().find(|one| one.id != photo).unwrap().id;
    assert!(why(other).await.chain.iter().all(|cause| cause.code != "scheduled"));
    // When it is queued, it is not scheduled any more.
    time_passes(&app).await;
    look(&app).await;
    assert!(why(photo).await.chain.iter().all(|cause| cause.code != "scheduled"));
}

/// A schedule queues what an enqueue call would, and what was queued meanwhile is not queued twice.
#[tokio::test]
async fn what_was_queued_meanwhile_is_not_queued_twice() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    let id = schedule(&app, event, 3).await;
    let keys = keys(2);
    let now = Enqueue {
        operation: Operation::PhotoProcessing.into(),
        photos: Which::Keys(&keys),
        payloads: Payloads::default(),
        dry_run: false,
        on_insufficient: OnInsufficient::Wait,
        priority: photogate::queue::enqueue::Priority::Normal,
    };
    let commands = app.commands().with(Quotas::from(&Config::default()));
    commands.enqueue(&Caller::trusted("anna"), event, &now).await.unwrap();
    time_passes(&app).await;

    assert_eq!(look(&app).await, 1);
    assert_eq!((found(&app, id).await.queued, app.processing(event).await.waiting), (1, 3));
    assert_eq!(app.credits(organisation).await, (9, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn api_and_command_line_schedule_list_change_and_cancel() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let at = in_hours(3).to_rfc3339();
    let path = format!("/v1/events/{event}/schedules");
    let body =
        json!({ "operation": "photo_processing", "keys": ["a.jpg", "b.jpg"], "not_before": at });

    let (status, made) = site.post(&path, &token, body).await;
    assert_eq!((status.as_u16(), &made["photos"], &made["all"]), (201, &2.into(), &false.into()));
    for (body, pointer) in [
        (json!({ "operation": "photo_processing", "keys": ["a.jpg"] }), "/not_before"),
        (json!({ "all": true, "not_before": at }), "/operation"),
    ] {
        let (status, problem) = site.post(&path, &token, body).await;
        assert_eq!(
            (status.as_u16(), &problem["errors"][0]["pointer"]),
            (422, &pointer.into()),
            "{problem}"
        );
    }
    let list = format!("/v1/schedules?event={event}");
    let (_, listed) = answered(site.ask(Method::GET, &list, &token)).await;
    assert_eq!(listed["items"], json!([made]));
    let own = format!("/v1/schedules/{}", made["id"]);
    let later = json!({ "not_before": in_hours(5).to_rfc3339() });
    let (status, moved) = answered(site.ask(Method::PATCH, &own, &token).json(&later)).await;
    assert_eq!(status, 200);
    assert_ne!(moved["not_before"], made["not_before"]);
    let (status, over) = answered(site.ask(Method::DELETE, &own, &token)).await;
    assert_eq!((status.as_u16(), &over["ended"]), (200, &"cancelled".into()));
    let (status, _) = answered(site.ask(Method::DELETE, &own, &token)).await;
    assert_eq!(status, 409);
    let (_, listed) = answered(site.ask(Method::GET, &list, &token)).await;
    assert_eq!(listed["items"], json!([]));

    let run = |arguments: &[&str]| photogate(&app.config, arguments);
    let id = event.to_string();
    let added = app.says(&["--json", "schedules", "add", &id, "--all", "--at", &at]);
    let added: Value = serde_json::from_str(&added).unwrap();
    assert_eq!(added["all"], true);
    let number = added["id"].to_string();
    let late = in_hours(7).to_rfc3339();
    assert!(app.says(&["schedules", "move", &number, "--at", &late]).contains("waits"));
    assert!(app.says(&["schedules", "list", "--event", &id]).contains("all"));
    assert!(app.says(&["schedules", "cancel", &number]).contains("cancelled (cli)"));
    assert_eq!(run(&["schedules", "cancel", &number]).status.code(), Some(1));
    assert_eq!(run(&["schedules", "cancel", "99"]).status.code(), Some(4));
    assert_eq!(run(&["schedules", "add", &id, "--at", &at]).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organiser_schedules_changes_and_cancels_on_the_page() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let elsewhere = app.an_organisation_with(5).await;
    app.a_person("eve@other.example", Role::Organiser, Some(elsewhere)).await;
    app.owner_runs("UPDATE photogate.organisation SET photos_under = organisation_id || '/'").await;
    let site = Site::of(&app).await;
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    let path = format!("/events/{event}/schedules");
    let berlin = chrono_tz::Europe::Berlin;
    let at =
        |hours: i64| in_hours(hours).with_timezone(&berlin).format("%Y-%m-%dT%H:%M").to_string();
    let soon = at(5);

    let both =
        [("at", &*soon), ("photo_processing", "yes"), ("ai_rotation", "yes"), ("prefix", "")];
    assert_eq!(anna.post(&site, &path, &both).await, 303);
    assert_eq!(app.count("SELECT count(*) FROM schedule WHERE all_photos").await, 2);
    // The time is that of the organisation.
    let page = anna.text(&site, &path).await;
    assert!(page.contains(&format!("value=\"{soon}\"")), "{page}");
    assert!(page.contains("Scheduled by anna@club.example"), "{page}");
    for (fields, status) in [
        (vec![("at", &*soon)], 422),
        (vec![("at", "soon"), ("ai_rotation", "yes")], 422),
        (vec![("at", &*soon), ("ai_rotation", "yes"), ("prefix", "other/")], 422),
    ] {
        assert_eq!(anna.post(&site, &path, &fields).await, status, "{fields:?}");
    }

    let moved = at(9);
    assert_eq!(anna.post(&site, "/schedules/1/move", &[("at", &*moved)]).await, 303);
    assert!(anna.text(&site, &path).await.contains(&format!("value=\"{moved}\"")));
    assert_eq!(anna.get(&site, "/schedules/1/cancel").await, 200);
    assert_eq!(
        app.count("SELECT count(*) FROM schedule WHERE ended_at IS NULL").await,
        2,
        "it asks"
    );
    assert_eq!(anna.post(&site, "/schedules/1/cancel", &[]).await, 303);
    assert!(anna.text(&site, &path).await.contains("cancelled by anna@club.example"));
    let eve = Visitor::logged_in(&site, "eve@other.example").await;
    assert_eq!(eve.get(&site, "/schedules/2/cancel").await, 404);
    assert_eq!(eve.post(&site, "/schedules/2/cancel", &[]).await, 404);
    assert_eq!(eve.post(&site, "/schedules/2/move", &[("at", &*moved)]).await, 404);
    assert_eq!(app.count("SELECT count(*) FROM schedule WHERE ended_at IS NULL").await, 1);
}
