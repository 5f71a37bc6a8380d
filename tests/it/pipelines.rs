//! A pipeline that connects to PostgreSQL itself queues photos in a transaction of its own.

use std::sync::atomic::{AtomicUsize, Ordering};

use photogate::{
    access::{Caller, audit_log},
    commands::{Addition, Commands, Twin},
    database,
    ids::{EventId, OrganisationId, PipelineId, ScheduleId},
    ledger::{credits::Credits, top_up::TopUpKind},
    notify::wake::Wake,
    queue::{enqueue, schedules},
};
use sqlx::{Connection, Executor, PgConnection, Row, SqlSafeStr, postgres::PgRow};

use crate::support::{App, code_of, photogate, read, refused_for_want_of_privilege, stderr};

static NEXT: AtomicUsize = AtomicUsize::new(1);

const BOTH: &str = "INSERT INTO uploads.batch VALUES ('camera 7')";

/// A login of the server, which has tables of its own beside photogate's.
struct Login<'a> {
    app: &'a App,
    name: String,
}

impl<'a> Login<'a> {
    async fn new(app: &'a App) -> Self {
        // Logins belong to the server, which the tests share.
        let name = format!("uploads_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let make = format!(
            "CREATE ROLE {name} LOGIN IN ROLE photogate_pipeline;
             CREATE SCHEMA uploads AUTHORIZATION {name};
             SET ROLE {name}; CREATE TABLE uploads.batch (name text)"
        );
        app.as_owner().await.execute(sqlx::AssertSqlSafe(make)).await.unwrap();
        Self { app, name }
    }

    async fn allowed_for(self, organisation: OrganisationId) -> Self {
        self.allow(organisation).await;
        self
    }

    async fn allow(&self, organisation: OrganisationId) -> PipelineId {
        let staff = Caller::trusted("staff@photogate.example");
        self.app.commands().allow_pipeline(&staff, &self.name, organisation).await.unwrap()
    }

    async fn connect(&self) -> PgConnection {
        let url = self.app.owner.replace("user=postgres", &format!("user={}", self.name));
        assert_ne!(url, self.app.owner, "it is another login");
        PgConnection::connect(&url).await.unwrap()
    }

    async fn batches(&self) -> i64 {
        self.app.count("SELECT count(*) FROM uploads.batch").await
    }
}

async fn enqueue(db: &mut PgConnection, event: EventId, keys: &[&str]) -> sqlx::Result<PgRow> {
    sqlx::query("SELECT * FROM photogate.enqueue_photos($1, 'photo_processing', $2)")
        .bind(event.0)
        .bind(keys)
        .fetch_one(db)
        .await
}

async fn refused(db: &mut PgConnection, statement: &str) -> (String, String) {
    let error = db.execute(sqlx::AssertSqlSafe(statement.to_owned())).await.expect_err(statement);
    (code_of(&error).unwrap_or_default(), error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_and_its_photos_are_both_there_or_neither_is() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let login = Login::new(&app).await.allowed_for(organisation).await;
    let hand = app.a_worker().await;
    let mut db = login.connect().await;

    let mut tx = db.begin().await.unwrap();
    tx.execute(BOTH).await.unwrap();
    assert_eq!(enqueue(&mut tx, event, &["a.jpg", "b.jpg"]).await.unwrap().get::<i32, _>(1), 2);
    assert!(hand.claim(5).await.is_empty(), "workers see nothing before the commit");
    tx.rollback().await.unwrap();
    assert_eq!((login.batches().await, app.processing(event).await.waiting), (0, 0));
    assert_eq!(app.count("SELECT count(*) FROM photo").await, 0);

    let mut tx = db.begin().await.unwrap();
    tx.execute(BOTH).await.unwrap();
    enqueue(&mut tx, event, &["a.jpg", "b.jpg"]).await.unwrap();
    assert!(hand.claim(5).await.is_empty(), "workers see nothing before the commit");
    tx.commit().await.unwrap();
    assert_eq!((login.batches().await, app.processing(event).await.waiting), (1, 2));

    // A part that is rolled back alone takes its photos with it.
    let mut tx = db.begin().await.unwrap();
    tx.execute("SAVEPOINT part").await.unwrap();
    enqueue(&mut tx, event, &["c.jpg"]).await.unwrap();
    tx.execute("ROLLBACK TO part").await.unwrap();
    tx.execute(BOTH).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((login.batches().await, app.processing(event).await.waiting), (2, 2));
    let mut keys: Vec<_> = hand.claim(5).await.iter().map(|one| one.key().to_owned()).collect();
    keys.sort();
    assert_eq!(keys, ["a.jpg", "b.jpg"]);
    assert_eq!(app.credits(organisation).await, (3, 2, 0));
}

/// A real worker, and no wake-up: it looks by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_finds_the_photos_after_the_commit_by_itself() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let login = Login::new(&app).await.allowed_for(organisation).await;
    let worker = app.start_worker();

    enqueue(&mut login.connect().await, event, &["rehearsal/ok/1"]).await.unwrap();

    app.until("it is processed", async || app.processing(event).await.processed == 1).await;
    worker.drain().await;
}

#[tokio::test]
async fn the_answer_says_what_was_queued_and_what_was_not() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    let login = Login::new(&app).await.allowed_for(organisation).await;
    let mut db = login.connect().await;
    enqueue(&mut db, event, &["done.jpg", "waits.jpg"]).await.unwrap();
    let hand = app.a_worker().await;
    let claimed = hand.claim(1).await.remove(0);
    hand.succeed(claimed).await;

    let row = enqueue(&mut db, event, &["new.jpg", "done.jpg", "waits.jpg", "new.jpg"]).await;

    let row = row.unwrap();
    let count = |name: &str| row.get::<i32, _>(name);
    assert_eq!((count("queued"), count("repeated"), count("already_queued")), (1, 1, 1));
    assert_eq!((count("already_processed"), count("failed_before")), (1, 0));
    assert_eq!((row.get::<i64, _>("available"), row.get::<i64, _>("shortfall")), (0, 2));
    let run: i64 = row.get("run");
    assert_eq!(app.count("SELECT max(run_id) FROM run").await, run);
    assert_eq!(row.get::<Vec<i64>, _>("runs"), [run, run - 1], "and where the others are");
    // Its ids grow with time, as those that the service makes.
    let ids: Vec<(uuid::Uuid,)> =
        sqlx::query_as("SELECT photo_id FROM photo ORDER BY key = 'new.jpg'")
            .fetch_all(&mut app.as_owner().await)
            .await
            .unwrap();
    assert!(ids.iter().all(|(id,)| id.get_version_num() == 7), "{ids:?}");
    assert!(ids[2] > ids[0] && ids[2] > ids[1], "{ids:?}");
    let now = uuid::Uuid::now_v7().get_timestamp().unwrap().to_unix().0;
    assert!(now.abs_diff(ids[2].0.get_timestamp().unwrap().to_unix().0) < 600, "{ids:?}");
}

#[tokio::test]
async fn a_login_reaches_what_it_was_given_and_nothing_else() {
    let app = App::new().await;
    let (ours, event) = app.an_event_with(5).await;
    let (_, foreign) = app.an_event_with(5).await;
    app.owner_runs("UPDATE photogate.organisation SET photos_under = organisation_id || '/'").await;
    let login = Login::new(&app).await;
    let mut db = login.connect().await;
    let call = |event: EventId, key: &str| {
        format!("SELECT photogate.enqueue_photos({event}, 'photo_processing', ARRAY['{key}'])")
    };

    let (code, told) = refused(&mut db, &call(event, "1/a.jpg")).await;
    assert!(code == "42501" && told.contains("photogate pipelines allow"), "{told}");

    let id = login.allow(ours).await;
    db.execute(sqlx::AssertSqlSafe(call(event, "1/a.jpg"))).await.unwrap();
    // Another's event, one that was deleted and one that never was: all the same.
    let deleted = app.an_event_of(ours).await;
    app.commands().delete_event(&Caller::trusted("anna"), deleted).await.unwrap();
    for event in [foreign, deleted, EventId(99)] {
        let (code, told) = refused(&mut db, &call(event, "1/a.jpg")).await;
        assert!(code == "PG002" && told.contains(&format!("no event {event}")), "{told}");
    }
    // Its part of the store.
    for key in ["2/a.jpg", "a.jpg"] {
        let (code, told) = refused(&mut db, &call(event, key)).await;
        assert!(code == "PG006" && told.contains("must start with \"1/\""), "{told}");
    }
    app.owner_runs("UPDATE photogate.organisation SET photos_under = ''").await;
    let (code, told) = refused(&mut db, &call(event, "1/b.jpg")).await;
    assert!(
        code == "PG006" && told.contains("several organisations may use the whole store"),
        "{told}"
    );
    app.owner_runs("UPDATE photogate.organisation SET photos_under = organisation_id || '/'").await;
    // Another role is not another login.
    db.execute("SET ROLE photogate_pipeline").await.unwrap();
    db.execute(sqlx::AssertSqlSafe(call(event, "1/c.jpg"))).await.unwrap();
    let other = Login { app: &app, name: format!("{}_2", login.name) };
    let make = format!("CREATE ROLE {} LOGIN IN ROLE {}", other.name, login.name);
    app.as_owner().await.execute(sqlx::AssertSqlSafe(make)).await.unwrap();
    let mut cuckoo = other.connect().await;
    cuckoo.execute(sqlx::AssertSqlSafe(format!("SET ROLE {}", login.name))).await.unwrap();
    assert_eq!(refused(&mut cuckoo, &call(event, "1/d.jpg")).await.0, "42501");

    let staff = Caller::trusted("staff@photogate.example");
    app.commands().revoke_pipeline(&staff, id).await.unwrap();
    assert_eq!(refused(&mut db, &call(event, "1/e.jpg")).await.0, "42501");
    assert_eq!(app.count("SELECT count(*) FROM job").await, 2);
}

/// All of the schema: a table or a function of tomorrow, too.
#[tokio::test]
async fn the_role_may_call_one_function_and_touch_no_table() {
    let app = App::new().await;
    let login = Login::new(&app).await;
    let mut db = login.connect().await;

    let may: Vec<(String,)> = sqlx::query_as(
        "SELECT p.oid::regprocedure::text FROM pg_proc p
         WHERE p.pronamespace = 'photogate'::regnamespace AND has_function_privilege(p.oid, 'EXECUTE')
         UNION ALL
         SELECT c.oid::regclass::text FROM pg_class c
         WHERE c.relnamespace = 'photogate'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p', 'S')
           AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'USAGE, SELECT, UPDATE')
                    ELSE has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, \
                                                     REFERENCES, TRIGGER')
                      OR has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE, REFERENCES') END",
    )
    .fetch_all(&mut db)
    .await
    .unwrap();
    assert_eq!(may.len(), 1, "{may:?}");
    assert!(may[0].0.starts_with("photogate.enqueue_photos("), "{may:?}");

    for statement in [
        "SELECT * FROM photogate.photo",
        "INSERT INTO photogate.pipeline (login) VALUES ('x')",
        "SELECT photogate.enqueue(1, 'ai_rotation', '{}', '{}', 'x')",
        "SELECT photogate.calling_pipeline(1)",
        "CREATE TABLE photogate.mine (x int)",
        "SET ROLE photogate_app",
    ] {
        refused_for_want_of_privilege(&mut db, statement).await;
    }
    // Nor can the service write into the chain of a pipeline.
    refused_for_want_of_privilege(
        &mut *app.db().await,
        "INSERT INTO audit_log (actor, pipeline_id, action, subject) VALUES ('x', 1, 'x', 'x')",
    )
    .await;
}

#[tokio::test]
async fn what_the_service_would_refuse_is_refused_here() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let login = Login::new(&app).await.allowed_for(organisation).await;
    let mut db = login.connect().await;
    let long = format!("'{}'", "a".repeat(101));
    for (arguments, words) in [
        ("'photo_processing', NULL", "0 keys"),
        ("'photo_processing', '{}'", "0 keys"),
        ("'photo_processing', '{{a.jpg,b.jpg}}'", "in a list"),
        ("'photo_processing', array_fill('a'::text, ARRAY[10001])", "10001 keys"),
        ("'photo_processing', ARRAY['a.jpg', NULL]", "photo 2 of the call: the key is empty"),
        ("'photo_processing', ARRAY['a.jpg', 'a//b']", "photo 2 of the call"),
        ("'portrait', '{a.jpg}'", "there is no operation \"portrait\": use photo_processing or"),
        ("NULL, '{a.jpg}'", "there is no operation"),
        ("'photo_processing', '{a.jpg}', actor => ''", "an actor has"),
        ("'photo_processing', '{a.jpg}', actor => E'a\\nb'", "an actor has"),
        (&format!("'photo_processing', '{{a.jpg}}', actor => {long}"), "an actor has"),
    ] {
        let call = format!("SELECT photogate.enqueue_photos({event}, {arguments})");
        let (code, told) = refused(&mut db, &call).await;
        assert!(code == "PG006" && told.contains(words), "{arguments}: {told}");
    }
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut tx = db.begin().await.unwrap();
        let set = format!("SET TRANSACTION ISOLATION LEVEL {level}");
        tx.execute(sqlx::AssertSqlSafe(set)).await.unwrap();
        let error = enqueue(&mut tx, event, &["a.jpg"]).await.unwrap_err();
        assert!(error.to_string().contains(&format!("this transaction is {level}")), "{error}");
    }
    // The quota of whoever let it in: one photo more than that waits without credits.
    app.owner_runs("UPDATE photogate.pipeline SET unpaid_photos_max = 2").await;
    enqueue(&mut db, event, &["1", "2", "3", "4", "5", "6", "7"]).await.unwrap();
    let error = enqueue(&mut db, event, &["8"]).await.unwrap_err();
    assert_eq!(code_of(&error).as_deref(), Some("PG009"), "{error}");
    assert_eq!(app.processing(event).await.waiting, 7);
    login.allow(organisation).await;
    enqueue(&mut db, event, &["8"]).await.unwrap();
    assert_eq!(app.count("SELECT count(*) FROM pipeline").await, 1, "only its limit is set anew");
}

/// One rule in two languages.
#[tokio::test]
async fn the_database_and_the_service_take_the_same_keys() {
    let app = App::new().await;
    let mut keys: Vec<String> = [
        "",
        "a",
        ".",
        "..",
        "...",
        "./a",
        "a/.",
        "a/..",
        "a/../b",
        "a/./b",
        "..a",
        "a..",
        ".a",
        "/a",
        "a/",
        "a//b",
        "/",
        "//",
        "a\\b",
        "a\nb",
        "a\n",
        "\u{7f}",
        "a\u{85}b",
        "a\u{9f}",
        "a\u{a0}b",
        "a b",
        " ",
        "ünïcödé/🏃.jpg",
        ".photogate/x",
        ".photogate",
        "a/.photogate/x",
        "2026/Köln Marathon/IMG_0001.JPG",
        "a\u{2028}b",
        "%2e%2e/a",
        "a'b",
        "a\"b",
        "$a",
        "a\u{1}b",
        "a\u{1f}b",
    ]
    .map(String::from)
    .into();
    for (letter, bytes) in [("a", 1), ("é", 2), ("🏃", 4)] {
        keys.extend([255, 256].map(|long| letter.repeat(long / bytes)));
        keys.extend([1024, 1028].map(|long| format!("a/{}", "b/".repeat(long / 2 - 2)) + letter));
    }
    keys.push("x".repeat(254) + "é");

    let mut differ = Vec::new();
    let mut refused = 0;
    for key in &keys {
        let here = enqueue::jobs(std::slice::from_ref(key)).err().map(|error| error.to_string());
        let there: Option<String> = sqlx::query_scalar("SELECT key_trouble($1)")
            .bind(key)
            .fetch_one(&mut app.as_owner().await)
            .await
            .unwrap();
        refused += usize::from(here.is_some());
        let same = match (&here, &there) {
            (None, None) => true,
            // A key is quoted differently.
            (Some(here), Some(there)) => here.contains(there) || there.contains("not a plain path"),
            _ => false,
        };
        if !same {
            differ.push((key, here, there));
        }
    }

    assert!(differ.is_empty(), "{differ:#?}");
    assert!(refused > 20 && refused < keys.len() - 10, "{refused} of {}", keys.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_in_the_audit_log_under_the_name_of_the_login() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let login = Login::new(&app).await.allowed_for(organisation).await;
    let mut db = login.connect().await;
    enqueue(&mut db, event, &["a.jpg"]).await.unwrap();
    let call = format!(
        "SELECT photogate.enqueue_photos({event}, 'ai_rotation', '{{a.jpg}}', \
         actor => 'staff@photogate.example')"
    );
    db.execute(sqlx::AssertSqlSafe(call)).await.unwrap();

    let log = audit_log::list(&mut *app.db().await, Some(organisation), None, 9).await.unwrap();
    let told: Vec<_> =
        log.iter().rev().map(|entry| (entry.action.as_str(), entry.actor.clone())).collect();
    let name = format!("login {}", login.name);
    let both = format!("{name}: staff@photogate.example");
    assert_eq!(
        told,
        [
            ("pipeline.allow", "staff@photogate.example".to_owned()),
            ("photos.enqueue", name.clone()),
            ("photos.enqueue", both.clone())
        ],
        "it cannot pass for somebody else"
    );
    assert_eq!(log[0].subject, format!("event {event}"));
    assert_eq!(log[0].detail["queued"], 1);
    assert_eq!(app.count("SELECT count(DISTINCT actor) FROM run").await, 2);

    // Its entries are a chain of their own, and are sealed.
    let chains = async || {
        let whose = Some(organisation);
        audit_log::verify(&mut *app.db().await, whose, |_| ()).await.unwrap()
    };
    let whole: Vec<_> = chains().await;
    let seen: Vec<_> = whole.iter().map(|one| (one.pipeline.is_some(), one.entries)).collect();
    assert_eq!(seen, [(false, 1), (true, 2)]);
    assert!(whole.iter().all(|one| one.organisation == Some(organisation)), "{whole:?}");
    assert!(whole.iter().all(|one| one.broken.is_none()), "{whole:?}");
    assert!(photogate(&app.config, &["audit", "verify"]).status.success());
    app.tamper("UPDATE audit_log SET actor = 'eve' WHERE pipeline_id IS NOT NULL AND link = 2")
        .await;
    assert!(chains().await[1].broken.is_some());
}

/// With a time it only keeps the photos; a worker queues them, as the login.
#[tokio::test]
async fn photos_are_scheduled_in_the_transaction_too() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let login = Login::new(&app).await;
    let id = login.allow(organisation).await;
    let mut db = login.connect().await;
    let call = format!(
        "SELECT run, queued, schedule FROM photogate.enqueue_photos({event}, 'photo_processing', \
         '{{a.jpg,b.jpg}}', not_before => now() + interval '1 hour')"
    );
    let mut tx = db.begin().await.unwrap();
    tx.execute(sqlx::AssertSqlSafe(call.clone())).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(app.count("SELECT count(*) FROM schedule").await, 0, "both or neither");
    let row = db.fetch_one(sqlx::AssertSqlSafe(call.clone())).await.unwrap();
    let (run, queued, first): (Option<i64>, i32, i64) = (row.get(0), row.get(1), row.get(2));
    assert_eq!((run, queued), (None, 2), "what would be queued now");
    let row = db.fetch_one(sqlx::AssertSqlSafe(call)).await.unwrap();
    let second: i64 = row.get(2);
    assert_eq!(app.processing(event).await.waiting, 0);
    // Whether the first was committed is not known: the same call with the same time finds it.
    let at = (chrono::Utc::now() + chrono::TimeDelta::hours(2)).to_rfc3339();
    let fixed = format!(
        "SELECT schedule FROM photogate.enqueue_photos({event}, 'photo_processing', '{{a.jpg}}', \
         not_before => '{at}')"
    );
    let mut made = Vec::new();
    for _ in 0..2 {
        let row = db.fetch_one(sqlx::AssertSqlSafe(fixed.clone())).await.unwrap();
        made.push(row.get::<i64, _>(0));
    }
    assert_eq!(made[0], made[1]);
    assert_eq!(
        app.count("SELECT count(*) FROM audit_log WHERE action = 'schedule.create'").await,
        3
    );

    app.owner_runs("UPDATE photogate.schedule SET due_at = now() - interval '1 s'").await;
    let queue = async |schedule: i64| {
        let db = &mut *app.db().await;
        schedules::enqueue_next(db, ScheduleId(schedule), 100).await.unwrap()
    };
    assert_eq!(queue(first).await, Some(2));
    let by = format!("SELECT count(*) FROM run WHERE actor = 'login {}'", login.name);
    let runs: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(by))
        .fetch_one(&mut app.as_owner().await)
        .await
        .unwrap();
    assert_eq!(runs, 1);
    // Revoked meanwhile: what it scheduled is not queued.
    app.commands().revoke_pipeline(&Caller::trusted("staff"), id).await.unwrap();
    assert_eq!(queue(second).await, Some(0));
    assert_eq!(app.count("SELECT count(*) FROM schedule WHERE ended_by = 'actor_gone'").await, 1);
    for at in ["now() - interval '1 s'", "now() + interval '2 years'"] {
        login.allow(organisation).await;
        let call = format!(
            "SELECT photogate.enqueue_photos({event}, 'ai_rotation', '{{a.jpg}}', not_before => {at})"
        );
        assert_eq!(refused(&mut db, &call).await.0, "PG006", "{at}");
    }
}

/// The transaction is not ours. It may stay open for as long as it likes.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_stays_open_holds_up_nobody_else() {
    let app = App::new().await;
    let (ours, event) = app.an_event_with(3).await;
    let (theirs, another) = app.an_event_with(3).await;
    app.owner_runs("UPDATE photogate.organisation SET photos_under = 'rehearsal/'").await;
    app.queue(event, "fail", 3).await;
    app.queue(another, "ok", 3).await;
    let hand = app.a_worker().await;
    let mut first = hand.claim(2).await;
    let login = Login::new(&app).await.allowed_for(ours).await;
    let mut open = login.connect().await;
    open.execute("BEGIN").await.unwrap();
    enqueue(&mut open, event, &["rehearsal/late"]).await.unwrap();

    // A top-up of the same organisation, with its entry in the audit log, has the account; and
    // settlements wait for accounts.
    let impatient = app.owner.clone()
        + "&options=-c%20role%3Dphotogate_app%20-c%20search_path%3Dphotogate%20-c%20lock_timeout%3D500ms";
    let pool = sqlx::PgPool::connect(&impatient).await.unwrap();
    let commands = Commands::new(pool, Wake::silent());
    let staff = Caller::trusted("staff@photogate.example");
    let grant = Addition {
        organisation: ours,
        kind: TopUpKind::FreeCredits,
        credits: Credits(2),
        note: "",
        idempotency_key: "gift",
        price: None,
        twin: Twin::Refused,
    };
    commands.add_credits(&staff, &grant).await.expect("it waits for nobody");
    for reservation in first.drain(..) {
        assert!(hand.fail(reservation).await, "it is settled");
    }
    let claimed = hand.claim(9).await;
    assert_eq!(claimed.len(), 4, "what waited already is claimed, of both");
    assert!(claimed.iter().all(|one| one.key() != "rehearsal/late"));
    commands.revoke_pipeline(&staff, PipelineId(1)).await.expect("it waits for nobody");
    open.execute("COMMIT").await.unwrap();
    assert_eq!(app.processing(event).await.waiting, 1, "it had called before it was revoked");
    assert_eq!(app.credits(theirs).await.0 + app.credits(theirs).await.1, 3);
}

/// Two transactions of one login, over two events in turn: they wait for each other in a row, never
/// in a circle.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_of_a_login_take_turns() {
    let app = App::new().await;
    let (organisation, one) = app.an_event_with(9).await;
    let two = app.an_event_of(organisation).await;
    let login = Login::new(&app).await.allowed_for(organisation).await;
    let mut first = login.connect().await;
    let mut second = login.connect().await;
    first.execute("BEGIN").await.unwrap();
    enqueue(&mut first, one, &["a.jpg"]).await.unwrap();

    let other = tokio::spawn(async move {
        second.execute("BEGIN").await.unwrap();
        enqueue(&mut second, two, &["a.jpg"]).await.unwrap();
        enqueue(&mut second, one, &["b.jpg"]).await.unwrap();
        second.execute("COMMIT").await.unwrap();
    });
    app.until_somebody_waits_for_a_lock().await;
    enqueue(&mut first, two, &["b.jpg"]).await.unwrap();
    first.execute("COMMIT").await.unwrap();
    other.await.unwrap();

    assert_eq!(app.processing(one).await.waiting + app.processing(two).await.waiting, 4);
}

/// What docs/pipelines.md promises. A change of this list is a break of programs of others, unless
/// something was added.
#[tokio::test]
async fn the_interface_is_what_the_page_promises() {
    let app = App::new().await;
    let (arguments, result): (String, String) = sqlx::query_as(
        "SELECT pg_get_function_arguments(oid), pg_get_function_result(oid) FROM pg_proc
         WHERE oid = 'photogate.enqueue_photos'::regproc",
    )
    .fetch_one(&mut app.as_owner().await)
    .await
    .unwrap();
    assert_eq!(
        arguments,
        "event bigint, operation text, keys text[], actor text DEFAULT NULL::text, \
         not_before timestamp with time zone DEFAULT NULL::timestamp with time zone, \
         priority text DEFAULT 'normal'::text, OUT run bigint, \
         OUT queued integer, OUT repeated integer, OUT already_queued integer, \
         OUT already_processed integer, OUT failed_before integer, OUT skipped_before integer, \
         OUT available bigint, OUT shortfall bigint, OUT schedule bigint, \
         OUT undecided_before integer, OUT runs bigint[]"
    );
    assert_eq!(result, "record", "one row");

    // The page names each, with its type.
    let page = read("docs/pipelines.md");
    for argument in arguments.replace("OUT ", "").split(", ") {
        let (name, kind) = argument.split_once(' ').unwrap();
        let kind = kind.split(" DEFAULT").next().unwrap();
        let kind = kind.replace("timestamp with time zone", "timestamptz");
        let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` | {kind} |")));
        assert!(row.is_some(), "docs/pipelines.md does not tell of {argument}");
    }
    assert!(read("README.md").contains("(docs/pipelines.md)"));
}

/// The page's own statements run.
#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_page_work() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let login = Login::new(&app).await.allowed_for(organisation).await;
    let mut db = login.connect().await;
    db.execute("ALTER TABLE uploads.batch ADD photos integer").await.unwrap();
    let page = read("docs/pipelines.md");
    let block = |language: &str| {
        let (_, rest) = page.split_once(&format!("```{language}\n")).expect(language);
        rest.split_once("```").unwrap().0.to_owned()
    };

    db.execute(sqlx::AssertSqlSafe(block("sql"))).await.unwrap();
    assert_eq!((login.batches().await, app.processing(event).await.waiting), (1, 2));

    // The statements of the other languages, with PostgreSQL's own parameters.
    let mut statements = 0;
    for language in ["rust", "python"] {
        for text in block(language).split('"').skip(1).step_by(2).filter(|text| text.contains(' '))
        {
            if !text.starts_with("INSERT") && !text.starts_with("SELECT") {
                continue;
            }
            let mut text = text.to_owned();
            for number in 1..=9 {
                text = text.replacen("%s", &format!("${number}"), 1);
            }
            db.prepare(sqlx::AssertSqlSafe(text.clone()).into_sql_str()).await.expect(&text);
            statements += 1;
        }
    }
    assert_eq!(statements, 4);
}

/// What somebody has built on the function outlives an upgrade.
#[tokio::test(flavor = "multi_thread")]
async fn views_and_functions_of_others_stay_when_the_functions_are_replaced() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let login = Login::new(&app).await.allowed_for(organisation).await;
    let mut db = login.connect().await;
    let make = format!(
        "CREATE FUNCTION uploads.upload(key text) RETURNS integer BEGIN ATOMIC
             INSERT INTO uploads.batch VALUES (key);
             SELECT queued FROM photogate.enqueue_photos({event}, 'photo_processing', ARRAY[key]);
         END;
         CREATE VIEW uploads.two AS
         SELECT queued FROM photogate.enqueue_photos({event}, 'photo_processing', '{{b.jpg}}')"
    );
    db.execute(sqlx::AssertSqlSafe(make)).await.unwrap();

    app.owner_runs("UPDATE photogate.functions_applied SET hash = repeat('0', 64)").await;
    database::migrate(&app.owner).await.unwrap();

    db.execute("SELECT uploads.upload('a.jpg'); SELECT * FROM uploads.two").await.unwrap();
    assert_eq!((login.batches().await, app.processing(event).await.waiting), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_let_in_and_revoked_by_the_command_line() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    let login = Login::new(&app).await;
    let run = |arguments: &[&str]| photogate(&app.config, arguments);

    let allowed = run(&["pipelines", "allow", &login.name, "--organisation", "1"]);
    assert!(allowed.status.success() && stderr(&allowed).is_empty(), "{}", stderr(&allowed));
    enqueue(&mut login.connect().await, event, &["a.jpg"]).await.unwrap();
    let nobody = run(&["pipelines", "allow", "nobody_at_all", "--organisation", "1"]);
    assert!(nobody.status.success() && stderr(&nobody).contains("cannot call yet"));
    let listed = app.says(&["pipelines", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        (&listed[0]["can_connect"], &listed[1]["can_connect"]),
        (&false.into(), &true.into())
    );
    assert_eq!(listed[1]["unpaid_photos_max"], app.config.unpaid_photos_max);

    app.says(&["pipelines", "revoke", "1", "--actor", "staff@photogate.example"]);
    let error = enqueue(&mut login.connect().await, event, &["b.jpg"]).await.unwrap_err();
    assert_eq!(code_of(&error).as_deref(), Some("42501"));
    for (arguments, code) in [
        (["pipelines", "revoke", "99"].as_slice(), 4),
        (&["pipelines", "allow", "x", "--organisation", "99"], 4),
        (&["pipelines", "allow", "", "--organisation", "1"], 1),
    ] {
        assert_eq!(run(arguments).status.code(), Some(code), "{arguments:?}");
    }
}
