//! The chain that seals the ledger, and who sees which rows.

use photogate::{
    database,
    ids::OrganisationId,
    ledger::{
        credits::Credits,
        hash_chain::{self, Verified},
        top_up::{self, TopUp, TopUpKind},
    },
    worker::verdict::Verdict,
};
use sqlx::{Connection, Executor};

use crate::support::{App, photogate, place, refused_for_want_of_privilege};

/// Some of everything: top-ups with difficult words, reservations, commits, refunds, by two
/// organisations.
async fn an_app_with_a_ledger() -> App {
    let app = App::new().await;
    for _ in 0..2 {
        let (organisation, event) = app.an_event_with(20).await;
        app.queue(event, "ok", 6).await;
        let top_up = TopUp {
            organisation,
            kind: TopUpKind::FreeCredits,
            amount: Credits(3),
            actor: "Zoë \"Z\" O'Neill \\ \u{1}\u{1f}",
            note: "two\nlines\tand a tab, ünïcödé, 🏃",
            idempotency_key: "k/1",
        };
        top_up::top_up(&mut *app.db().await, top_up).await.unwrap();
    }
    let hand = app.a_worker().await;
    for (number, reservation) in hand.claim(12).await.into_iter().enumerate() {
        match number % 3 {
            0 => hand.fail(reservation).await,
            1 => hand.succeed(reservation).await,
            _ => hand.give_back(reservation, Verdict::HandedBack).await,
        };
    }
    app
}

async fn verify(app: &App) -> Vec<Verified> {
    hash_chain::verify(&mut *app.db().await, None, |_| ()).await.unwrap()
}

async fn export(app: &App) -> Vec<u8> {
    let mut written = Vec::new();
    hash_chain::export(&mut *app.db().await, None, &mut written).await.unwrap();
    written
}

#[tokio::test]
async fn every_entry_is_sealed_and_every_link_holds_here_and_in_an_export() {
    let app = an_app_with_a_ledger().await;

    let here = verify(&app).await;
    let there = hash_chain::verify_export(export(&app).await.as_slice(), |_| ()).unwrap();

    assert_eq!(here.len(), 2);
    assert!(here.iter().all(|one| one.broken.is_none() && one.head.entries > 10), "{here:#?}");
    assert_eq!(here, there);
}

#[tokio::test]
async fn whatever_is_changed_behind_the_gates_back_breaks_a_link_that_is_named() {
    for (change, entry, words) in [
        ("UPDATE ledger SET amount = 2000 WHERE organisation_id = 2 AND entry = 1", 1, "totals"),
        (
            "UPDATE ledger SET movement = 'commit' WHERE organisation_id = 2 \
             AND movement = 'refund'",
            9,
            "totals",
        ),
        (
            "UPDATE ledger SET at = at - interval '1 day' WHERE organisation_id = 2 AND entry = 4",
            3,
            "another time",
        ),
        ("UPDATE ledger SET worker_id = 7 WHERE organisation_id = 2 AND entry = 5", 3, "worker"),
        (
            "UPDATE top_up SET note = 'nothing' WHERE organisation_id = 2 \
             AND kind = 'free_credits'",
            2,
            "hash",
        ),
        (
            "UPDATE top_up SET price_per_credit = 1 WHERE organisation_id = 2 \
             AND kind = 'purchase'",
            1,
            "hash",
        ),
        (
            "UPDATE link SET available = available + 1 WHERE organisation_id = 2 \
             AND first_entry = 3",
            3,
            "totals",
        ),
        (
            "UPDATE link SET hash = sha256('x') WHERE organisation_id = 2 AND first_entry = 3",
            3,
            "hash",
        ),
        ("DELETE FROM ledger WHERE organisation_id = 2 AND entry = 5", 3, "are there"),
        ("DELETE FROM link WHERE organisation_id = 2 AND first_entry = 3", 9, "no link seals"),
        ("DELETE FROM link WHERE organisation_id = 2 AND first_entry > 8", 9, "the chain seals 8"),
        (
            "INSERT INTO ledger SELECT 999999, 0, 'top_up', 2, max(entry) + 1, 1000, NULL \
             FROM ledger WHERE organisation_id = 2",
            13,
            "the chain seals",
        ),
    ] {
        let mut app = an_app_with_a_ledger().await;
        app.audited = false;
        app.tamper(change).await;

        let verified = verify(&app).await;
        let exported = hash_chain::verify_export(export(&app).await.as_slice(), |_| ()).unwrap();

        assert!(verified[0].broken.is_none(), "{change}: the other organisation's chain holds");
        let broken = verified[1].broken.clone().unwrap_or_else(|| panic!("{change}: not found"));
        assert_eq!(broken.first_entry, entry, "{change}: {broken}");
        assert!(broken.what.contains(words), "{change}: {broken}");
        let unseen = ["SET at =", "SET worker_id"].iter().any(|part| change.contains(part));
        assert!(unseen || exported[1].broken.is_some(), "{change}: not found in the export");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_was_written_anew_lacks_the_link_that_was_noted() {
    let mut app = an_app_with_a_ledger().await;
    let noted = verify(&app).await[1].head.head.clone().unwrap();
    let run = |arguments: &[&str]| photogate(&app.config, arguments).status.code();
    assert_eq!(run(&["ledger", "verify", "--anchor", &noted]), Some(0));
    let file = place("chain.ndjson");
    std::fs::write(&file, export(&app).await).unwrap();
    let file = file.to_str().unwrap().to_owned();
    assert_eq!(run(&["ledger", "verify", "--export", &file, "--anchor", &noted]), Some(0));

    // The owner gives himself more, and seals all of it again.
    app.tamper("UPDATE ledger SET amount = amount + 1000 WHERE organisation_id = 2 AND entry = 1")
        .await;
    app.tamper(
        "UPDATE top_up SET amount = amount + 1000 WHERE organisation_id = 2 AND kind = 'purchase'",
    )
    .await;
    app.tamper(
        "UPDATE account SET funded = funded + 1000, available = available + 1000 \
         WHERE organisation_id = 2",
    )
    .await;
    app.owner_runs(
        "SET session_replication_role = replica;
         CREATE TEMPORARY TABLE old AS SELECT * FROM ledger WHERE organisation_id = 2;
         DELETE FROM ledger WHERE organisation_id = 2;
         DELETE FROM link WHERE organisation_id = 2;
         SET session_replication_role = origin;
         DO $$ DECLARE r ledger; BEGIN
             FOR r IN SELECT * FROM old ORDER BY entry LOOP
                 INSERT INTO ledger SELECT (r).*;
             END LOOP;
         END $$",
    )
    .await;

    assert_eq!(run(&["ledger", "verify"]), Some(0), "the new chain is a chain");
    assert_eq!(run(&["ledger", "verify", "--anchor", &noted]), Some(3));
    app.audited = false; // the openings of its months are not what they were
}

#[tokio::test]
async fn an_export_that_is_cut_or_changed_is_found_out() {
    let app = an_app_with_a_ledger().await;
    let whole = String::from_utf8(export(&app).await).unwrap();
    let verify = |text: &str| hash_chain::verify_export(text.as_bytes(), |_| ());

    let cut: String = whole.split_inclusive('\n').take(whole.lines().count() - 1).collect();
    let changed = whole.replacen("\"amount\":20", "\"amount\":21", 1);

    assert!(verify(&cut).unwrap()[1].broken.is_some());
    assert!(verify(&changed).unwrap()[0].broken.is_some());
    let headless: String = whole.split_inclusive('\n').skip(1).collect();
    assert!(matches!(verify(&headless), Err(hash_chain::ImportError::Headless(1))));
    assert!(matches!(verify(""), Err(hash_chain::ImportError::Empty)));
    assert!(matches!(
        verify(&format!("{whole}{whole}")),
        Err(hash_chain::ImportError::Repeated(_))
    ));
    assert!(matches!(verify("{}"), Err(hash_chain::ImportError::Line { line: 1, .. })));
}

/// Rows that no rehearsal writes, for organisations and their events.
const NOT_REHEARSED: &[&str] = &[
    "INSERT INTO bib SELECT photo_id, '1', 0, 0, 1, 1, 1, 'reading' FROM photo",
    "INSERT INTO rotation SELECT photo_id, 0, 1, false FROM photo",
    "INSERT INTO looked_at SELECT photo_id, 1, 1 FROM photo",
    "INSERT INTO reconsideration SELECT event_id FROM event",
    "INSERT INTO number_correction (photo_id, numbers, actor) SELECT photo_id, '{}', 'x' FROM photo",
    "INSERT INTO turn_correction (photo_id, turn, actor) SELECT photo_id, 0, 'x' FROM photo",
    "INSERT INTO face SELECT photo_id, 1, 0, 0, 1, 1, 1, NULL \
         FROM photo",
    "INSERT INTO hold (queue_id, owner, lifted_at, lifted_by) SELECT queue_id, 'x', now(), 'x' \
         FROM queue",
    "INSERT INTO follow_up SELECT queue_id, gen_random_uuid(), organisation_id, queue_id, 1000, 1, \
         'x', 'new' FROM queue",
    "INSERT INTO schedule (organisation_id, event_id, operation, due_at, asked, actor) \
         SELECT organisation_id, event_id, 'ai_rotation', now(), '', 'x' FROM event",
    "INSERT INTO schedule_part (schedule_id, keys) SELECT schedule_id, '{x}' FROM schedule",
    "INSERT INTO auto_top_up (organisation_id, switched_on, below, credits, monthly_max, \
         price_per_credit, currency, set_by, set_at) \
         SELECT organisation_id, false, 1, 1, 1, 1, 'EUR', 'x', now() FROM account",
    "INSERT INTO payment (provider, reference, purchase, organisation_id, amount, currency, kept) \
         SELECT 'x', organisation_id, 'x', organisation_id, 1, 'EUR', 'refused' FROM account",
    "INSERT INTO resume_cause SELECT organisation_id, 'refund', 1 FROM account",
    "INSERT INTO stretch SELECT queue_id, 1000, 1000, 'skipped', NULL, NULL, 'x' FROM queue",
    "INSERT INTO undo (organisation_id, event_id, act, actor) \
         SELECT organisation_id, event_id, 'hold', 'x' FROM event",
    "INSERT INTO change VALUES (1, 1, 'event.paused', 'x', now(), '{}'), \
         (2, 1, 'event.paused', 'x', now(), '{}')",
    "INSERT INTO archive (event_id, organisation_id, state, actor, erasures, ended_at) \
         SELECT event_id, organisation_id, 'stopped', 'x', '{}', now() FROM event",
    "INSERT INTO archive_part SELECT archive_id, 1, 'photos', 'x', 'x', 1, 0, 0, 0, 1, 1, \
         sha256('') FROM archive",
    "INSERT INTO archive_jobs SELECT organisation_id, -archive_id, -archive_id, true, archive_id \
         FROM archive",
    "INSERT INTO archive_queue SELECT queue_id, 1, 0, 0, 0, 0, 0, 0, 0, 0 FROM queue",
    "INSERT INTO change_end SELECT organisation_id FROM organisation",
    "INSERT INTO alert (organisation_id, kind, threshold, created_by) \
         SELECT organisation_id, 'failures', 5, 'x' FROM organisation",
    "INSERT INTO webhook (organisation_id, url, types, secret, created_by) SELECT organisation_id, \
         'https://x', '{event.paused}', repeat('x', 24)::bytea, 'x' FROM organisation",
    "INSERT INTO delivery SELECT webhook_id, 1, organisation_id, 'event.paused', 'x' FROM webhook",
    "INSERT INTO pulse SELECT 1, queue_id, 1, 0 FROM queue",
    "INSERT INTO pulse_taken SELECT queue_id, 1, 0 FROM queue",
    "INSERT INTO upload SELECT event_id, 'x', organisation_id, 1, repeat('x', 32)::bytea, 'x', now() \
         FROM event",
    "SELECT set_budget(event_id, 1000, 0, 'x') FROM event",
    "SELECT set_pace(organisation_id, event_id, 9, NULL, NULL, NULL, 'x') FROM event",
];

#[tokio::test]
async fn a_connection_set_to_one_organisation_reads_only_its_rows() {
    let app = an_app_with_a_ledger().await;
    let tables = [
        "organisation",
        "account",
        "month",
        "ledger",
        "link",
        "top_up",
        "auto_top_up",
        "payment",
        "event",
        "queue",
        "run",
        "usage",
        "in_flight",
        "photo",
        "job",
        "outcome",
        "stretch",
        "undo",
        "follow_up",
        "hold",
        "pulse",
        "pulse_taken",
        "looked_at",
        "face",
        "bib",
        "rotation",
        "reconsideration",
        "number_correction",
        "turn_correction",
        "timeline",
        "schedule",
        "schedule_part",
        "new_change",
        "change",
        "change_end",
        "delivery",
        "alert",
        "resume_cause",
        "steering",
        "budget",
        "budget_change",
        "pace",
        "upload",
        "archive",
        "archive_part",
        "archive_jobs",
        "archive_queue",
    ];
    let mut db = app.db().await;
    for change in NOT_REHEARSED {
        app.tamper(change).await;
    }
    // No organisation sees what is of the staff.
    let of_staff = app.count("SELECT count(*) FROM alert WHERE organisation_id = 0").await;
    assert!(of_staff > 0, "the staff have alerts from the start");

    let mut counts = Vec::new();
    for seen_by in [None, Some(1), Some(2), Some(99)] {
        let mut tx = db.begin().await.unwrap();
        if let Some(organisation) = seen_by {
            database::become_organisation(&mut tx, OrganisationId(organisation)).await.unwrap();
        }
        let mut rows = Vec::new();
        for table in tables {
            let count = format!("SELECT count(*) FROM {table}");
            rows.push(
                sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(count))
                    .fetch_one(&mut *tx)
                    .await
                    .unwrap(),
            );
        }
        counts.push(rows);
        tx.rollback().await.unwrap();
    }

    for (at, table) in tables.iter().enumerate() {
        assert!(counts[1][at] > 0 && counts[2][at] > 0, "{table}: an organisation sees its own");
        let of_staff = if *table == "alert" { of_staff } else { 0 };
        let of_both = counts[1][at] + counts[2][at];
        assert_eq!(counts[0][at], of_both + of_staff, "{table}: and nothing else");
        assert_eq!(counts[3][at], 0, "{table}: nobody sees nothing");
    }
    // Without a name nothing is seen, and nothing can be written in any case.
    let mut tx = db.begin().await.unwrap();
    tx.execute("SET LOCAL ROLE photogate_organisation").await.unwrap();
    let rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut *tx).await.unwrap();
    assert_eq!(rows, 0);
    refused_for_want_of_privilege(&mut tx, "SELECT close_months(1)").await;
    drop(tx);
    app.tamper("DELETE FROM archive_queue").await;
    app.tamper("DELETE FROM stretch").await;
    app.tamper("DELETE FROM follow_up").await;
}

#[tokio::test]
async fn every_table_is_secured_or_known_not_to_be() {
    let app = App::new().await;

    let open = app
        .count(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'photogate'::regnamespace \
             AND relkind = 'r' AND NOT relrowsecurity
             AND relname NOT IN ('_sqlx_migrations', 'worker', 'attempt', 'reconciliation', \
                 'ledger_checked', 'queue_checked', 'functions_applied')
             OR relname IN ('worker', 'attempt', 'reconciliation', 'ledger_checked', \
                 'queue_checked', 'functions_applied') AND has_table_privilege('photogate_organisation', oid, 'SELECT')",
        )
        .await;

    assert_eq!(open, 0, "a new table needs a policy in a migration, as in 0009_row_security.sql");
}
