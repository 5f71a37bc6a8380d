//! Photos that are queued at a later time: exactly once, whatever happens until then.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use photogate::{
    access::{Caller, Role, audit_log},
    catalog::{events, photos},
    commands::{Enqueue, NewSchedule, OnInsufficient, Payloads, Quotas, Which},
    config::Config,
    ids::{EventId, Operation, Operations, OrganisationId, PhotoId, ScheduleId},
    queue::{
        enqueue::Priority,
        schedules::{self, End, Schedule},
        status, why,
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
    let (operation, payloads) = (Operation::PhotoProcessing.into(), Payloads::default());
    let new = NewSchedule { operation, photos, payloads, not_before, priority: Priority::Normal };
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
        operation: Operation::PhotoProcessing.into(),
        photos: Which::Keys(&keys),
        payloads,
        not_before: in_hours(1),
        priority: Priority::Normal,
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
        assert!(refused.to_string().contains("later than now and within a year"), "{refused}");
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
    for n in 1..=100 {
        schedule_by(&app, &anna, event, Which::All, in_hours(n)).await.unwrap();
    }
    let refused = schedule_by(&app, &anna, event, Which::All, in_hours(101)).await.unwrap_err();
    assert!(refused.to_string().contains("at most 100 schedules"), "{refused}");
    // Not others.
    let (_, other) = app.an_event_with(5).await;
    schedule_by(&app, &anna, other, Which::All, in_hours(1)).await.unwrap();
    app.tamper("UPDATE schedule SET ended_at = now(), ended = 'done', ended_by = 'x'").await;

    let keys = keys(2);
    schedule_by(&app, &anna, event, Which::Keys(&keys), in_hours(1)).await.unwrap();
    app.tamper("UPDATE schedule SET photos = 999997 WHERE ended_at IS NULL").await;
    schedule_by(&app, &anna, event, Which::Keys(&keys), in_hours(2)).await.unwrap();
    let refused =
        schedule_by(&app, &anna, event, Which::Keys(&keys), in_hours(3)).await.unwrap_err();
    let says = refused.to_string();
    assert!(
        says.contains("at most 1000000 photos") && says.contains("cancel a schedule"),
        "{says}"
    );
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
    let taken = schedule_by(&app, &anna, event, Which::All, in_hours(3)).await.unwrap().id;
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
    assert!(cause.says.contains("Photo Processing at") && cause.says.contains(&at), "{cause:?}");
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
        priority: Priority::Normal,
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
    // A dry run, and photos of the store.
    let dry = ["schedules", "add", &id, "a.jpg", "--operation", "both", "--at", &at, "--dry-run"];
    assert!(app.says(&dry).contains("Queued             2"), "{}", app.says(&dry));
    assert_eq!(app.count("SELECT count(*) FROM schedule WHERE ended_at IS NULL").await, 0);
    assert_eq!(
        run(&["schedules", "add", &id, "--at", &at, "--prefix", "none/"]).status.code(),
        Some(1)
    );
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

    // It says what it would cost now, and asks. Twice is once.
    let seven: Vec<_> = (0..7).map(|n| format!("{organisation}/{n}.jpg")).collect();
    app.queue_keys(event, Operation::AiRotation, &seven).await;
    let ask =
        |operation: &str, at: &str| format!("{path}/new?operation={operation}&at={at}&prefix=");
    let none = format!("{}{organisation}/none/", ask("both", &soon));
    assert_eq!(anna.get(&site, &none).await, 422, "there are no such photos");
    let page = anna.text(&site, &ask("both", &soon)).await;
    assert!(page.contains("If it was done now") && page.contains("<dd>7</dd>"), "{page}");
    assert_eq!(anna.get(&site, &ask("both", &at(-5))).await, 422, "as when it is made");
    assert_eq!(app.count("SELECT count(*) FROM schedule").await, 0, "it asks");
    let both = [("at", &*soon), ("operation", "both"), ("prefix", "")];
    for _ in 0..2 {
        assert_eq!(anna.post(&site, &path, &both).await, 303);
    }
    let rotation = [("at", &*soon), ("operation", "ai_rotation"), ("prefix", "")];
    assert_eq!(anna.post(&site, &path, &rotation).await, 303);
    assert_eq!(app.count("SELECT count(*) FROM schedule WHERE asked IS NULL").await, 2);
    // The time is that of the organisation.
    let page = anna.text(&site, &path).await;
    assert!(page.contains(&format!("value=\"{soon}\"")), "{page}");
    assert!(page.contains("Scheduled by anna@club.example"), "{page}");
    for (fields, status) in [
        (vec![("at", &*soon)], 422),
        (vec![("at", "soon"), ("operation", "ai_rotation")], 422),
        (vec![("at", &*soon), ("operation", "ai_rotation"), ("prefix", "other/")], 422),
    ] {
        assert_eq!(anna.post(&site, &path, &fields).await, status, "{fields:?}");
    }

    // The field as it stands changes nothing, not even seconds that it does not show.
    app.tamper("UPDATE schedule SET due_at = date_trunc('minute', due_at) + interval '17 s'").await;
    assert_eq!(anna.post(&site, "/schedules/1/move", &[("at", &*soon)]).await, 303);
    let seconds = "SELECT extract(second FROM due_at)::bigint FROM schedule WHERE schedule_id = 1";
    assert_eq!(app.count(seconds).await, 17);
    let moved = at(9);
    assert_eq!(anna.post(&site, "/schedules/1/move", &[("at", &*moved)]).await, 303);
    assert_eq!(app.count(seconds).await, 0);
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

/// *Rotation first* at a later time, too: one schedule, and not two that know nothing of each other.
#[tokio::test]
async fn both_operations_are_scheduled_rotation_first() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(9).await;
    let anna = Caller::trusted("anna");
    let keys = keys(2);
    let new = NewSchedule {
        operation: Operations::Both,
        photos: Which::Keys(&keys),
        payloads: Payloads::default(),
        not_before: in_hours(1),
        priority: Priority::Normal,
    };
    let made = app.commands().schedule(&anna, event, &new).await.unwrap();
    let live = NewSchedule { photos: Which::All, ..new };
    let all = app.commands().schedule(&anna, event, &live).await.unwrap();
    time_passes(&app).await;

    // A photo counts for each operation. Those that are known already are not queued again.
    assert_eq!(look(&app).await, 4);
    let waiting = async || {
        let mut counts = Vec::new();
        for queue in status::of_event(&mut *app.db().await, event).await.unwrap() {
            counts.push((queue.operation, queue.waiting, queue.following));
        }
        counts
    };
    let (first, then) = (Operation::AiRotation, Operation::PhotoProcessing);
    assert!(waiting().await.contains(&(first, 2, 0)), "{:?}", waiting().await);
    assert!(waiting().await.contains(&(then, 0, 2)), "no photo is processed before its rotation");
    assert_eq!(found(&app, made.id).await.queued, 4);
    assert_eq!(found(&app, all.id).await.ended, Some(End::Done));
    let log = audit_log::list(&mut *app.db().await, None, None, 9).await.unwrap();
    let queued: Vec<_> = log.iter().filter(|one| one.action == "photos.enqueue").collect();
    // The second schedule found nothing new, so it created no run.
    let mut new = queued.iter().filter(|one| one.detail["following"] == 2);
    assert_eq!(new.next().unwrap().detail["runs"].as_array().unwrap().len(), 1, "{queued:?}");
    assert!(new.next().is_none(), "{queued:?}");

    // A photo says of each operation when it is queued.
    let elsewhere = app.an_event_of(found(&app, made.id).await.organisation).await;
    app.tamper(
        "INSERT INTO photo (photo_id, event_id, key) \
         SELECT gen_random_uuid(), max(event_id), 'x.jpg' FROM event",
    )
    .await;
    app.commands().schedule(&anna, elsewhere, &live).await.unwrap();
    let photo = app.photo_of(elsewhere).await;
    let when = schedules::of_photo(&mut *app.db().await, photo).await.unwrap();
    assert_eq!(when.iter().map(|(of, _)| *of).collect::<Vec<_>>(), [first, then]);
}

/// A retry, a double click, sixteen at once: the schedule that waits is found.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_schedule_is_made_once() {
    let app = Arc::new(App::new().await);
    let (_, event) = app.an_event_with(9).await;
    let at = in_hours(1);
    let anna = Caller::trusted("anna");
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let (app, anna) = (app.clone(), anna.clone());
            tokio::spawn(async move {
                let keys = keys(3);
                schedule_by(&app, &anna, event, Which::Keys(&keys), at).await.unwrap().id
            })
        })
        .collect();
    let ids: Vec<ScheduleId> =
        futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();

    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let logged = "SELECT count(*) FROM audit_log WHERE action = 'schedule.create'";
    assert_eq!(app.count(logged).await, 1);
    // Another time, caller, operation, photo or payload is another schedule.
    let bert = Caller::trusted("bert");
    let (three, two) = (keys(3), keys(2));
    let payloads = Payloads::from([(three[0].clone(), json!(1))]);
    schedule_by(&app, &anna, event, Which::Keys(&three), in_hours(2)).await.unwrap();
    schedule_by(&app, &bert, event, Which::Keys(&three), at).await.unwrap();
    schedule_by(&app, &anna, event, Which::Keys(&two), at).await.unwrap();
    for (operation, payloads) in
        [(Operations::Both, Payloads::default()), (Operations::PhotoProcessing, payloads)]
    {
        let photos = Which::Keys(&three);
        let new =
            NewSchedule { operation, photos, payloads, not_before: at, priority: Priority::Normal };
        app.commands().schedule(&anna, event, &new).await.unwrap();
    }
    assert_eq!(app.count("SELECT count(*) FROM schedule").await, 6);
    // What was cancelled can be scheduled again.
    app.commands().cancel_schedule(&anna, ids[0]).await.unwrap();
    let again = schedule_by(&app, &anna, event, Which::Keys(&three), at).await.unwrap();
    assert_ne!(again.id, ids[0]);
}

/// Operators stop what they must; a program stops only what it has scheduled itself.
#[tokio::test]
async fn who_may_change_and_cancel_a_schedule() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let of =
        |actor: &str, role| Caller { actor: actor.into(), role, organisation: Some(organisation) };
    let uploads = of("token 1 (uploads)", Role::Pipeline);
    let own = schedule_by(&app, &uploads, event, Which::All, in_hours(1)).await.unwrap().id;
    let annas = schedule(&app, event, 1).await;
    let commands = app.commands();

    let refused = commands.cancel_schedule(&uploads, annas).await.unwrap_err();
    assert!(refused.to_string().contains("scheduled itself"), "{refused}");
    assert!(commands.move_schedule(&uploads, annas, in_hours(2)).await.is_err());
    assert!(commands.cancel_schedule(&of("f", Role::Finance), annas).await.is_err());
    assert_eq!(found(&app, annas).await.ended, None);
    commands.move_schedule(&uploads, own, in_hours(2)).await.unwrap();
    commands.cancel_schedule(&uploads, own).await.unwrap();
    commands.cancel_schedule(&of("ops", Role::Operator), annas).await.unwrap();
}

/// A customer reads why photos are not queued, and not what PostgreSQL has to say.
#[tokio::test(flavor = "multi_thread")]
async fn trouble_is_told_in_our_words_and_shows_in_the_metrics() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    let id = schedule(&app, event, 1).await;
    let late = async || schedules::seconds_late(&mut *app.db().await).await.unwrap();
    assert!(late().await < 1.0, "it is not due");
    app.owner_runs(
        "CREATE FUNCTION photogate.break() RETURNS trigger LANGUAGE plpgsql AS \
         $$BEGIN RAISE EXCEPTION 'relation \"secret\" is broken'; END$$; \
         CREATE TRIGGER broken BEFORE INSERT ON photogate.run EXECUTE FUNCTION photogate.break()",
    )
    .await;
    time_passes(&app).await;
    app.owner_runs("UPDATE photogate.schedule SET due_at = due_at - interval '1 hour'").await;

    let worker = app.start_worker();
    app.until("it says why", async || found(&app, id).await.trouble.is_some()).await;

    let trouble = found(&app, id).await.trouble.unwrap();
    assert!(!trouble.contains("secret") && trouble.contains("support"), "{trouble}");
    assert!(late().await > 3600.0);
    app.owner_runs("DROP TRIGGER broken ON photogate.run").await;
    time_passes(&app).await;
    app.until("it is processed", async || app.processing(event).await.processed == 1).await;
    assert!(late().await < 1.0);
    worker.drain().await;
}
