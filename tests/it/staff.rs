//! What staff do with organisations, and what finance closes: on pages, as people do it.

use photogate::{access::Role, catalog::organisations, ids::OrganisationId, ledger::month_close};
use serde_json::{Value, json};

use crate::support::{
    App,
    browser::Browser,
    photogate as cli,
    site::{Site, Visitor},
    stdout,
};

const STAFF: &str = "staff@photogate.example";

/// Staff, at the service.
async fn at_work(app: &App) -> (Site, Visitor) {
    app.a_person(STAFF, Role::Staff, None).await;
    let site = Site::of(app).await;
    let staff = Visitor::logged_in(&site, STAFF).await;
    (site, staff)
}

/// The form of a new organisation, as the page sends it.
fn new_club<'a>(once: &'a str, store: &'a str, under: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("name", "Athletics Club"),
        ("time_zone", "Europe/Berlin"),
        ("price", "0.05"),
        ("currency", "EUR"),
        ("store", store),
        ("photos_under", under),
        ("reference", ""),
        ("once", once),
    ]
}

/// The settings of the organisation that `an_organisation_with` makes, as its page has them.
fn settings<'a>(changed: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let all = [
        ("name", "Club"),
        ("price", "0.05"),
        ("currency", "EUR"),
        ("purchasing", "yes"),
        ("custom_billing", ""),
        ("purchase_limit", "10000"),
        ("photos_under", ""),
        ("name_was", "Club"),
        ("price_was", "0.05 EUR"),
        ("purchasing_was", "yes"),
        ("custom_billing_was", ""),
        ("purchase_limit_was", "10000"),
        ("photos_under_was", ""),
    ];
    let new = |name| changed.iter().find(|(changed, _)| *changed == name);
    all.into_iter().map(|field| *new(field.0).unwrap_or(&field)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_make_an_organisation_grant_it_credits_and_let_its_first_people_in() {
    let app = App::new().await;
    app.an_organisation_with(5).await;
    app.a_person(STAFF, Role::Staff, None).await;
    let site = Site::of(&app).await;
    let browser = Browser::logged_in(&site, "staff", STAFF).await;
    browser.sees("purchases to approve").await;
    browser.keep("start").await;

    browser.press("New organisation").await;
    browser.write("main input[name=name]", "Athletics Club").await;
    browser.write("input[name=price]", "0.05").await;
    browser.keep("new").await;
    browser.press("Create").await;
    browser.sees("Athletics Club was created. Its photos are below athletics-club/").await;
    browser.keep("created").await;
    browser.write("input[name=credits]", "500").await;
    browser.write("input[name=note]", "contract 2026-17").await;
    browser.press("Continue").await;
    browser.sees("It has 0 credits now, and will have 500.").await;
    browser.keep("grant").await;
    browser.press("Add them").await;
    browser.sees("The credits were booked.").await;
    // The same form once more, as by a second click.
    browser.page.back().await.unwrap();
    browser.press("Add them").await;
    browser.sees("These credits were booked before.").await;

    browser.press("Invite somebody").await;
    browser.write("#invite input[name=email]", "anna@club.example").await;
    browser.press("Make a link").await;
    browser.sees("A link for anna@club.example").await;
    browser.keep("invited").await;
    assert_eq!(app.credits(OrganisationId(2)).await, (500, 0, 0));
    let invited =
        "SELECT count(*) FROM invitation WHERE organisation_id = 2 AND role = 'organiser'";
    assert_eq!(app.count(invited).await, 1);
    let link = browser.page.find(fantoccini::Locator::Css("input.whole")).await.unwrap();
    let link = link.prop("value").await.unwrap().expect("a link");
    let page = site.client.get(&link).send().await.unwrap().text().await.unwrap();
    assert!(
        page.contains("staff@photogate.example has invited you to <strong>Athletics Club"),
        "{page}"
    );
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_sent_twice_makes_one_organisation_and_books_once() {
    let app = App::new().await;
    let (site, staff) = at_work(&app).await;
    app.an_organisation_with(0).await;

    for _ in 0..2 {
        assert_eq!(staff.post(&site, "/organisations", &new_club("1", "named", "")).await, 303);
    }
    assert_eq!(staff.post(&site, "/organisations", &new_club("2", "own", "/clubs/7")).await, 303);
    assert_eq!(staff.post(&site, "/organisations", &new_club("3", "own", "clubs")).await, 422);
    assert_eq!(staff.post(&site, "/organisations", &new_club("4", "own", "")).await, 422);
    let grant = [("kind", "admin_grant"), ("credits", "9"), ("note", "contract"), ("once", "1")];
    for _ in 0..2 {
        assert_eq!(staff.post(&site, "/organisations/2/credits", &grant).await, 303);
    }
    let more = [("kind", "admin_grant"), ("credits", "10"), ("note", "contract"), ("once", "1")];
    assert_eq!(staff.post(&site, "/organisations/2/credits", &more).await, 422, "another amount");

    let mut parts: Vec<_> = organisations::list(&mut *app.db().await).await.unwrap();
    parts.sort_by_key(|one| one.id.0);
    let parts: Vec<_> = parts.into_iter().map(|one| one.photos_under).collect();
    assert_eq!(parts, ["", "athletics-club/", "clubs/7/"]);
    assert_eq!(app.credits(OrganisationId(2)).await, (9, 0, 0));
    let log = staff.text(&site, "/audit-log").await;
    assert_eq!(log.matches("organisation.create").count(), 2, "{log}");
    assert_eq!(log.matches("credits.top_up").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_correct_an_account_down_to_nothing_and_not_below_and_say_why() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(5).await;
    let (site, staff) = at_work(&app).await;
    let path = format!("/organisations/{organisation}/credits");
    let take = |kind, credits, note, once| {
        [("kind", kind), ("credits", credits), ("note", note), ("once", once)]
    };

    let question = format!("{path}?kind=adjustment&credits=-6&note=typo&once=1");
    let asked = staff.text(&site, &question).await;
    assert!(asked.contains("Only 5 credits are available"), "{asked}");
    assert!(!asked.contains(">Take them</button>"), "{asked}");
    for wrong in [
        take("adjustment", "-6", "typo", "1"),
        take("admin_grant", "-1", "typo", "2"),
        take("adjustment", "0", "typo", "3"),
        take("adjustment", "1", " ", "4"),
        take("purchase", "1", "typo", "5"),
    ] {
        let status = staff.post(&site, &path, &wrong).await;
        assert!(status == 422 || status == 409, "{wrong:?}: {status}");
    }
    assert_eq!(app.credits(organisation).await, (5, 0, 0));

    assert_eq!(staff.post(&site, &path, &take("adjustment", "-5", "typo", "6")).await, 303);
    assert_eq!(app.credits(organisation).await, (0, 0, 0));
    let noted = "SELECT count(*) FROM top_up WHERE note = 'typo' AND actor LIKE 'staff@%'";
    assert_eq!(app.count(noted).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_the_staff_do_not_undo_each_others_changes() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    let (site, staff) = at_work(&app).await;
    let path = format!("/organisations/{organisation}/settings");

    // Both have loaded the page, and each changes something else.
    let one = settings(&[("name", "Club Berlin"), ("price", "0.04")]);
    let other = settings(&[("purchase_limit", "50"), ("photos_under", "club/")]);
    for form in [one, other, settings(&[])] {
        assert_eq!(staff.post(&site, &path, &form).await, 303);
    }
    let nameless = staff.post(&site, &path, &settings(&[("name", " ")])).await;
    let nested = settings(&[("photos_under", "club")]);
    let bad_price = settings(&[("price", "0.00001")]);
    assert_eq!(nameless, 422);
    assert_eq!(staff.post(&site, &path, &nested).await, 422, "no slash");
    assert_eq!(staff.post(&site, &path, &bad_price).await, 422);

    let db = &mut *app.db().await;
    let found = organisations::find(db, organisation).await.unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.photos_under.as_str()), ("Club Berlin", "club/"));
    assert_eq!(found.price.map(|price| price.to_string()), Some("0.04 EUR".into()));
    assert_eq!(found.purchase_limit.0, 50);
    let changes = "SELECT count(*) FROM audit_log WHERE action = 'organisation.change'";
    assert_eq!(app.count(changes).await, 2, "what changes nothing is not written");
}

#[tokio::test(flavor = "multi_thread")]
async fn purchasing_that_is_off_and_custom_billing_each_keep_its_people_from_buying() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    let (site, staff) = at_work(&app).await;
    let buyer = app.a_token(Role::Organiser, Some(organisation)).await;
    let path = format!("/organisations/{organisation}/settings");
    let buy = async |key: &str| {
        let path = format!("/v1/organisations/{organisation}/purchases");
        let request = site.ask(reqwest::Method::POST, &path, &buyer);
        let request = request.header("Idempotency-Key", key).json(&json!({ "credits": 5 }));
        let (status, said) = crate::support::site::answered(request).await;
        (status.as_u16(), said["code"].clone())
    };
    let refused = (409, json!("purchasing_disabled"));
    assert_eq!(buy("before").await, (201, Value::Null));
    let auto = ["credits", "auto-top-up", "1", "--below", "100", "--credits", "5"];
    let auto = [&auto[..], &["--monthly-max", "50"]].concat();

    assert_eq!(staff.post(&site, &path, &settings(&[("purchasing", "")])).await, 303);
    assert_eq!(buy("off").await, refused);
    assert_eq!(buy("before").await.0, 200, "what was bought before is still the same purchase");
    assert!(!cli(&app.config, &auto).status.success(), "nor automatically");
    let off = settings(&[("purchasing_was", ""), ("custom_billing", "yes")]);
    assert_eq!(staff.post(&site, &path, &off).await, 303);
    assert_eq!(buy("custom").await, refused, "it may buy, but pays by a contract");
    let shown = staff.text(&site, "/organisations").await;
    assert!(shown.contains("custom billing"), "{shown}");
    let grant = [("kind", "admin_grant"), ("credits", "9"), ("note", "contract"), ("once", "1")];
    assert_eq!(
        staff.post(&site, &format!("/organisations/{organisation}/credits"), &grant).await,
        303,
        "staff grant what was agreed"
    );
    assert_eq!(app.credits(organisation).await, (14, 0, 0));

    let changed = cli(&app.config, &["organisations", "change", "1", "--custom-billing", "off"]);
    assert_eq!(stdout(&changed), "Club: its people buy credits at 0.05 EUR.\n");
    assert_eq!(buy("off").await, (201, Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_says_who_waits_for_credits_and_only_staff_change_anything() {
    let app = App::new().await;
    let (poor, event) = app.an_event_with(0).await;
    let (rich, other) = app.an_event_with(5).await;
    let (held, third) = app.an_event_with(0).await;
    app.queue(event, "ok", 3).await;
    app.queue(other, "ok", 2).await;
    app.queue(third, "ok", 1).await;
    app.hold(third, "ops").await;
    let (site, staff) = at_work(&app).await;
    app.a_person("ops@photogate.example", Role::Operator, None).await;
    app.a_person("own@club.example", Role::Finance, Some(rich)).await;
    app.a_person("anna@club.example", Role::Organiser, Some(poor)).await;

    assert_eq!(staff.leads(&site, "/").await, "/organisations");
    let all = staff.text(&site, "/organisations").await;
    assert!(all.contains("<b>3</b>organisations"), "{all}");
    assert!(
        all.contains("<b>1</b>without credits") && all.contains("<b>3</b>photos wait"),
        "{all}"
    );
    let waiting = staff.text(&site, "/organisations?needs=credits").await;
    assert!(waiting.contains(&format!("\"/organisations/{poor}\"")), "{waiting}");
    for other in [rich, held] {
        assert!(!waiting.contains(&format!("\"/organisations/{other}\"")), "{waiting}");
    }
    let one = staff.text(&site, &format!("/organisations/{poor}")).await;
    assert!(one.contains("Its photos wait for credits."), "{one}");

    let ops = Visitor::logged_in(&site, "ops@photogate.example").await;
    let shown = ops.text(&site, "/organisations").await;
    assert!(
        !shown.contains("New organisation") && !shown.contains("/organisations/1\""),
        "{shown}"
    );
    let own = Visitor::logged_in(&site, "own@club.example").await;
    let shown = own.text(&site, "/organisations").await;
    assert!(!shown.contains(&format!("organisation={poor}\"")), "{shown}");
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    let grant = [("kind", "admin_grant"), ("credits", "9"), ("note", "mine"), ("once", "1")];
    for visitor in [&ops, &own, &anna] {
        for (path, form) in [
            ("/organisations".to_owned(), new_club("9", "named", "")),
            (format!("/organisations/{poor}/settings"), settings(&[("purchase_limit", "9")])),
            (format!("/organisations/{poor}/credits"), grant.to_vec()),
        ] {
            assert_eq!(visitor.post(&site, &path, &form).await, 403, "{path}");
        }
    }
    assert_eq!(app.count("SELECT count(*) FROM organisation").await, 3);
    assert_eq!(app.credits(poor).await, (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_is_three_clicks_from_its_receipt_and_no_machine_talks_to_finance() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    app.queue(event, "ok", 1).await;
    let hand = app.a_worker().await;
    assert!(hand.fail(hand.claim_one().await).await);
    app.owner_runs("UPDATE outcome SET detail = 'TurboJPEG: bogus marker length'").await;
    app.a_person("fin@photogate.example", Role::Finance, None).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let browser = Browser::logged_in(&site, "finance-clicks", "fin@photogate.example").await;
    let mut read = Vec::new();
    let mut clicks = 0;
    for (click, sees) in [
        ("", "Refunds of the last 31 days"),
        ("Photos", "Marathon"),
        ("Receipt", "The credit came back."),
    ] {
        if !click.is_empty() {
            browser.press(click).await;
            clicks += 1;
        }
        browser.sees(sees).await;
        browser.keep(if click.is_empty() { "start" } else { click }).await;
        read.push(browser.text().await);
    }
    assert!(clicks <= 3, "{clicks}");
    for page in &read {
        assert!(page.contains("The file is corrupt"), "{page}");
        assert!(!page.contains("TurboJPEG"), "{page}");
    }
    assert!(read[1].contains("Club"), "{}", read[1]);
    browser.close().await;
    // Who can do something about the photo sees what its decoder said.
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    assert!(anna.text(&site, "/refunds").await.contains("TurboJPEG: bogus marker length"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_is_closed_over_all_organisations_each_in_its_own_zone() {
    let app = App::new().await;
    app.set_the_clock("2026-09-10T12:00:00Z").await;
    let (berlin, event) = app.an_event_with(100).await;
    let havana =
        organisations::create(&mut *app.db().await, "Habana", "America/Havana").await.unwrap();
    organisations::set_price(&mut *app.db().await, havana, Some(&"2 CUP".parse().unwrap()))
        .await
        .unwrap();
    app.queue(event, "ok", 20).await;
    let hand = app.a_worker().await;
    app.set_the_clock("2026-10-05T12:00:00Z").await;
    app.top_up(berlin, 40).await;
    app.top_up(berlin, -10).await;
    app.top_up(havana, 7).await;
    let mut claimed = hand.claim(6).await;
    hand.fail(claimed.remove(0)).await;
    hand.succeed(claimed.remove(0)).await;
    let read = async |month: &str, of: Option<OrganisationId>| {
        month_close::read(&mut *app.db().await, month.parse().unwrap(), of).await.unwrap()
    };

    // October is over in Berlin, and not yet in Havana.
    app.set_the_clock("2026-11-01T01:00:00Z").await;
    let october = read("2026-10-01", None).await;
    let states: Vec<_> =
        october.items.iter().map(|row| (row.name.as_str(), row.is_closed)).collect();
    assert_eq!(states, [("Club", true), ("Habana", false)]);
    // Booked in November, although its photo was claimed in October.
    hand.fail(claimed.remove(0)).await;

    app.set_the_clock("2026-11-02T01:00:00Z").await;
    let october = read("2026-10-01", None).await;
    let sums = october.items[0].sums;
    let numbers = [sums.opening, sums.added, sums.purchased, sums.granted, sums.adjusted];
    assert_eq!(numbers.map(|credits| credits.0), [100, 30, 40, 0, -10]);
    assert_eq!([sums.used, sums.refunded, sums.closing].map(|credits| credits.0), [6, 1, 125]);
    let total = october.total;
    assert_eq!(
        [total.opening, total.added, total.closing].map(|credits| credits.0),
        [100, 37, 132]
    );
    let sold: Vec<_> = october.sold.iter().map(ToString::to_string).collect();
    assert_eq!(sold, ["2.00 EUR", "14.00 CUP"]);
    assert!(october.items.iter().all(|row| row.is_closed && !row.is_checked));
    let november = read("2026-11-01", Some(berlin)).await;
    assert_eq!(november.items.len(), 1);
    let sums = november.items[0].sums;
    assert_eq!([sums.opening, sums.refunded, sums.closing].map(|credits| credits.0), [125, 1, 126]);
    assert!(read("2026-08-01", None).await.items.is_empty(), "nobody was there");
    assert!(read("2026-12-01", None).await.items.is_empty(), "it has not begun");

    is_seen_by_finance(&app, havana).await;
    hand.succeed_all(claimed).await;
}

/// The page and the file of October; who belongs to one organisation sees that one.
async fn is_seen_by_finance(app: &App, havana: OrganisationId) {
    app.a_person("fin@photogate.example", Role::Finance, None).await;
    app.a_person("own@habana.example", Role::Finance, Some(havana)).await;
    let site = Site::of(app).await;
    let fin = Visitor::logged_in(&site, "fin@photogate.example").await;
    let path = "/finance/months?month=2026-10";
    let page = fin.text(&site, path).await;
    assert!(page.contains("For 2 of 2 organisations, the next full check"), "{page}");
    assert!(page.contains("2.00 EUR + 14.00 CUP"), "{page}");
    // A full check of a worker has passed both.
    sqlx::query("INSERT INTO ledger_checked SELECT organisation_id, entries FROM account")
        .execute(&mut app.as_owner().await)
        .await
        .unwrap();
    let page = fin.text(&site, path).await;
    assert!(page.contains("The month is closed and checked"), "{page}");
    let file = fin.text(&site, &format!("{path}&format=csv")).await;
    let lines: Vec<_> = file.lines().collect();
    assert_eq!(lines.len(), 3, "{file}");
    assert!(lines[1].contains(",100,30,40,0,-10,6,1,125,2.00 EUR,closed,yes"), "{file}");
    let own = Visitor::logged_in(&site, "own@habana.example").await;
    let page = own.text(&site, path).await;
    assert!(page.contains("Habana") && !page.contains("Club"), "{page}");

    // Programs and the command line get the same.
    let token = app.a_token(Role::Finance, None).await;
    let ask = async |path: &str, token: &str| {
        let answer = site.ask(reqwest::Method::GET, path, token).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(ask("/v1/months/2026-10/csv", &token).await, (200, file.clone()));
    assert_eq!(app.says(&["months", "--month", "2026-10", "--csv"]), file);
    let (status, month) = site.get("/v1/months/2026-10", &token).await;
    assert_eq!((status.as_u16(), &month["items"][0]["sums"]["closing"]), (200, &125.into()));
    assert_eq!(
        (&month["total"]["added"], &month["sold"][1]["currency"]),
        (&37.into(), &"CUP".into())
    );
    let said = app.says(&["months", "--month", "2026-10"]);
    assert!(said.contains("Habana") && said.contains("14.00 CUP"), "{said}");
    let said: serde_json::Value = serde_json::from_str(&app.says(&["months", "--json"])).unwrap();
    assert_eq!(said["month"], json!(photogate::ledger::month_close::last_month()));
    let own = app.a_token(Role::Finance, Some(havana)).await;
    let (_, rows) = ask("/v1/months/2026-10/csv", &own).await;
    assert!(rows.contains("Habana") && !rows.contains("Club"), "{rows}");
    assert_eq!(ask("/v1/months/2026-10?organisation=1", &own).await.0, 404);
    assert_eq!(ask("/v1/months/2026-13", &own).await.0, 422);
    assert_eq!(ask("/v1/months/20261", &own).await.0, 422);
}
