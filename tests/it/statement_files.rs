//! The statement of a month as a file for people. It is read again with a program that knows nothing
//! of ours, and compared with the ledger.

use std::process::Stdio;

use photogate::{
    access::Role,
    catalog::organisations,
    ids::{Operation, OrganisationId},
    ledger::{
        months,
        statement::{self, Line, Statement},
    },
};
use reqwest::{Method, header::CONTENT_TYPE};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::{
    plans::ten_days_of_runs,
    support::{
        App,
        site::{Site, Visitor},
    },
};

/// The text of a PDF file, as it stands on its pages.
async fn text_of(pdf: &[u8]) -> String {
    let mut program = Command::new("pdftotext")
        .args(["-layout", "-enc", "UTF-8", "-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("scripts/setup browser installs it");
    let mut input = program.stdin.take().unwrap();
    input.write_all(pdf).await.unwrap();
    drop(input);
    let output = program.wait_with_output().await.unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// A row of the table: its date, its type, the change and the balance.
type Row = (String, String, i64, i64);

fn number(text: &str) -> Option<i64> {
    text.replace(',', "").parse().ok()
}

/// The rows that have a date, a type, a change and a balance.
fn rows(text: &str) -> Vec<Row> {
    let row = |line: &str| {
        let line = line.trim();
        let (date, rest) = line.split_at_checked(16)?;
        chrono::NaiveDateTime::parse_from_str(date, "%Y-%m-%d %H:%M").ok()?;
        let mut words = rest.split_whitespace().rev();
        let (balance, credits) = (number(words.next()?)?, number(words.next()?)?);
        let kind = ["Usage", "Refund", "Purchase", "Admin Grant", "Free Credits", "Adjustment"];
        let kind = kind.into_iter().find(|kind| rest.trim_start().starts_with(kind))?;
        Some((date.to_owned(), kind.to_owned(), credits, balance))
    };
    text.lines().filter_map(row).collect()
}

fn row_of(line: &Line) -> Row {
    let local = line.at.with_timezone(&chrono_tz::Europe::Berlin);
    let date = local.format("%Y-%m-%d %H:%M").to_string();
    (date, line.kind.name().to_owned(), line.credits.0, line.balance.0)
}

/// The balance that a row with these words says.
fn balance_at(text: &str, words: &str) -> Option<i64> {
    let line = text.lines().find(|line| line.contains(words))?;
    number(line.split_whitespace().next_back()?)
}

/// The sums at the top, from the opening to the closing balance.
fn sums(text: &str) -> Vec<i64> {
    let mut lines = text.lines().skip_while(|line| !line.trim_start().starts_with("Opening"));
    let labels: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(labels, ["Opening", "Added", "Charged", "Refunded", "Used", "Closing"]);
    let numbers = lines.find(|line| !line.trim().is_empty()).unwrap();
    numbers.split_whitespace().filter_map(number).collect()
}

async fn ledger(app: &App, organisation: OrganisationId, month: &str) -> Statement {
    let (db, month) = (&mut *app.db().await, month.parse().unwrap());
    statement::statement(db, organisation, month, usize::MAX).await.unwrap()
}

async fn pdf(app: &App, path: &str) -> Vec<u8> {
    let site = Site::of(app).await;
    let token = app.a_token(Role::Finance, None).await;
    let answer = site.ask(Method::GET, path, &token).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    assert_eq!(answer.headers()[CONTENT_TYPE], "application/pdf");
    answer.bytes().await.unwrap().to_vec()
}

/// Many runs on two days, of which some photos failed, and top-ups of three kinds.
async fn a_busy_month(app: &App) -> OrganisationId {
    app.set_the_clock("2026-10-20T08:00:00Z").await;
    let name = "Łódź Sportverein Köln e. V. (東京), Θεσσαλονίκη, Волгоград";
    let organisation =
        organisations::create(&mut *app.db().await, name, "Europe/Berlin").await.unwrap();
    let price = "0.05 EUR".parse().unwrap();
    organisations::set_price(&mut *app.db().await, organisation, Some(&price)).await.unwrap();
    app.top_up(organisation, 900).await;
    app.set_the_clock("2026-11-05T08:00:00Z").await;
    app.top_up(organisation, 4_000).await;
    app.top_up(organisation, -10).await;
    let event = app.an_event_of(organisation).await;
    let hand = app.a_worker().await;
    for day in ["2026-11-05", "2026-11-06"] {
        app.set_the_clock(&format!("{day}T09:00:00Z")).await;
        for n in 0..25 {
            let keys: Vec<_> = (0..3).map(|photo| format!("{day}/{n}/{photo}")).collect();
            app.queue_keys(event, Operation::PhotoProcessing, &keys).await;
        }
        let mut claimed = hand.claim(75).await;
        hand.fail_all(claimed.drain(..10)).await;
        hand.succeed_all(claimed).await;
    }
    organisation
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pdf_file_has_every_line_of_the_ledger_and_says_what_is_still_open() {
    let app = App::new().await;
    let organisation = a_busy_month(&app).await;
    let hand = app.a_worker().await;
    let event = app.an_event_of(organisation).await;
    app.queue(event, "ok", 4).await;
    let in_progress = hand.claim(4).await;
    let path = format!("/v1/organisations/{organisation}/statements/2026-11/pdf");

    let running = text_of(&pdf(&app, &path).await).await;
    let of = ledger(&app, organisation, "2026-11-01").await;

    assert_eq!(rows(&running), of.lines.iter().map(row_of).collect::<Vec<_>>());
    assert!(of.lines.len() > 60, "more than a page: {}", of.lines.len());
    let month = months::latest(&mut *app.db().await, organisation, 0).await.unwrap().remove(0);
    let told = sums(&running);
    assert_eq!(told[0], month.opening.0);
    assert_eq!((told[1], told[4], told[5]), (month.added.0, month.usage.0, month.closing.0));
    assert_eq!(told[2] - told[3], told[4], "charged and not refunded");
    assert_eq!(of.opening.0, 900);
    for (what, balance) in [("  Opening  ", of.opening.0), ("  Closing  ", of.closing.0)] {
        let rows = running.lines().filter(|line| line.trim_start().starts_with("2026"));
        let row = rows.into_iter().find(|line| line.contains(what)).expect(what);
        assert_eq!(balance_at(row, what), Some(balance), "{row}");
    }
    let pages = running.matches('\u{c}').count();
    assert!(pages > 1);
    assert!(running.contains(&format!("Page {pages} of {pages}")), "{running}");
    let heads = running.lines().filter(|line| line.contains("Date") && line.contains("Balance"));
    assert_eq!(heads.count(), pages, "each page has the heads of the table");
    for words in [
        "Łódź Sportverein Köln e. V. (\u{fffd}\u{fffd}), Θεσσαλονίκη, Волгоград",
        "Letters that this file has no font for",
        "November 2026",
        "Europe/Berlin",
        "Made at 2026-11-06 10:00:",
        "The month is not over",
        "today so far",
        "Photo Processing, run",
        "0.05 EUR per credit",
    ] {
        assert!(running.contains(words), "{words}: {running}");
    }
    let flat = running.split_whitespace().collect::<Vec<_>>().join(" ");
    let reserved = "Credits that are reserved for photos in progress: 4.";
    assert!(flat.contains(reserved), "{flat}");

    // What is over is closed, and looks the same whoever asks, and wherever.
    hand.succeed_all(in_progress).await;
    app.set_the_clock("2026-12-02T08:00:00Z").await;
    let closed = text_of(&pdf(&app, &path).await).await;
    assert!(closed.contains("Nothing can be booked in this month any more"), "{closed}");
    assert!(!closed.contains("so far") && !closed.contains("is not over"), "{closed}");
    assert_eq!(rows(&closed), rows(&running));
    app.a_person("fin@club.example", Role::Finance, Some(organisation)).await;
    let site = Site::of(&app).await;
    let visitor = Visitor::logged_in(&site, "fin@club.example").await;
    let link = format!("/statements?month=2026-11&organisation={organisation}&format=pdf");
    assert!(visitor.text(&site, "/statements?month=2026-11").await.contains("format=pdf"));
    let answer = visitor.client.get(site.url(&link)).send().await.unwrap();
    let named = answer.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert!(named.contains(&format!("statement-{organisation}-2026-11.pdf")), "{named}");
    assert_eq!(rows(&text_of(&answer.bytes().await.unwrap()).await), rows(&closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_with_very_many_lines_is_shown_day_by_day() {
    let app = App::new().await;
    app.set_the_clock("2026-10-01T00:00:00Z").await;
    let (organisation, event) = app.an_event_with(7).await;
    app.set_the_clock("2026-11-10T08:00:00Z").await;
    ten_days_of_runs(&app, event, 300).await;

    let path = format!("/v1/organisations/{organisation}/statements/2026-10/pdf");
    let text = text_of(&pdf(&app, &path).await).await;

    assert!(text.contains("This month has 6,001 lines"), "{text}");
    assert!(text.contains("The CSV file has every line"), "{text}");
    assert_eq!(sums(&text), [0, 7, 3_000, 3_000, 0, 7]);
    let days: Vec<Vec<i64>> = text
        .lines()
        .filter(|line| line.trim_start().starts_with("2026-10-"))
        .map(|line| line.split_whitespace().skip(1).map(|word| number(word).unwrap()).collect())
        .collect();
    assert_eq!(days.len(), 10, "{text}");
    assert_eq!(days[0], [601, 7, -300, 300, 7], "the top-up, and the runs");
    assert!(days[1..].iter().all(|day| day == &[600, 0, -300, 300, 7]), "{days:?}");
    assert!(text.matches('\u{c}').count() == 1, "{text}");
    app.owner_runs("DELETE FROM photogate.usage; DELETE FROM photogate.run").await;
}
