//! The operator's journey: what stands still, why, and what is done about it; for one queue or for
//! many at once, and taken back as one.

use std::cell::Cell;

use photogate::{
    access::{Caller, Role},
    commands::{Bulk, BulkAct, CommandError},
    ids::{EventId, HoldId, Operation, PhotoId},
    queue::{
        enqueue::{self, Priority},
        failures, holds,
        pulse::{self, SLOTS},
        retry, skips,
    },
};
use serde_json::{Value, json};
use sqlx::Connection;

use crate::support::{
    App,
    browser::{Browser, DESK, Look, PHONE},
    site::{Site, Visitor},
};

const OPS: &str = "ops@photogate.example";
const PROCESSING: Operation = Operation::PhotoProcessing;

fn ops() -> Caller {
    Caller::trusted(OPS)
}

fn hold(queues: &[i64]) -> Bulk {
    let act = BulkAct::Hold { note: "bad camera clock".into(), until: None };
    Bulk { queues: queues.to_vec(), act }
}

/// The number of an event's photo-processing queue.
async fn queue_of(app: &App, event: EventId) -> i64 {
    app.processing(event).await.id
}

/// Takes the pulse, as that of so many slots ago.
async fn take_pulse(app: &App, ago: i32) -> i64 {
    sqlx::query_scalar("SELECT take_pulse(slot_of(clock_timestamp()) - $1)")
        .bind(ago)
        .fetch_one(&mut *app.db().await)
        .await
        .unwrap()
}

/// Somebody whose clicks are counted.
struct Counted<'a> {
    browser: &'a Browser,
    clicks: Cell<u32>,
}

impl Counted<'_> {
    async fn click(&self, css: &str) {
        self.clicks.set(self.clicks.get() + 1);
        self.browser.click(css).await;
    }

    async fn press(&self, name: &str) {
        self.clicks.set(self.clicks.get() + 1);
        self.browser.press(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_holds_a_queue_in_three_clicks_and_lifts_it_where_it_says_why() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(0).await;
    app.queue(event, "ok", 2).await;
    app.a_person(OPS, Role::Operator, None).await;
    let queue = queue_of(&app, event).await;
    let site = Site::of(&app).await;
    let browser = Browser::logged_in(&site, "operator", OPS).await;
    browser.sees("No credits").await;

    let hand = Counted { browser: &browser, clicks: Cell::new(0) };
    hand.click(&format!("#tick-{queue}")).await;
    hand.click("form.bulk button[value=hold]").await;
    browser.sees("2 photos that wait are not claimed any more").await;
    browser.keep("ask-hold").await;
    // The field has the focus: it needs no click.
    browser.write("input[name=note]:focus", "bad camera clock").await;
    hand.press("Hold now").await;
    browser.sees("You have held 1 queue.").await;
    assert_eq!(hand.clicks.get(), 3, "clicks from the page after the login");
    browser.sees("by ops@photogate.example “bad camera clock”").await;
    browser.keep("held").await;

    let worker = app.start_worker();
    app.top_up(organisation, 5).await;
    browser.go("/queues?state=held").await;
    browser.sees("bad camera clock").await;
    assert_eq!(app.processing(event).await.processed, 0);
    browser.press("Why").await;
    browser.sees("Do: ask ops@photogate.example to lift the hold").await;
    browser.keep("why").await;
    browser.press("Lift the hold of Marathon, Photo Processing").await;
    browser.sees("“bad camera clock” is lifted.").await;
    browser.keep("ask-lift").await;
    browser.press("Lift now").await;
    browser.sees("You have lifted the holds of 1 queue.").await;
    app.until_done(event).await;
    assert_eq!(app.processing(event).await.processed, 2);
    browser.close().await;
    worker.drain().await;
}

/// Queues in every state, and what was settled lately.
async fn a_busy_house(app: &App) {
    for (name, credits) in [("Club", 4), ("Verein", 0), ("Agency", 900)] {
        let organisation = app.an_organisation_with(credits).await;
        for n in 1..=5 {
            let event = photogate::catalog::events::create(
                &mut *app.db().await,
                organisation,
                &format!("{name} Marathon {}, the autumn edition", 2020 + n),
                true,
                false,
                "anna@club.example",
            )
            .await
            .unwrap();
            app.queue(event, "ok", 30 * n).await;
            if n == 4 {
                app.hold(event, OPS).await;
            }
        }
    }
    let hand = app.a_worker().await;
    for round in 0..6 {
        let mut claimed = hand.claim(20).await;
        let failed = claimed.split_off(claimed.len().saturating_sub(round));
        hand.succeed_all(claimed).await;
        hand.fail_all(failed).await;
        take_pulse(app, 18 - 3 * i32::try_from(round).unwrap()).await;
    }
    let claimed = hand.claim(24).await;
    assert!(!claimed.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_screen_shows_twenty_queues_and_a_phone_shows_them_as_cards() {
    let app = App::new().await;
    a_busy_house(&app).await;
    app.a_person(OPS, Role::Operator, None).await;
    let site = Site::of(&app).await;
    for (name, look) in [
        ("ops-desk-day", Look { width: 1440, height: 900, dark: false }),
        ("ops-desk-night", Look { width: 1440, height: 900, dark: true }),
        ("ops-phone-day", Look { width: 390, dark: false, ..PHONE }),
        ("ops-phone-night", Look { width: 390, ..PHONE }),
    ] {
        let browser = Browser::open(&site, name, look).await;
        browser.log_in(OPS).await;
        browser.go("/queues?state=all").await;
        browser.sees("Last 3 hours").await;
        browser.keep("queues").await;
        let ask = async |script| {
            browser.page.execute(script, Vec::new()).await.unwrap().as_i64().unwrap()
        };
        let wide = "return document.documentElement.scrollWidth - window.innerWidth";
        assert!(ask(wide).await <= 0, "{name} fits the width");
        if look.width > DESK.width {
            let rows = "return [...document.querySelectorAll('tbody tr')]\
                 .filter(row => row.getBoundingClientRect().bottom <= 900).length";
            let rows = ask(rows).await;
            assert!(rows >= 18, "{rows} queues are seen at once");
        } else {
            let cells = "return document.querySelector('tbody td').getBoundingClientRect().width";
            assert!(ask(cells).await > 250, "{name}: a cell is a line of a card");
        }
        browser.go("/workers").await;
        browser.sees("Slots in use").await;
        browser.keep("workers").await;
        browser.go("/queues/bulk?act=retry&queue=1&queue=3&queue=5&queue=21&queue=23").await;
        browser.keep("ask-retry").await;
        browser.close().await;
    }
}

#[tokio::test]
async fn several_queues_are_held_as_one_and_taken_back_as_one() {
    let app = App::new().await;
    let (_, one) = app.an_event_with(5).await;
    let (_, other) = app.an_event_with(5).await;
    for event in [one, other] {
        app.queue(event, "ok", 3).await;
    }
    let queues = [queue_of(&app, one).await, queue_of(&app, other).await];
    app.hold(other, "maintenance").await;
    let commands = app.commands();

    let plan = commands.plan_bulk(&ops(), &hold(&queues)).await.unwrap();
    assert_eq!((plan.queues(), plan.photos()), (1, 3), "the other is held already");
    let done = commands.bulk(&ops(), &hold(&queues)).await.unwrap();
    assert_eq!((done.queues, done.photos), (1, 3));
    let again = commands.bulk(&ops(), &hold(&queues)).await.unwrap();
    assert_eq!((again.queues, again.undo), (0, None), "a second click does nothing");
    assert_eq!(app.count("SELECT count(*) FROM hold").await, 2);

    // Both are lifted, and nothing that was placed after they were seen.
    let mut db = app.db().await;
    let seen: Vec<HoldId> =
        holds::standing_on(&mut db, &queues).await.unwrap().iter().map(|hold| hold.id).collect();
    let later = app.hold(one, "somebody else").await;
    let lift = Bulk { queues: queues.to_vec(), act: BulkAct::Lift(seen) };
    let lifted = commands.bulk(&ops(), &lift).await.unwrap();
    assert_eq!(lifted.queues, 2);
    let standing = holds::standing_on(&mut db, &queues).await.unwrap();
    assert_eq!(standing.iter().map(|hold| hold.id).collect::<Vec<_>>(), [later]);

    let open = commands.undoable_bulks(&ops()).await.unwrap();
    assert_eq!(open.iter().map(|one| one.queues).collect::<Vec<_>>(), [2, 1], "the newest first");
    commands.undo_bulk(&ops(), lifted.undo.unwrap()).await.unwrap();
    let standing = holds::standing_on(&mut db, &queues).await.unwrap();
    assert_eq!(standing.len(), 3, "both stand again");
    let error = commands.undo_bulk(&ops(), lifted.undo.unwrap()).await.unwrap_err();
    assert!(error.is_not_found(), "once is enough: {error}");
    // The first hold was lifted, and another one placed in its stead: that is not what was done.
    let error = commands.undo_bulk(&ops(), done.undo.unwrap()).await.unwrap_err();
    assert!(matches!(error, CommandError::Conflict { code: "moved_on", .. }), "{error}");
    let lines = "SELECT count(*) FROM audit_log WHERE detail ? 'bulk'";
    assert_eq!(app.count(lines).await, 3, "a line for each queue that was changed");
}

/// Found: what stands on a queue was looked at before the queue was locked, so two who pressed at once
/// placed two holds, and one Undo left the queue held.
#[tokio::test]
async fn who_presses_twice_at_once_places_one_hold_and_lifts_it_once() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    let queues = [queue_of(&app, event).await];
    let commands = app.commands();
    let (caller, bulk) = (ops(), hold(&queues));
    // Both have looked, and wait for the queue.
    let twice = async |bulk: &Bulk| {
        let mut other = app.as_owner().await;
        let mut locked = other.begin().await.unwrap();
        sqlx::query("SELECT FROM queue WHERE queue_id = $1 FOR UPDATE")
            .bind(queues[0])
            .execute(&mut *locked)
            .await
            .unwrap();
        let release = async {
            app.until_waiting(2).await;
            locked.rollback().await.unwrap();
        };
        let (first, second, ()) =
            tokio::join!(commands.bulk(&caller, bulk), commands.bulk(&caller, bulk), release);
        (first.unwrap(), second.unwrap())
    };

    let (first, second) = twice(&bulk).await;

    assert_eq!(app.count("SELECT count(*) FROM hold").await, 1);
    assert_eq!(first.queues + second.queues, 1);
    let undo = first.undo.or(second.undo).unwrap();
    let seen = holds::standing_on(&mut *app.db().await, &queues).await.unwrap();
    commands.undo_bulk(&caller, undo).await.unwrap();
    assert!(holds::standing_on(&mut *app.db().await, &queues).await.unwrap().is_empty());

    app.hold(event, "maintenance").await;
    let standing = holds::standing_on(&mut *app.db().await, &queues).await.unwrap();
    let lift = BulkAct::Lift([seen, standing].concat().iter().map(|hold| hold.id).collect());
    let (first, second) = twice(&Bulk { queues: queues.to_vec(), act: lift }).await;
    assert_eq!(first.queues + second.queues, 1, "the second had nothing to lift");
    assert_eq!(app.count("SELECT count(*) FROM audit_log WHERE action = 'queue.lift'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_and_the_command_line_do_the_same_to_several_queues() {
    let app = App::new().await;
    let (organisation, one) = app.an_event_with(5).await;
    let (_, foreign) = app.an_event_with(5).await;
    for event in [one, foreign] {
        app.queue(event, "ok", 3).await;
    }
    let (one, foreign) = (queue_of(&app, one).await, queue_of(&app, foreign).await);
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Operator, Some(organisation)).await;
    let stranger = app.a_token(Role::Operator, None).await;
    let bulk = "/v1/queues/bulk";

    let holds = json!({ "queues": [one], "act": "hold", "note": "bad camera clock" });
    let mut dry = holds.clone();
    dry["dry_run"] = true.into();
    let (status, plan) = site.post(bulk, &token, dry).await;
    assert_eq!(
        (status.as_u16(), plan),
        (200, json!({ "queues": 1, "photos": 3, "undo": null, "left_out": [] }))
    );
    assert_eq!(app.count("SELECT count(*) FROM hold").await, 0);
    let (_, done) = site.post(bulk, &token, holds.clone()).await;
    assert_eq!((&done["queues"], &done["photos"]), (&json!(1), &json!(3)));
    let (_, again) = site.post(bulk, &token, holds).await;
    assert_eq!(
        again,
        json!({ "queues": 0, "photos": 0, "undo": null, "left_out": [] }),
        "it is held already"
    );
    let undo = format!("{bulk}/{}/undo", done["undo"]);
    let (status, undone) = site.post(&undo, &token, Value::Null).await;
    assert_eq!((status.as_u16(), &undone["acts"]), (200, &json!(["hold"])));
    assert_eq!(site.post(&undo, &token, Value::Null).await.0, 404, "once is enough");

    // What belongs to others is not there, and nothing of the call is done.
    for queues in [json!([one, foreign]), json!([one, 4711])] {
        let lift = json!({ "queues": queues, "act": "lift" });
        assert_eq!(site.post(bulk, &token, lift).await.0, 404, "{queues}");
    }
    let many: Vec<i64> = (0..201).collect();
    for (wrong, status) in [
        (json!({ "queues": [], "act": "retry" }), 422),
        (json!({ "queues": many, "act": "retry" }), 422),
        (json!({ "queues": [one], "act": "retry", "note": "x" }), 422),
        (json!({ "queues": [one], "act": "hold", "holds": [1] }), 422),
        (json!({ "queues": [one], "act": "drop" }), 422),
    ] {
        assert_eq!(site.post(bulk, &token, wrong.clone()).await.0, status, "{wrong}");
    }

    let (one, foreign) = (one.to_string(), foreign.to_string());
    assert!(app.says(&["queues", "list", "--busy"]).contains("Marathon"));
    let said = app.says(&["queues", "hold", &one, &foreign, "--note", "late", "--actor", OPS]);
    assert!(said.contains("2 queues were changed; it concerns 6 photos"), "{said}");
    let standing = "SELECT count(*) FROM hold WHERE lifted_at IS NULL AND note = 'late'";
    assert_eq!(app.count(standing).await, 2);
    let newest = app.count("SELECT max(bulk_id) FROM undo").await.to_string();
    let said = app.says(&["queues", "undo", &newest]);
    assert!(said.contains("Taken back in 2 queues"), "{said}");
    assert_eq!(app.count(standing).await, 0);
    app.says(&["queues", "hold", &one, &one]);
    let (_, done) = site
        .post(bulk, &stranger, json!({ "queues": [one.parse::<i64>().unwrap()], "act": "lift" }))
        .await;
    assert_eq!(done["queues"], 1, "all holds that stand");
    let said = app.says(&["queues", "lift", &one]);
    assert!(said.contains("0 queues were changed"), "{said}");
}

#[tokio::test]
async fn failed_photos_of_several_queues_are_queued_again_once_and_taken_back_as_one() {
    let app = App::new().await;
    let (club, one) = app.an_event_with(9).await;
    let (agency, other) = app.an_event_with(2).await;
    for event in [one, other] {
        app.queue(event, "ok", 2).await;
    }
    let hand = app.a_worker().await;
    hand.fail_all(hand.claim(4).await).await;
    let queues = vec![queue_of(&app, one).await, queue_of(&app, other).await];
    let retry = Bulk { queues, act: BulkAct::Retry };
    let commands = app.commands();

    let plan = commands.plan_bulk(&ops(), &retry).await.unwrap();
    assert_eq!((plan.queues(), plan.photos(), plan.needs.len()), (2, 4, 2));
    assert_eq!((app.credits(club).await, app.credits(agency).await), ((9, 0, 0), (2, 0, 0)));
    // Two people press at once: the photos are queued once.
    let caller = ops();
    let (first, second) =
        tokio::join!(commands.bulk(&caller, &retry), commands.bulk(&caller, &retry));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.photos + second.photos, 4);
    assert_eq!(app.count("SELECT count(*) FROM job").await, 8);
    let undo = first.undo.or(second.undo).unwrap();
    commands.undo_bulk(&ops(), undo).await.unwrap();
    assert_eq!(app.count("SELECT count(*) FROM job").await, 4, "as if nobody had retried");
    assert_eq!(app.processing(one).await.failed, 2);

    // All or nothing: one of them is in progress already.
    let done = commands.bulk(&ops(), &retry).await.unwrap();
    let in_hand = hand.claim(1).await;
    let error = commands.undo_bulk(&ops(), done.undo.unwrap()).await.unwrap_err();
    assert!(matches!(error, CommandError::Conflict { code: "moved_on", .. }), "{error}");
    assert_eq!(app.count("SELECT count(*) FROM job").await, 8);
    hand.succeed_all(in_hand).await;
    hand.succeed_all(hand.claim(9).await).await;
    assert_eq!((app.credits(club).await, app.credits(agency).await), ((7, 0, 2), (0, 0, 2)));
}

#[tokio::test]
async fn the_newest_run_goes_before_the_others_of_its_queue() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(20).await;
    app.queue(event, "ok", 3).await;
    let late: Vec<String> = (1..=2).map(|n| format!("rehearsal/ok/late-{n}")).collect();
    app.queue_keys(event, PROCESSING, &late).await;
    let bulk = Bulk { queues: vec![queue_of(&app, event).await], act: BulkAct::NewestFirst };
    let commands = app.commands();
    let plan = commands.plan_bulk(&ops(), &bulk).await.unwrap();
    assert_eq!((plan.photos(), plan.parts[0].newest.unwrap().ahead), (2, 3));
    let done = commands.bulk(&ops(), &bulk).await.unwrap();
    assert_eq!(commands.bulk(&ops(), &bulk).await.unwrap().undo, None, "it is there already");
    commands.undo_bulk(&ops(), done.undo.unwrap()).await.unwrap();
    commands.bulk(&ops(), &bulk).await.unwrap();
    let hand = app.a_worker().await;
    let first = hand.claim_one().await;
    assert_eq!(first.key(), late[0]);
    hand.succeed(first).await;
    hand.succeed_all(hand.claim(9).await).await;
}

/// Who asks for several queues gets all of them or none, and learns nothing of those of others.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_queues_of_others_and_no_other_site_presses_the_button() {
    let app = App::new().await;
    let (club, event) = app.an_event_with(5).await;
    let (_, foreign) = app.an_event_with(5).await;
    for event in [event, foreign] {
        app.queue(event, "ok", 2).await;
    }
    let hand = app.a_worker().await;
    hand.fail_all(hand.claim(2).await).await;
    let (own, theirs) = (queue_of(&app, event).await, queue_of(&app, foreign).await);
    app.a_person("anna@club.example", Role::Organiser, Some(club)).await;
    app.a_person("ops@club.example", Role::Operator, Some(club)).await;
    app.a_person("finance@photogate.example", Role::Finance, None).await;
    let site = Site::of(&app).await;
    let both = format!("{own},{theirs}");
    let retry = [("act", "retry"), ("queues", both.as_str())];
    let hold = [("act", "hold"), ("queues", both.as_str()), ("note", "mine")];
    for (person, holds) in [("anna@club.example", 403), ("ops@club.example", 404)] {
        let visitor = Visitor::logged_in(&site, person).await;
        assert_eq!(visitor.post(&site, "/queues/bulk", &retry).await, 404, "{person}");
        assert_eq!(visitor.post(&site, "/queues/bulk", &hold).await, holds, "{person}");
        let page = format!("/queues/bulk?act=retry&queue={theirs}");
        assert_eq!(visitor.get(&site, &page).await, 404, "{person}");
        let nobody = "/queues/bulk?act=retry&queue=4711";
        assert_eq!(visitor.get(&site, nobody).await, 404, "{person}");
    }
    let finance = Visitor::logged_in(&site, "finance@photogate.example").await;
    assert_eq!(finance.post(&site, "/queues/bulk", &retry).await, 403);
    assert_eq!(app.count("SELECT count(*) FROM hold").await, 0);
    assert_eq!(app.count("SELECT count(*) FROM run WHERE retry").await, 0);

    // What an operator of all has done, others do not take back.
    let queues = vec![own, theirs];
    let act = BulkAct::Hold { note: String::new(), until: None };
    let done = app.commands().bulk(&ops(), &Bulk { queues, act }).await.unwrap();
    let undo = done.undo.unwrap().to_string();
    let visitor = Visitor::logged_in(&site, "ops@club.example").await;
    assert_eq!(visitor.post(&site, "/queues/undo", &[("undo", undo.as_str())]).await, 404);
    assert_eq!(app.count("SELECT count(*) FROM hold WHERE lifted_at IS NULL").await, 2);
    let form = [("act", "lift"), ("queues", both.as_str()), ("form_key", "guessed")];
    let sent = visitor.client.post(site.url("/queues/bulk")).form(&form).send().await.unwrap();
    assert_eq!(sent.status(), 403);
    // It leads back to pages of ours only.
    let page = format!("/queues/bulk?act=hold&queue={own}&back=//evil.example/queues");
    let page = visitor.text(&site, &page).await;
    assert!(page.contains("href=\"/queues\"") && !page.contains("href=\"//evil"), "{page}");
    hand.succeed_all(hand.claim(9).await).await;
}

/// The buttons of *Why* are for those who may do what they do.
#[tokio::test(flavor = "multi_thread")]
async fn why_offers_each_what_they_may_do() {
    let app = App::new().await;
    let (club, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 3).await;
    let hand = app.a_worker().await;
    hand.fail_all(hand.claim(1).await).await;
    hand.succeed_all(hand.claim(1).await).await;
    app.a_person("anna@club.example", Role::Organiser, Some(club)).await;
    app.a_person(OPS, Role::Operator, None).await;
    app.a_person("finance@photogate.example", Role::Finance, None).await;
    let site = Site::of(&app).await;
    let (top_up, retry) = ("Add 1 credits", "Retry 1 failed photos of Marathon, Photo Processing");
    for (person, credits, again) in [
        ("anna@club.example", true, true),
        (OPS, false, true),
        ("finance@photogate.example", false, false),
    ] {
        let visitor = Visitor::logged_in(&site, person).await;
        let page = visitor.text(&site, &format!("/events/{event}/why")).await;
        assert_eq!(page.contains(top_up), credits, "{person}");
        assert_eq!(page.contains(retry), again, "{person}");
        // Each of them leads to a page that is there.
        for link in page.split("class=\"button\" href=\"").skip(1) {
            let link = link.split('"').next().unwrap().replace("&amp;", "&");
            assert_eq!(visitor.get(&site, &link).await, 200, "{person}: {link}");
        }
    }
}

#[tokio::test]
async fn the_pulse_counts_what_was_settled_in_the_last_three_hours() {
    let app = App::new().await;
    let (club, event) = app.an_event_with(50).await;
    app.queue(event, "ok", 12).await;
    let queue = queue_of(&app, event).await;
    let hand = app.a_worker().await;
    let of_queue =
        async || pulse::of_queues(&mut *app.db().await, &[queue]).await.unwrap().remove(&queue);
    let take = async |ago: i32| take_pulse(&app, ago).await;
    assert_eq!((of_queue().await, take(36).await), (None, 0), "nothing yet");
    hand.succeed_all(hand.claim(3).await).await;
    assert_eq!(take(40).await, 1);
    hand.succeed_all(hand.claim(1).await).await;
    hand.fail_all(hand.claim(2).await).await;
    assert_eq!((take(20).await, take(20).await), (1, 0), "a slot is counted once");
    hand.succeed_all(hand.claim(4).await).await;

    let pulse = of_queue().await.unwrap();
    assert_eq!((pulse.total(), pulse.total_failed()), (7, 2), "the oldest are out of sight");
    assert_eq!(pulse.settled[SLOTS - 1], 4);
    // (A slot may have ended while this ran.)
    assert_eq!(pulse.settled[SLOTS - 21] + pulse.settled[SLOTS - 22], 3);
    for organisation in [None, Some(club)] {
        let all = pulse::of_all(&mut *app.db().await, organisation).await.unwrap();
        assert_eq!(all.total(), 7);
    }
    // Those of others are not counted, and two workers take it once.
    let other = app.an_organisation_with(1).await;
    let all = pulse::of_all(&mut *app.db().await, Some(other)).await.unwrap();
    assert_eq!(all.total(), 0);
    let (mut one, mut two) = (app.db().await, app.db().await);
    let (one, two) = tokio::join!(pulse::take(&mut one), pulse::take(&mut two));
    assert_eq!(one.unwrap() + two.unwrap(), 1);
    assert_eq!(of_queue().await.unwrap().total(), 7);
    assert_eq!(app.count("SELECT count(*) FROM pulse").await, 2, "old slots are forgotten");
}

/// Idle queues are many: they are shown when somebody asks for them, or for their name.
#[tokio::test]
async fn idle_queues_are_shown_when_they_are_asked_for() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(50).await;
    app.queue(event, "ok", 2).await;
    app.a_person(OPS, Role::Operator, None).await;
    let site = Site::of(&app).await;
    let ops = Visitor::logged_in(&site, OPS).await;
    let rows = async |query: &str| {
        let page = ops.text(&site, &format!("/queues{query}")).await;
        page.matches("aria-label=\"Why ").count()
    };
    assert_eq!((rows("").await, rows("?state=all").await), (1, 2), "one has photos that wait");
    let hand = app.a_worker().await;
    let claimed = hand.claim(2).await;
    assert_eq!(rows("").await, 1, "its photos are in progress");
    hand.succeed_all(claimed).await;
    assert_eq!((rows("").await, rows("?state=all").await), (0, 2));
    assert!(ops.text(&site, "/queues").await.contains("All queues are idle."));
    assert_eq!((rows("?state=idle").await, rows("?name=marathon").await), (2, 2));
}

/// One definition of *failed*: a photo whose latest job failed. The command line, the API and the
/// pages say the same number, also after photos were retried, skipped, and taken back.
#[tokio::test(flavor = "multi_thread")]
async fn everybody_says_the_same_number_of_failed_photos_after_a_retry() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(50).await;
    let keys: Vec<String> = (1..=12).map(|n| format!("rehearsal/ok/{n}")).collect();
    app.queue_keys(event, PROCESSING, &keys).await;
    app.queue_keys(event, Operation::AiRotation, &keys[..4]).await;
    let hand = app.a_worker().await;
    let mut claimed = Vec::new();
    while claimed.len() < 16 {
        claimed.extend(hand.claim(16).await);
    }
    let (failing, fine): (Vec<_>, Vec<_>) = claimed
        .into_iter()
        .partition(|one| one.operation() == Operation::AiRotation || !one.key().ends_with('2'));
    let photo_of: Vec<PhotoId> = failing
        .iter()
        .filter(|one| one.operation() == PROCESSING)
        .map(photogate::queue::claim::Reservation::photo)
        .collect();
    hand.fail_all(failing).await;
    hand.succeed_all(fine).await;
    app.a_person("staff@photogate.example", Role::Staff, None).await;
    let token = app.a_token(Role::Staff, None).await;
    let site = Site::of(&app).await;
    let staff = Visitor::logged_in(&site, "staff@photogate.example").await;
    let same = async |expected: i64, when: &str| {
        let event_number = event.to_string();
        let json = |arguments: &[&str]| -> Value {
            serde_json::from_str(&app.says(arguments)).expect("it is JSON")
        };
        let sum = |queues: &Value| -> i64 {
            queues.as_array().unwrap().iter().map(|queue| queue["failed"].as_i64().unwrap()).sum()
        };
        let shown = json(&["--json", "events", "show", &event_number]);
        assert_eq!(sum(&shown["queues"]), expected, "events show, {when}");
        let listed = json(&["--json", "jobs", "failures", &event_number]);
        let listed = listed.as_array().map_or(0, Vec::len);
        assert_eq!(i64::try_from(listed).unwrap(), expected, "jobs failures, {when}");
        let (_, queues) = site.get(&format!("/v1/queues?event={event}"), &token).await;
        assert_eq!(sum(&queues["items"]), expected, "GET /v1/queues, {when}");
        let (_, groups) = site.get(&format!("/v1/failures?event={event}"), &token).await;
        let photos = groups["items"].as_array().unwrap().iter();
        let photos: i64 = photos.map(|group| group["photos"].as_i64().unwrap()).sum();
        assert_eq!(photos, expected, "GET /v1/failures, {when}");
        let column = async |path: &str, name: &str| -> i64 {
            let file = staff.text(&site, path).await;
            let mut rows = csv::Reader::from_reader(file.as_bytes());
            let at = rows.headers().unwrap().iter().position(|column| column == name).unwrap();
            rows.records().map(|row| row.unwrap()[at].parse::<i64>().unwrap()).sum()
        };
        assert_eq!(
            column("/queues?state=all&format=csv", "failed").await,
            expected,
            "/queues, {when}"
        );
        let failures = format!("/failures?event={event}&format=csv");
        assert_eq!(column(&failures, "photos").await, expected, "/failures, {when}");
        let page = staff.text(&site, &format!("/events/{event}")).await;
        let failed: i64 = page
            .split("data-live=\"failed\">")
            .skip(1)
            .map(|rest| rest.split('<').next().unwrap().parse::<i64>().unwrap())
            .sum();
        assert_eq!(failed, expected, "the page of the event, {when}");
    };
    same(14, "before").await;
    let mut db = app.db().await;
    let done = retry::retry(&mut db, event, PROCESSING, &photo_of[..5], false, "anna").await;
    let undo = done.unwrap().undo.unwrap();
    same(9, "while they wait").await;
    skips::skip(&mut db, event, PROCESSING, &photo_of[..1], "anna").await.unwrap();
    same(9, "while one of them is skipped").await;
    skips::restore(&mut db, event, PROCESSING, &photo_of[..1], "anna").await.unwrap();
    let undo = photogate::commands::Undo { undo: vec![undo] };
    app.commands().undo(&Caller::trusted("anna"), &undo).await.unwrap();
    same(14, "after it was taken back").await;
    retry::retry(&mut db, event, PROCESSING, &photo_of[..5], false, "anna").await.unwrap();
    let mut again = hand.claim(9).await;
    assert_eq!(again.len(), 5);
    same(9, "while they are in progress").await;
    hand.fail_all(again.drain(..2)).await;
    hand.succeed_all(again).await;
    same(11, "when two have failed again").await;
    // A sync brings one whose file has changed.
    let jobs = enqueue::jobs(&keys).unwrap();
    enqueue::enqueue_with(&mut db, event, PROCESSING, &jobs, "anna", Priority::Normal)
        .await
        .unwrap();
    same(11, "after a sync without news").await;
    let list = failures::list(&mut db, event, failures::Filter::default(), 100).await.unwrap();
    assert_eq!(list.len(), 11);
}
