//! What finance asks: months, statements, receipts, refunds.

use chrono::{DateTime, Utc};
use photogate::{
    catalog::{events, organisations},
    ids::{Operation, OrganisationId, RunId},
    ledger::{
        credits::Credits,
        history::{self, Kind, Page},
        months::{self, Month},
        receipt, refunds,
        statement::{self, Statement, StatementError},
        top_up::TopUpError,
    },
    queue::claim,
    worker::verdict::Verdict,
};

use crate::support::{App, Process, a_free_address, metric, photogate, place, program};

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The statement of a month, by its first day.
async fn statement_of(
    app: &App,
    organisation: OrganisationId,
    which: &str,
) -> Result<Statement, StatementError> {
    let db = &mut *app.db().await;
    statement::statement(db, organisation, which.parse().unwrap(), usize::MAX).await
}

/// The last months, the newest first.
async fn latest_months(app: &App, organisation: OrganisationId, before: i32) -> Vec<Month> {
    months::latest(&mut *app.db().await, organisation, before).await.unwrap()
}

#[tokio::test]
async fn months_begin_and_end_in_the_organisations_time_zone() {
    let app = App::new().await;
    app.set_the_clock("2026-10-10T12:00:00Z").await;
    let (organisation, event) = app.an_event_with(100).await; // Europe/Berlin
    app.queue(event, "ok", 20).await;
    let hand = app.a_worker().await;

    // Summer time ended on 25 October: November begins at 23:00 UTC, an hour later than October
    // did.
    app.set_the_clock("2026-10-31T22:59:59Z").await;
    let mut held = hand.claim(8).await;
    app.set_the_clock("2026-10-31T23:00:00Z").await;
    hand.fail(held.remove(0)).await;
    hand.succeed(held.remove(0)).await;
    held.extend(hand.claim(3).await);
    app.top_up(organisation, 50).await;

    let latest = latest_months(&app, organisation, 3).await;
    let shown: Vec<_> = latest
        .iter()
        .map(|one| {
            (
                one.month.to_string(),
                one.usage.0,
                one.added.0,
                one.net.0,
                one.transactions,
                one.current,
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("2026-11-01".into(), 2, 50, 48, 3, true),
            ("2026-10-01".into(), 8, 100, 92, 2, false),
            ("2026-09-01".into(), 0, 0, 0, 0, false),
            ("2026-08-01".into(), 0, 0, 0, 0, false),
        ]
    );
    assert_eq!(latest[1].begins_at, instant("2026-09-30T22:00:00Z"));
    assert_eq!(latest[0].begins_at, instant("2026-10-31T23:00:00Z"));
    assert_eq!(latest[0].closing, app.balance(organisation).await.available);
    assert_eq!(latest[0].opening, latest[1].closing);
    hand.succeed_all(held).await;
}

#[tokio::test]
async fn an_hour_that_happens_twice_at_midnight_belongs_to_the_month_that_begins() {
    let app = App::new().await;
    app.set_the_clock("2026-10-31T12:00:00Z").await;
    let organisation =
        organisations::create(&mut *app.db().await, "Club", "America/Havana").await.unwrap();
    organisations::set_price(&mut *app.db().await, organisation, Some(&"1 CUP".parse().unwrap()))
        .await
        .unwrap();

    // Havana, 1 November 2026: at one o'clock it is midnight again.
    for (at, amount) in
        [("2026-11-01T03:59:59Z", 1), ("2026-11-01T04:00:00Z", 10), ("2026-11-01T05:30:00Z", 100)]
    {
        app.set_the_clock(at).await;
        app.top_up(organisation, amount).await;
    }

    let latest = latest_months(&app, organisation, 1).await;
    assert_eq!((latest[0].added, latest[1].added), (Credits(110), Credits(1)));
}

#[tokio::test]
async fn the_closing_of_a_month_is_the_opening_of_the_next_and_a_closed_month_never_changes() {
    let app = App::new().await;
    app.set_the_clock("2026-08-30T12:00:00Z").await;
    let (organisation, event) = app.an_event_with(100).await;
    app.queue(event, "ok", 50).await;
    let hand = app.a_worker().await;
    let of = async |which: &str| statement_of(&app, organisation, which).await.unwrap();

    let held = hand.claim(30).await;
    app.set_the_clock("2026-09-15T12:00:00Z").await;
    let august = of("2026-08-01").await;
    for (number, reservation) in held.into_iter().enumerate() {
        if number < 4 {
            hand.fail(reservation).await
        } else {
            hand.succeed(reservation).await
        };
    }
    // October passes without a movement.
    app.set_the_clock("2026-11-02T12:00:00Z").await;
    let held = hand.claim(5).await;

    let (september, october, november) =
        (of("2026-09-01").await, of("2026-10-01").await, of("2026-11-01").await);
    assert_eq!((august.opening.0, august.closing.0, august.closed), (0, 70, true));
    assert_eq!((september.opening.0, september.closing.0), (70, 74));
    assert_eq!((october.opening.0, october.closing.0, october.lines.len()), (74, 74, 0));
    assert_eq!((november.opening.0, november.closing.0, november.closed), (74, 69, false));
    assert_eq!(
        september
            .lines
            .iter()
            .map(|line| (line.kind, line.credits.0, line.balance.0))
            .collect::<Vec<_>>(),
        [(Kind::Refund, 4, 74)]
    );
    assert_eq!(
        serde_json::to_value(&of("2026-08-01").await).unwrap(),
        serde_json::to_value(&august).unwrap()
    );
    hand.succeed_all(held).await;
}

#[tokio::test]
async fn whoever_is_about_to_book_cannot_change_a_month_that_was_closed() {
    let app = App::new().await;
    app.set_the_clock("2026-10-31T22:59:59Z").await;
    let organisation = app.an_organisation_with(10).await;
    let closing = async || statement_of(&app, organisation, "2026-10-01").await.unwrap().closing;

    app.set_the_clock("2026-10-31T23:00:00Z").await;
    let before = closing().await;
    // A server whose clock is a little behind.
    app.set_the_clock("2026-10-31T22:59:58Z").await;
    app.top_up(organisation, 5).await;

    assert_eq!(closing().await, before);
    let latest = latest_months(&app, organisation, 1).await;
    assert_eq!(latest.iter().map(|one| one.added.0).collect::<Vec<_>>(), [5, 10]);
}

#[tokio::test]
async fn there_is_no_statement_of_what_has_not_begun_or_of_nobody() {
    let app = App::new().await;
    app.set_the_clock("2026-11-23T12:00:00Z").await;
    let organisation = app.an_organisation_with(10).await;

    let early = statement_of(&app, organisation, "2026-12-01").await;
    let nobody = statement_of(&app, OrganisationId(99), "2026-11-01").await;

    assert!(matches!(early, Err(StatementError::NotBegun { .. })), "{early:?}");
    assert!(matches!(nobody, Err(StatementError::NoOrganisation(_))), "{nobody:?}");
}

#[tokio::test]
async fn a_history_is_read_page_by_page_and_nothing_is_missed_or_told_twice() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(100).await;
    let events = [app.an_event_of(organisation).await, app.an_event_of(organisation).await];
    let hand = app.a_worker().await;
    for round in 0..6 {
        app.queue_keys(
            events[round % 2],
            Operation::PhotoProcessing,
            &[format!("rehearsal/ok/{round}"), format!("rehearsal/fail/{round}")],
        )
        .await;
        let mut claimed = hand.claim(2).await;
        hand.fail(claimed.remove(0)).await;
        hand.succeed(claimed.remove(0)).await;
    }
    let read = async |page: Page<'_>| {
        history::history(&mut *app.db().await, organisation, page).await.unwrap()
    };

    let whole = read(Page { most: 200, ..Page::default() }).await;
    let mut paged = Vec::new();
    let mut after = None;
    loop {
        let page = read(Page { most: 4, after, ..Page::default() }).await;
        let Some(last) = page.last() else { break };
        // As it travels through an address.
        after = Some(last.cursor.to_string().parse().unwrap());
        paged.extend(page);
    }

    assert_eq!(whole.len(), 13, "a top-up, and for each run a usage and a refund");
    assert!(whole.windows(2).all(|two| two[0].at >= two[1].at));
    let told = |rows: &[history::Movement]| serde_json::to_value(rows).unwrap();
    assert_eq!(told(&paged), told(&whole));
    let refunds =
        read(Page { kinds: &[Kind::Refund], event: Some(events[1]), ..Page::default() }).await;
    assert_eq!(refunds.len(), 3);
    assert!(refunds.iter().all(|row| row.event == Some(events[1]) && row.credits == Credits(1)));
    assert!("nonsense".parse::<history::Cursor>().is_err());
}

#[tokio::test]
async fn a_row_of_the_history_is_made_of_photos() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(2).await;
    let run = app.queue(event, "ok", 4).await.run.unwrap();
    let hand = app.a_worker().await;
    let mut claimed = hand.claim(2).await;
    hand.fail(claimed.remove(0)).await;
    let held = hand.claim(1).await;

    let photos = history::photos_of_run(&mut *app.db().await, run, 0, 10).await.unwrap();
    let rest =
        history::photos_of_run(&mut *app.db().await, run, photos[1].position, 10).await.unwrap();

    let states: Vec<_> = photos.iter().map(|photo| photo.state.as_str()).collect();
    assert_eq!(states, ["failed", "in_progress", "in_progress", "waiting"]);
    assert!(photos[0].charged_at.is_some() && photos[0].refunded_at.is_some());
    assert!(photos[3].charged_at.is_none());
    assert_eq!(rest.len(), 2);
    let none = history::photos_of_run(&mut *app.db().await, RunId(99), 0, 10).await.unwrap();
    assert!(none.is_empty());
    hand.succeed_all(claimed.into_iter().chain(held)).await;
}

#[tokio::test]
async fn a_receipt_tells_everything_that_happened_to_a_credit() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(10).await;
    let run = app.queue(event, "ok", 3).await;
    let hand = app.a_worker().await;
    let mut claimed = hand.claim(3).await;
    let photo = claimed[0].photo();
    hand.give_back(claimed.remove(0), Verdict::HandedBack).await;
    let again = hand.adopt(1).await.remove(0);
    hand.fail(again).await;
    hand.succeed_all(claimed).await;

    let told = receipt::receipt(&mut *app.db().await, photo, None).await.unwrap().unwrap();

    assert_eq!(
        (told.event, told.organisation, told.key.as_str()),
        (event, organisation, "rehearsal/ok/1")
    );
    let [job] = told.jobs.as_slice() else { panic!("one job: {told:?}") };
    assert_eq!(
        (job.state.as_str(), job.run, job.queued_by.as_str()),
        ("failed", run.run.unwrap(), "pipeline@club.example")
    );
    assert_eq!(job.reason.as_deref(), Some("corrupt"));
    let (reserved, closed) = (job.reserved.as_ref().unwrap(), job.closed.as_ref().unwrap());
    assert_eq!((reserved.entry, reserved.balance_before.0, reserved.balance_after.0), (2, 10, 9));
    assert_eq!((closed.movement.as_str(), closed.entry), ("refund", 5));
    assert_eq!((closed.balance_before.0, closed.balance_after.0), (7, 8));
    assert!(reserved.link.len() == 64 && closed.link.len() == 64 && reserved.link != closed.link);
    let ended: Vec<_> = job.attempts.iter().map(|one| (one.number, one.ended.as_deref())).collect();
    assert_eq!(ended, [(1, Some("handed_back")), (2, Some("settled"))]);
    let rotation =
        receipt::receipt(&mut *app.db().await, photo, Some(Operation::AiRotation)).await.unwrap();
    assert!(rotation.unwrap().jobs.is_empty());
}

#[tokio::test]
async fn refunds_are_counted_by_reason_event_and_organisation_and_traced_to_photos() {
    let app = App::new().await;
    let clubs = [app.an_organisation_with(10).await, app.an_organisation_with(10).await];
    let hand = app.a_worker().await;
    for (number, club) in clubs.into_iter().enumerate() {
        let event = app.an_event_of(club).await;
        app.queue(event, "ok", 3).await;
        let mut claimed = hand.claim(3).await;
        for _ in 0..=number {
            hand.fail(claimed.pop().unwrap()).await;
        }
        hand.succeed_all(claimed).await;
    }
    let since =
        |organisation| refunds::Filter { since: DateTime::UNIX_EPOCH, until: None, organisation };

    let count = async |by| {
        let rows = refunds::count(&mut *app.db().await, since(None), by).await.unwrap();
        rows.into_iter().map(|row| (row.of, row.photos, row.credits.0)).collect::<Vec<_>>()
    };
    assert_eq!(count(refunds::By::Reason).await, [("corrupt".into(), 3, 3)]);
    assert_eq!(count(refunds::By::Organisation).await, [("2".into(), 2, 2), ("1".into(), 1, 1)]);
    assert_eq!(count(refunds::By::Event).await, [("2".into(), 2, 2), ("1".into(), 1, 1)]);

    let first = refunds::list(&mut *app.db().await, since(Some(clubs[1])), None, 1).await.unwrap();
    let then = Some((first[0].at, first[0].job));
    let second = refunds::list(&mut *app.db().await, since(Some(clubs[1])), then, 1).await.unwrap();
    assert_ne!(first[0].photo, second[0].photo);
    let told =
        receipt::receipt(&mut *app.db().await, second[0].photo, None).await.unwrap().unwrap();
    assert_eq!(told.jobs[0].closed.as_ref().unwrap().entry, second[0].entry);
}

#[tokio::test]
async fn a_purchase_keeps_the_price_of_its_moment() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    let price = |text: &str| Some(text.parse().unwrap());
    let set = async |price: Option<organisations::Price>| {
        organisations::set_price(&mut *app.db().await, organisation, price.as_ref()).await.unwrap();
    };

    set(price("0.05 EUR")).await;
    app.top_up_with(organisation, 10, "order-1").await.unwrap();
    set(price("0.0725 CHF")).await;
    app.top_up_with(organisation, 20, "order-2").await.unwrap();
    app.top_up_with(organisation, 10, "order-1").await.unwrap();
    set(None).await;
    let refused = app.top_up_with(organisation, 30, "order-3").await;

    assert!(matches!(refused, Err(TopUpError::NoPrice(_))), "{refused:?}");
    let rows = history::history(&mut *app.db().await, organisation, Page::default()).await.unwrap();
    let prices: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.credits.0,
                row.price_per_credit.map(|price| price.normalize().to_string()),
                row.currency.clone(),
            )
        })
        .collect();
    assert_eq!(
        prices,
        [
            (20, Some("0.0725".into()), Some("CHF".into())),
            (10, Some("0.05".into()), Some("EUR".into()))
        ]
    );
}

#[tokio::test]
async fn skipped_photos_are_passed_over_and_cost_nothing_until_they_are_restored() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(100).await;
    app.queue(event, "ok", 6).await;
    let ids = async |numbers: &[usize]| {
        let mut found = Vec::new();
        for number in numbers {
            let key = format!("rehearsal/ok/{number}");
            found.push(events::photo(&mut *app.db().await, event, &key).await.unwrap().unwrap());
        }
        found
    };
    let operation = Operation::PhotoProcessing;
    let skip = async |numbers: &[usize]| {
        let photos = ids(numbers).await;
        photogate::queue::skips::skip(&mut *app.db().await, event, operation, &photos, "anna")
            .await
            .unwrap()
            .photos
    };
    let restore = async |numbers: &[usize]| {
        let photos = ids(numbers).await;
        photogate::queue::skips::restore(&mut *app.db().await, event, operation, &photos, "anna")
            .await
            .unwrap()
    };
    let hand = app.a_worker().await;
    let keys = |claimed: &[claim::Reservation]| {
        claimed
            .iter()
            .map(|one| one.key().rsplit('/').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };

    assert_eq!(skip(&[1, 3, 5]).await, 3);
    assert_eq!(skip(&[3]).await, 0, "once is enough");
    assert_eq!(app.processing(event).await.waiting, 3);
    assert_eq!(app.count("SELECT count(*) FROM stretch").await, 3);
    let mut held = hand.claim(1).await;
    assert_eq!(keys(&held), ["2"]);
    assert_eq!(skip(&[2]).await, 0, "what is claimed is not skipped any more");
    assert_eq!(restore(&[3]).await.photos, 1, "where it stood");
    assert_eq!(restore(&[1]).await.photos, 1, "the claims have passed it, so it is next");
    assert_eq!(restore(&[1, 2]).await.photos, 0);
    let again = app.queue(event, "ok", 6).await;
    assert_eq!(
        (again.queued, again.skipped.skipped_before, again.skipped.already_queued),
        (0, 1, 5)
    );
    held.extend(hand.claim(10).await);
    assert_eq!(keys(&held), ["2", "1", "3", "4", "6"]);
    assert_eq!(app.credits(organisation).await, (95, 5, 0));

    // A queue of which nothing but skipped photos is left is drained.
    app.queue_keys(event, Operation::PhotoProcessing, &["rehearsal/ok/7".into()]).await;
    assert_eq!(skip(&[7]).await, 1);
    assert!(hand.claim(10).await.is_empty());
    let restored = restore(&[7]).await;
    assert!(restored.woke && restored.photos == 1);
    held.extend(hand.claim(10).await);
    hand.succeed_all(held).await;
    assert_eq!(app.credits(organisation).await, (94, 0, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_shows_in_a_workers_log_and_in_its_metrics_and_says_where() {
    let mut app = App::new().await;
    app.an_organisation_with(5).await;
    app.audited = false;
    let log = place("drift.log");
    // Two, of which one checks the books; what it finds is an alarm at both.
    let workers = [0, 1].map(|number| {
        let address = a_free_address();
        let mut worker = program(&app.config);
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        worker
            .args(["work", "--rehearse"])
            .env("PHOTOGATE_RECONCILE_SECONDS", if number == 0 { "1" } else { "3600" })
            .env("PHOTOGATE_METRICS_LISTEN", address.to_string())
            .stderr(file);
        (Process::start(worker), address)
    });
    let drift = || {
        workers.each_ref().map(|(_, address)| {
            metric(
                *address,
                "photogate_books_drift{kind=\"incremental\",\
                 invariant=\"accounts_match_their_chains\"}",
            )
        })
    };

    app.until("the books were checked", async || drift().contains(&Some(0))).await;
    app.owner_runs("UPDATE account SET available = 4, spent = 1").await;
    app.until("the drift is seen", async || drift() == [Some(1); 2]).await;

    app.until("it is logged", async || {
        let said = std::fs::read_to_string(&log).unwrap();
        said.contains("ERROR")
            && said.contains("accounts_match_their_chains")
            && said.contains("organisation=1")
            && said.contains("available 4")
    })
    .await;
    app.until("it is kept", async || {
        app.count(
            "SELECT count(*) FROM reconciliation WHERE violations = 1 \
             AND broken->0->>'invariant' = 'accounts_match_their_chains'",
        )
        .await
            > 0
    })
    .await;
    app.owner_runs("UPDATE account SET available = 5, spent = 0").await;
    app.until("the alarm ends", async || drift() == [Some(0); 2]).await;
    // Once a day is enough.
    app.until("the full check has run", async || {
        app.count(
            "SELECT count(*) FROM reconciliation WHERE kind = 'full' AND ended_at IS NOT NULL",
        )
        .await
            == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finance_asks_on_the_command_line() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(10).await;
    app.queue_keys(
        event,
        Operation::PhotoProcessing,
        &["rehearsal/ok/1".into(), "rehearsal/fail/2".into(), "rehearsal/ok/3".into()],
    )
    .await;
    let run = |arguments: &[&str]| app.says(arguments);
    run(&["jobs", "skip", "1", "rehearsal/ok/3"]);
    let worker = app.start_worker();
    app.until_done(event).await;
    worker.drain().await;
    let months: serde_json::Value =
        serde_json::from_str(&run(&["credits", "months", "1", "--json"])).unwrap();
    let this_month = &months[0]["month"].as_str().unwrap()[..7];

    let receipt = run(&["receipt", "rehearsal/fail/2", "--event", "1"]);
    for words in [
        "queued by pipeline@club.example in run 1",
        "1 credit reserved",
        "attempt 1 by",
        "1 credit refunded: corrupt",
        "sealed by",
    ] {
        assert!(receipt.contains(words), "{words:?} is not in\n{receipt}");
    }
    assert!(run(&["receipt", "rehearsal/ok/3", "--event", "1"]).contains("skipped by cli"));
    let csv = run(&["statement", "--organisation", "1", "--month", this_month]);
    let rows: Vec<Vec<String>> = csv::Reader::from_reader(csv.as_bytes())
        .records()
        .map(|row| row.unwrap().iter().map(str::to_owned).collect())
        .collect();
    let told: Vec<_> =
        rows.iter().map(|row| (row[1].as_str(), row[2].as_str(), row[3].as_str())).collect();
    assert_eq!(
        told,
        [
            ("Opening", "", "0"),
            ("Purchase", "10", "10"),
            ("Usage", "-2", "8"),
            ("Refund", "1", "9"),
            ("Closing", "", "9")
        ]
    );
    let json: serde_json::Value = serde_json::from_str(&run(&[
        "statement",
        "--organisation",
        "1",
        "--month",
        this_month,
        "--format",
        "json",
    ]))
    .unwrap();
    assert_eq!(
        (&json["closing"], &json["closed"], &json["lines"][0]["currency"]),
        (&9.into(), &false.into(), &"EUR".into())
    );
    assert!(run(&["refunds", "--since", "2026-01-01"]).contains("corrupt"));
    assert!(run(&["refunds", "--since", "2026-01-01", "--photos"]).contains("rehearsal/fail/2"));
    assert!(run(&["credits", "months", "1"]).contains("(current)"));
    assert!(run(&["credits", "run", "1"]).contains("skipped"));
    assert!(run(&["ledger", "verify"]).lines().count() == 2);
    let missing = photogate(&app.config, &["receipt", "nothing.jpg", "--event", "1"]);
    assert_eq!(missing.status.code(), Some(4));
    run(&["jobs", "restore", "1", "rehearsal/ok/3"]);
    assert_eq!(app.processing(event).await.waiting, 1);
}
