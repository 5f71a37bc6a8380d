//! The history that an organisation sees: each row stands where its credits moved, with the balance
//! that the ledger has there.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use photogate::{
    ids::{OrganisationId, RunId},
    ledger::{
        history::{self, Kind, Movement, Page},
        months,
        statement::{self, Statement},
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::support::App;

/// The whole history, newest first, in pages of so many rows.
async fn history_of(app: &App, organisation: OrganisationId, most: i64) -> Vec<Movement> {
    let mut all: Vec<Movement> = Vec::new();
    loop {
        let after = all.last().map(|row| row.cursor);
        let page = Page { after, most, ..Page::default() };
        let rows = history::history(&mut *app.db().await, organisation, page).await.unwrap();
        if rows.is_empty() {
            return all;
        }
        all.extend(rows);
    }
}

async fn statement_of(app: &App, organisation: OrganisationId, month: &str) -> Statement {
    let (db, month) = (&mut *app.db().await, month.parse().unwrap());
    statement::statement(db, organisation, month, usize::MAX).await.unwrap()
}

/// Found: a run that was queued first, and charged last, stood first in the statement. It showed
/// balances down to -1,045 for an account that can never be negative.
#[tokio::test]
async fn a_row_stands_where_it_was_charged_with_the_balance_of_the_ledger() {
    let app = App::new().await;
    app.set_the_clock("2026-11-23T08:00:00Z").await;
    let (organisation, event) = app.an_event_with(3).await;
    let early = app.queue(event, "ok", 20).await;
    let hand = app.a_worker().await;
    let mut held = hand.claim(1).await;
    app.set_the_clock("2026-11-23T09:00:00Z").await;
    let gala = app.an_event_of(organisation).await;
    let late = app.queue(gala, "ok", 2).await;
    held.extend(hand.claim(2).await);
    app.set_the_clock("2026-11-23T10:00:00Z").await;
    app.top_up(organisation, 12).await;
    held.extend(hand.claim(12).await);
    app.set_the_clock("2026-11-23T23:30:00Z").await; // the next day in Berlin
    app.top_up(organisation, 9).await;
    held.extend(hand.claim(7).await);

    let rows = history_of(&app, organisation, 50).await;
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (row.kind, row.run, row.credits.0, row.balance.0, row.growing))
        .collect();
    let statement = statement_of(&app, organisation, "2026-11-01").await;
    hand.succeed_all(held).await;

    let (early, late) = (early.run, late.run);
    assert_eq!(shown[0], (Kind::Usage, early, -7, 7, true), "{shown:?}");
    assert_eq!(shown[1], (Kind::Purchase, None, 9, 14, false));
    assert!(shown[2..].iter().all(|row| !row.4), "yesterday is over");
    assert!(shown.iter().any(|row| row.1 == late), "{shown:?}");
    assert_eq!(shown.iter().filter(|row| row.1 == early).count(), 2, "one row a day");
    assert!(statement.lines.iter().all(|line| line.balance.0 >= 0), "{:?}", statement.lines);
    assert_eq!((statement.opening.0, statement.closing.0), (0, 7));
}

#[tokio::test]
async fn the_month_card_the_statement_and_its_file_agree() {
    let app = App::new().await;
    app.set_the_clock("2026-11-10T08:00:00Z").await;
    let (organisation, event) = app.an_event_with(30).await;
    app.queue(event, "ok", 12).await;
    let hand = app.a_worker().await;
    let mut held = hand.claim(12).await;
    hand.fail_all(held.drain(..3)).await;
    hand.succeed_all(held).await;

    let month = months::latest(&mut *app.db().await, organisation, 0).await.unwrap().remove(0);
    let statement = statement_of(&app, organisation, "2026-11-01").await;
    let mut file = Vec::new();
    statement::write_csv(&statement, &mut file).unwrap();
    let file = String::from_utf8(file).unwrap();

    let sums = statement.sums();
    assert_eq!((sums.charged.0, sums.refunded.0), (12, 3));
    assert_eq!((sums.used(), sums.added), (month.usage, month.added));
    assert_eq!(month.transactions, i64::try_from(statement.lines.len()).unwrap());
    let rows: Vec<Vec<&str>> = file.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[1][1..4], ["Opening", "", "0"]);
    assert_eq!(rows.last().unwrap()[1..4], ["Closing", "", "21"]);
    assert_eq!(rows.len(), 1 + 1 + statement.lines.len() + 1);
    let said = app.says(&["statement", "--organisation", "1", "--month", "2026-11"]);
    assert_eq!(said, file, "the command line writes the same file");
}

/// The reference: the ledger itself, entry by entry. Entries of one statement are booked together.
async fn is_the_ledgers(app: &App, organisation: OrganisationId, rows: &[Movement]) {
    let ledger = sqlx::query_as::<_, (i64, i64, Option<i64>, NaiveDate)>(
        "SELECT (SELECT min(last_entry) FROM link WHERE last_entry >= l.entry),
                CASE l.movement WHEN 'top_up' THEN l.amount WHEN 'reserve' THEN -1
                                WHEN 'refund' THEN 1 ELSE 0 END,
                j.run_id, (l.at AT TIME ZONE 'Europe/Berlin')::date
         FROM ledger l LEFT JOIN job j ON j.job_id = l.transaction_id
         WHERE l.organisation_id = $1 ORDER BY l.entry",
    )
    .bind(organisation)
    .fetch_all(&mut app.as_owner().await)
    .await
    .unwrap();
    let mut sums: BTreeMap<(Option<i64>, NaiveDate, bool), i64> = BTreeMap::new();
    for (_, credits, run, day) in ledger.iter().filter(|entry| entry.1 != 0) {
        *sums.entry((*run, *day, *credits > 0)).or_default() += credits;
    }
    let mut shown: BTreeMap<(Option<i64>, NaiveDate, bool), i64> = BTreeMap::new();
    for row in rows {
        let day = row.at.with_timezone(&chrono_tz::Europe::Berlin).date_naive();
        let of = (row.run.map(|RunId(run)| run), day, row.credits.0 > 0);
        assert!(row.run.is_none() || !shown.contains_key(&of), "one row a run and day: {row:?}");
        *shown.entry(of).or_default() += row.credits.0;
        let is_of = |entry: &&(i64, i64, Option<i64>, NaiveDate)| {
            (entry.2, entry.3, entry.1 > 0) == of && entry.1 != 0
        };
        let balance_after = |last: i64| -> i64 {
            ledger.iter().filter(|entry| entry.0 <= last).map(|entry| entry.1).sum()
        };
        let mut ends = ledger.iter().filter(is_of).map(|entry| balance_after(entry.0));
        // Top-ups of a day have a row each.
        let is_there = match row.run {
            Some(_) => ends.next_back() == Some(row.balance.0),
            None => ends.any(|balance| balance == row.balance.0),
        };
        assert!(is_there, "{row:?}");
        assert!(row.balance.0 >= 0);
    }
    assert_eq!(shown, sums);
    assert!(rows.is_sorted_by(|newer, older| newer.at >= older.at));
}

#[tokio::test]
async fn in_random_histories_each_row_is_what_the_ledger_says() {
    for seed in 1..=3 {
        let mut random = StdRng::seed_from_u64(seed);
        let app = App::new().await;
        let mut now: DateTime<Utc> = "2026-10-29T20:00:00Z".parse().unwrap();
        app.set_the_clock(&now.to_rfc3339()).await;
        let organisation = app.an_organisation_with(5).await;
        let events = [app.an_event_of(organisation).await, app.an_event_of(organisation).await];
        let hand = app.a_worker().await;
        let mut held = Vec::new();
        for _ in 0..60 {
            now += TimeDelta::minutes(random.random_range(1..400));
            app.set_the_clock(&now.to_rfc3339()).await;
            match random.random_range(0..6) {
                0 => {
                    let n = random.random_range(1..6);
                    app.queue(events[random.random_range(0..2)], "ok", n).await;
                }
                1 => drop(app.top_up(organisation, random.random_range(1..9)).await),
                2 | 3 => held.extend(hand.claim(random.random_range(1..5)).await),
                _ if held.is_empty() => {}
                4 => hand.succeed_all(held.drain(..1)).await,
                _ => hand.fail_all(held.drain(..=held.len() / 2)).await,
            }
        }
        for most in [1, 3, 200] {
            let rows = history_of(&app, organisation, most).await;
            is_the_ledgers(&app, organisation, &rows).await;
        }
        hand.succeed_all(held).await;
        statement_of(&app, organisation, "2026-11-01").await;
    }
}

/// Found: one settlement of two organisations around midnight. While the day of one was opened, that
/// of the other ended too, and its credit was booked in the new year, on the last day of the old one.
#[tokio::test]
async fn a_midnight_that_comes_between_two_looks_at_the_clock_opens_the_day_for_all() {
    let app = App::new().await;
    app.set_the_clock("2026-12-31T22:00:00Z").await;
    for _ in 0..2 {
        let (_, event) = app.an_event_with(5).await;
        app.queue(event, "ok", 1).await;
    }
    let hand = app.a_worker().await;
    let held = hand.claim(2).await;
    // It moves by 60 milliseconds with each look.
    app.owner_runs(
        "CREATE SEQUENCE photogate.looks;
         CREATE OR REPLACE FUNCTION photogate.clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS
         $$SELECT timestamptz '2026-12-31T22:59:59.9Z'
                  + nextval('photogate.looks') * interval '60 milliseconds'$$;
         GRANT USAGE ON SEQUENCE photogate.looks TO PUBLIC",
    )
    .await;

    let jobs: Vec<i64> = held.iter().map(|one| one.job().0).collect();
    let settled: Vec<i64> = sqlx::query_scalar(
        "SELECT r_settled FROM photogate.settle($1, $2, '{1,1}', '{failed,failed}', '{x,x}', '{x,x}')",
    )
    .bind(hand.me.key())
    .bind(&jobs)
    .fetch_one(&mut app.as_owner().await)
    .await
    .unwrap();

    assert_eq!(settled.len(), 2);
    drop(held);
    let astray = "SELECT count(*) FROM usage
                  WHERE (last_refunded_at AT TIME ZONE 'Europe/Berlin')::date <> day";
    assert_eq!(app.count(astray).await, 0);
    app.set_the_clock("2027-01-02T12:00:00Z").await;
    for organisation in [OrganisationId(1), OrganisationId(2)] {
        let (old, new) = (
            statement_of(&app, organisation, "2026-12-01").await,
            statement_of(&app, organisation, "2027-01-01").await,
        );
        assert_eq!(old.closing, new.opening);
        assert_eq!((new.closing.0, old.lines.len() + new.lines.len()), (5, 3));
    }
}
