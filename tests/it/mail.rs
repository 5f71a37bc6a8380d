//! E-mail: people learn what happens, once it happened, in one mail, whatever becomes of the worker or
//! of the mail server; and nobody who does not want it.

use std::time::Duration;

use photogate::{
    access::{Caller, Role, find_person},
    changes::{
        Type, feed,
        letters::Letter,
        mailboxes::{self, Due, Mailbox, Ticket, Topic},
        outcome::Outcome,
    },
    commands::{CommandError, MailboxChange},
    ids::{OrganisationId, PersonId},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{
    App, Process, photogate, place,
    postmaster::{Postmaster, Received},
    program,
    site::{Site, Visitor, answered},
    stderr, stdout,
};

const ANNA: &str = "anna@club.example";
const LEASE: Duration = Duration::from_secs(60);

/// It sends e-mail there, and collects for a tenth of a second only.
async fn an_app(postmaster: &Postmaster) -> App {
    let mut app = App::new().await;
    app.config.smtp_url = Some(postmaster.url());
    app.config.mail_from = Some("photogate <photogate@photogate.example>".into());
    app.config.public_url = Some("https://photogate.example".into());
    app.config.mail_every_seconds = 1;
    app
}

impl App {
    async fn person_id(&self, email: &str) -> PersonId {
        find_person(&mut *self.db().await, email).await.unwrap().unwrap().id
    }

    async fn mailbox(&self, email: &str) -> Mailbox {
        let person = Some(self.person_id(email).await);
        mailboxes::list(&mut *self.db().await, None, person).await.unwrap().pop().unwrap()
    }

    async fn set_mailbox(&self, email: &str, topics: &[Topic]) -> Result<Mailbox, CommandError> {
        let change = MailboxChange { topics: topics.to_vec() };
        let person = self.person_id(email).await;
        self.commands().set_mailbox(&Caller::trusted("bert@club.example"), person, &change).await
    }

    /// Somebody of an organisation who has said yes to these topics.
    async fn a_reader(&self, email: &str, whose: Option<OrganisationId>, topics: &[Topic]) {
        let role = if whose.is_some() { Role::Organiser } else { Role::Staff };
        self.a_person(email, role, whose).await;
        self.set_mailbox(email, topics).await.unwrap();
        let person = self.person_id(email).await;
        self.owner_runs("UPDATE photogate.mailbox SET confirm_sent_at = clock_timestamp()").await;
        let token = "SELECT photogate.mail_token(m, 'confirm') FROM photogate.mailbox m \
                     WHERE person_id = $1";
        let token: String = sqlx::query_scalar(token)
            .bind(person.0)
            .fetch_one(&mut self.as_owner().await)
            .await
            .unwrap();
        let ticket = Ticket::read(&format!("{person}-{token}")).unwrap();
        self.commands().confirm_mailbox(&ticket).await.unwrap();
    }

    /// Pauses of so many events of an organisation, as the gate writes them.
    async fn pauses(&self, organisation: OrganisationId, from: i64, upto: i64) {
        sqlx::query(
            "INSERT INTO photogate.new_change (organisation_id, type, subject, data)
             SELECT $1, 'event.paused', 'events/' || n, jsonb_build_object('event', n,
                 'operation', 'photo_processing', 'cause', 'spent')
             FROM generate_series($2, $3) n",
        )
        .bind(organisation.0)
        .bind(from)
        .bind(upto)
        .execute(&mut self.as_owner().await)
        .await
        .unwrap();
    }

    async fn until_mails(&self, postmaster: &Postmaster, to: &str, mails: usize) -> Vec<Received> {
        self.until("the mail is there", async || postmaster.to(to).len() >= mails).await;
        // And what came of it is written.
        self.until("the books of mail are closed", async || {
            self.count("SELECT count(*) FROM mailbox WHERE leased_until IS NOT NULL").await == 0
        })
        .await;
        postmaster.to(to)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_learns_that_an_event_is_paused_goes_on_and_is_done() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let (organisation, event) = app.a_gala_with(2).await;
    // That was before anybody wanted to hear it.
    feed::number(&mut *app.db().await, organisation).await.unwrap();
    let topics = [Topic::Events, Topic::Runs, Topic::Credits];
    app.a_reader(ANNA, Some(organisation), &topics).await;
    let worker = app.start_worker();
    app.queue(event, "ok", 3).await;
    app.until_out_of_credit(event).await;
    let first = app.until_mails(&postmaster, ANNA, 1).await.remove(0);
    app.top_up(organisation, 5).await;
    app.until_done(event).await;
    let said = |end: &str| postmaster.to(ANNA).iter().any(|one| one.text.contains(end));
    app.until("the end is told", async || said("“Gala” is done") && said("Run ")).await;
    worker.drain().await;

    let paused = "“Gala” is paused: no credits can be spent (Photo Processing)";
    assert_eq!(first.subject, format!("[Club] {paused}"));
    assert!(first.text.contains(&format!("{paused}.")), "{}", first.text);
    assert!(first.text.contains(&format!("https://photogate.example/events/{event}\n")));
    assert!(first.html.contains("“Gala” is paused") && !first.html.contains("<img"));
    let zone = ["CET", "CEST"].iter().any(|zone| first.text.contains(zone));
    assert!(zone, "the organisation's time: {}", first.text);
    assert_eq!(first.header("auto-submitted"), Some("auto-generated"));
    assert_eq!(first.header("from"), Some("photogate <photogate@photogate.example>"));
    // Each change is told once.
    let all: String = postmaster.to(ANNA).iter().map(|one| one.text.clone()).collect();
    for (sentence, times) in [
        (paused, 1),
        ("5 credits came in, bought by anna@club.example", 1),
        ("“Gala” goes on: credits came in", 1),
        ("“Gala” is done: 3 photos in all", 1),
        ("is done: 3 photos (Photo Processing)", 1),
        ("queued", 0),
    ] {
        assert_eq!(all.matches(sentence).count(), times, "{sentence}: {all}");
    }
}

/// Somebody else typed the address.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_more_than_one_question_before_they_say_yes() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let organisation = app.an_organisation_with(0).await;
    app.a_person(ANNA, Role::Organiser, Some(organisation)).await;
    app.a_person("bert@club.example", Role::Organiser, Some(organisation)).await;
    let worker = app.start_worker();
    let site = Site::of(&app).await;
    let mailbox = app.set_mailbox(ANNA, &[Topic::Credits]).await.unwrap();
    assert_eq!((mailbox.asked_at, mailbox.confirmed_at), (None, None));
    app.top_up(organisation, 5).await;
    let asked = app.until_mails(&postmaster, ANNA, 1).await.remove(0);
    assert_eq!(asked.subject, "[Club] Do you want e-mail from photogate?");
    assert!(asked.text.contains("bert@club.example wants photogate to send you e-mail about Club"));
    assert_eq!(asked.header("list-unsubscribe"), None);
    assert!(!asked.text.contains("5 credits"), "it says nothing of the organisation");
    // Set again and again, within the day: no second question.
    for topics in [vec![], vec![Topic::Credits], vec![Topic::Credits, Topic::Events]] {
        app.set_mailbox(ANNA, &topics).await.unwrap();
    }
    feed::number(&mut *app.db().await, organisation).await.unwrap();
    let waits = "SELECT count(*) FROM mailbox WHERE waits_since IS NOT NULL";
    assert_eq!(app.count(waits).await, 0);

    // Whoever only looks does not say yes: programs follow links in mails.
    let link = asked.link("/confirm");
    let stranger = Visitor::stranger();
    assert!(stranger.text(&site, &link).await.contains("Yes, send it"));
    assert_eq!(app.mailbox(ANNA).await.confirmed_at, None);
    let forged = format!("{}/confirm", &link[..link.len() - "00/confirm".len()]);
    let press = async |path: &str| {
        stranger.client.post(site.url(path)).send().await.unwrap().status().as_u16()
    };
    assert_eq!((press(&forged).await, stranger.get(&site, &forged).await), (404, 404));
    app.owner_runs("UPDATE photogate.mailbox SET confirm_sent_at = NULL").await;
    assert_eq!((press(&link).await, press(&link).await), (200, 200), "once more changes nothing");
    assert!(app.mailbox(ANNA).await.confirmed_at.is_some());
    let entries = "SELECT count(*) FROM audit_log WHERE action = 'mailbox.confirm' \
                   AND actor = 'anna@club.example'";
    assert_eq!(app.count(entries).await, 1);
    // It hears what comes from now on.
    app.top_up(organisation, 7).await;
    let news = app.until_mails(&postmaster, ANNA, 2).await.remove(1);
    worker.drain().await;
    assert!(news.text.contains("7 credits came in") && !news.text.contains("5 credits"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_good_for_seven_days_and_is_asked_three_times_at_most() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let organisation = app.an_organisation_with(0).await;
    app.a_person(ANNA, Role::Organiser, Some(organisation)).await;
    let worker = app.start_worker();
    let site = Site::of(&app).await;
    for mails in 1..=3 {
        app.set_mailbox(ANNA, &[Topic::Credits]).await.unwrap();
        app.until_mails(&postmaster, ANNA, mails).await;
        app.owner_runs(
            "UPDATE photogate.mailbox SET confirm_sent_at = confirm_sent_at - interval '25 hours'",
        )
        .await;
    }
    let refused = app.set_mailbox(ANNA, &[Topic::Credits]).await;
    assert!(matches!(refused, Err(CommandError::Database(_))), "{refused:?}");
    let links: Vec<_> = postmaster.to(ANNA).iter().map(|one| one.link("/confirm")).collect();
    let stranger = Visitor::stranger();
    assert_eq!(stranger.get(&site, &links[0]).await, 404, "only the last one is good");
    assert_eq!(stranger.get(&site, &links[2]).await, 200);
    app.owner_runs(
        "UPDATE photogate.mailbox SET confirm_asked_at = confirm_asked_at - interval '7 days'",
    )
    .await;
    assert_eq!(stranger.get(&site, &links[2]).await, 404);
    worker.drain().await;
    assert_eq!(postmaster.to(ANNA).len(), 3);
}

/// What happened while nobody sent is one mail; the rest is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_is_one_mail() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let organisation = app.an_organisation_with(0).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Events]).await;
    app.owner_runs(
        "INSERT INTO photogate.new_change (organisation_id, type, subject, data)
         SELECT organisation_id, 'event.finished', 'events/' || n, jsonb_build_object('event', n,
             'operation', 'photo_processing', 'photos', n)
         FROM photogate.organisation, generate_series(1000, 1300) n",
    )
    .await;
    app.pauses(organisation, 1, 30).await;
    let worker = app.start_worker();
    let mail = app.until_mails(&postmaster, ANNA, 1).await.remove(0);
    app.pauses(organisation, 31, 31).await;
    let second = app.until_mails(&postmaster, ANNA, 2).await.remove(1);
    worker.drain().await;

    assert!(
        mail.subject.ends_with("can be spent (Photo Processing) (and 330 more)"),
        "{}",
        mail.subject
    );
    assert_eq!(mail.text.matches("is paused").count(), 30, "what is urgent is said first");
    assert_eq!(mail.text.matches("is done").count(), 20);
    assert!(mail.text.contains("And 281 more"), "{}", mail.text);
    assert_eq!(second.text.matches("is paused").count(), 1);
    assert_eq!(postmaster.received().len(), 2);
    assert_eq!(app.mailbox(ANNA).await.waits_since, None);
}

/// A change that comes right after a mail waits until the next one may be sent.
#[tokio::test]
async fn a_person_gets_one_mail_in_five_minutes_and_urgent_things_are_collected_for_seconds() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let organisation = app.an_organisation_with(0).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Events, Topic::Credits]).await;
    let hand = app.a_worker().await;
    let db = &mut *app.db().await;
    let every = Duration::from_secs(300);
    let later = async |seconds: f64| {
        sqlx::query(
            "UPDATE photogate.mailbox SET waits_since = waits_since - make_interval(secs => $1),
                 sent_at = sent_at - make_interval(secs => $1)",
        )
        .bind(seconds)
        .execute(&mut app.as_owner().await)
        .await
        .unwrap();
    };
    app.top_up(organisation, 1).await;
    feed::number(db, organisation).await.unwrap();
    later(25.0).await;
    assert_eq!(mailboxes::take(db, hand.me, false, 9, LEASE, every).await.unwrap().len(), 0);
    app.pauses(organisation, 1, 1).await;
    feed::number(db, organisation).await.unwrap();
    let due = mailboxes::take(db, hand.me, false, 9, LEASE, every).await.unwrap();
    assert_eq!(due[0].changes.len(), 2, "an urgent change takes the others along");
    mailboxes::end(db, &due[0], &Outcome::Sent("250".into()), every).await.unwrap();
    app.pauses(organisation, 2, 2).await;
    feed::number(db, organisation).await.unwrap();
    later(240.0).await;
    assert_eq!(mailboxes::take(db, hand.me, false, 9, LEASE, every).await.unwrap().len(), 0);
    later(61.0).await;
    assert_eq!(mailboxes::take(db, hand.me, false, 9, LEASE, every).await.unwrap().len(), 1);
}

/// Killed while the server has the mail and has not answered: nobody knows whether it is delivered.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_between_taking_and_sending_is_replaced_and_the_mail_is_the_same() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let (organisation, _) = app.an_event_with(0).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Credits]).await;
    postmaster.is("silent");
    let mut worker = Process::work(&app.config, &["--rehearse"]);
    app.top_up(organisation, 5).await;
    app.until("the server has it", async || postmaster.count("data") == 1).await;
    worker.kill();
    postmaster.is("well");
    // Meanwhile more happens. It is another mail.
    app.top_up(organisation, 6).await;
    feed::number(&mut *app.db().await, organisation).await.unwrap();
    // A minute later.
    app.owner_runs("UPDATE photogate.mailbox SET leased_until = clock_timestamp()").await;
    let worker = app.start_worker();
    app.until("all is told", async || postmaster.count("data") == 3).await;
    app.until_mails(&postmaster, ANNA, 3).await;
    worker.drain().await;

    let mails = postmaster.received();
    assert_eq!(mails[0].header("message-id"), mails[1].header("message-id"));
    assert_eq!(mails[0].text, mails[1].text);
    assert!(mails[1].text.contains("5 credits") && !mails[1].text.contains("6 credits"));
    assert!(mails[2].text.contains("6 credits") && !mails[2].text.contains("5 credits"));
    assert_ne!(mails[1].header("message-id"), mails[2].header("message-id"));
}

/// What a late worker says changes nothing once another one has tried.
#[tokio::test]
async fn a_late_worker_moves_no_cursor() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let organisation = app.an_organisation_with(0).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Credits]).await;
    app.top_up(organisation, 1).await;
    feed::number(&mut *app.db().await, organisation).await.unwrap();
    let (one, other) = (app.a_worker().await, app.a_worker().await);
    let db = &mut *app.db().await;
    let every = Duration::from_millis(1);
    tokio::time::sleep(every * 10).await;
    let first = mailboxes::take(db, one.me, false, 9, every, every).await.unwrap();
    assert_eq!(first.len(), 1);
    tokio::time::sleep(every * 10).await;
    let second = mailboxes::take(db, other.me, false, 9, LEASE, every).await.unwrap();
    assert_eq!((second.len(), second[0].attempt), (1, first[0].attempt + 1));
    assert_eq!(mailboxes::take(db, one.me, false, 9, LEASE, every).await.unwrap().len(), 0);
    let refused = Outcome::Refused("550 nobody".into());
    assert!(!mailboxes::end(db, &first[0], &refused, every).await.unwrap());
    assert!(app.mailbox(ANNA).await.waits_since.is_some(), "it is not told yet");
    let sent = Outcome::Sent("250".into());
    mailboxes::end(db, &second[0], &sent, every).await.unwrap();
    let mailbox = app.mailbox(ANNA).await;
    assert_eq!((mailbox.waits_since, mailbox.stopped_at), (None, None));
    // Whoever has lost the lease of the worker takes nothing.
    app.let_the_lease_run_out(one.me.worker).await;
    assert!(mailboxes::take(db, one.me, false, 9, LEASE, every).await.is_err());
}

/// The server's troubles are no mailbox's: nobody is stopped, and all comes when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_or_takes_nothing_from_us_stops_nobody_and_gets_all_when_it_is_back()
{
    let mut postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let organisation = app.an_organisation_with(0).await;
    let people = ["anna@club.example", "bert@club.example", "carl@club.example"];
    for person in people {
        app.a_reader(person, Some(organisation), &[Topic::Credits]).await;
    }
    let worker = app.start_worker();
    let mut credits = 0;
    for mood in [
        "die",
        "connect 421 too busy",
        "from 451 not now",
        "from 550 who are you",
        "from 530 log in",
    ] {
        if mood == "die" {
            postmaster.die();
        } else {
            postmaster.is(mood);
        }
        credits += 1;
        app.top_up(organisation, credits).await;
        app.until("the server is not well", async || {
            app.count("SELECT failures::bigint FROM mail_server").await > 1
        })
        .await;
        for person in people {
            let mailbox = app.mailbox(person).await;
            assert_eq!((mailbox.stopped_at, mailbox.trouble), (None, None), "{mood}");
        }
        if mood == "die" {
            postmaster.come_back();
        } else {
            postmaster.is("well");
        }
        for person in people {
            app.until("all is told", async || {
                let said = format!("{credits} credits came in");
                postmaster.to(person).iter().any(|one| one.text.contains(&said))
            })
            .await;
        }
        assert_eq!(
            app.count("SELECT count(*) FROM mail_server WHERE failing_since IS NOT NULL").await,
            0
        );
    }
    worker.drain().await;
    assert_eq!(app.count("SELECT count(*) FROM audit_log WHERE action = 'mailbox.stop'").await, 0);
}

/// As long as the server is not well, one mail at a time finds out, and all fail together once.
#[tokio::test]
async fn an_outage_of_a_week_disables_nobody_and_costs_one_try_in_five_minutes() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let hand = app.a_worker().await;
    let db = &mut *app.db().await;
    for person in ["anna@club.example", "bert@club.example", "carl@club.example"] {
        let organisation = app.an_organisation_with(0).await;
        app.a_reader(person, Some(organisation), &[Topic::Credits]).await;
        app.top_up(organisation, 1).await;
        feed::number(db, organisation).await.unwrap();
    }
    let every = Duration::from_millis(1);
    let pause = Duration::from_secs(5);
    tokio::time::sleep(every * 10).await;
    let gone = Outcome::Server("connection refused".into());
    let due = mailboxes::take(db, hand.me, false, 9, LEASE, every).await.unwrap();
    assert_eq!(due.len(), 3);
    for due in &due {
        mailboxes::end(db, due, &gone, pause).await.unwrap();
    }
    assert_eq!(app.count("SELECT failures::bigint FROM mail_server").await, 1);
    for _ in 0..20 {
        assert_eq!(mailboxes::take(db, hand.me, false, 9, LEASE, every).await.unwrap().len(), 0);
        app.owner_runs(
            "UPDATE photogate.mail_server SET rests_until = rests_until - interval '5 minutes'",
        )
        .await;
        let due = mailboxes::take(db, hand.me, false, 9, LEASE, every).await.unwrap();
        assert_eq!(due.len(), 1);
        assert_eq!(mailboxes::take(db, hand.me, false, 9, LEASE, every).await.unwrap().len(), 0);
        mailboxes::end(db, &due[0], &gone, pause).await.unwrap();
    }
    app.owner_runs("UPDATE photogate.mail_server SET rests_until = clock_timestamp()").await;
    let due = mailboxes::take(db, hand.me, false, 9, LEASE, every).await.unwrap();
    mailboxes::end(db, &due[0], &Outcome::Sent("250".into()), pause).await.unwrap();
    assert_eq!(mailboxes::take(db, hand.me, false, 9, LEASE, every).await.unwrap().len(), 2);
    let waits = mailboxes::seconds_waiting(db).await.unwrap();
    assert!(waits > 0.0, "{waits}");
    let stopped = "SELECT count(*) FROM mailbox WHERE stopped_at IS NOT NULL OR failures > 0";
    assert_eq!(app.count(stopped).await, 0);
}

/// One address that is slow, full or gone is nobody else's trouble.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_refused_is_stopped_with_the_reason_until_somebody_tries_it_again() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let organisation = app.an_organisation_with(0).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Credits]).await;
    app.a_reader("bert@club.example", Some(organisation), &[Topic::Credits]).await;
    let worker = app.start_worker();
    // Later: a full mailbox, a rule of the server, a letter that it does not like.
    for (n, mood) in [
        "to anna@club.example 452 4.2.2 full",
        "to anna@club.example 554 5.7.1 relay denied",
        "data 554 no",
    ]
    .into_iter()
    .enumerate()
    {
        postmaster.is(mood);
        app.top_up(organisation, 10 + i64::try_from(n).unwrap()).await;
        app.until("it is noted", async || app.mailbox(ANNA).await.trouble.is_some()).await;
        let mailbox = app.mailbox(ANNA).await;
        assert_eq!(mailbox.stopped_at, None, "{mood}: {mailbox:?}");
        assert_eq!(
            app.count("SELECT count(*) FROM mail_server WHERE failing_since IS NOT NULL").await,
            0
        );
        postmaster.is("well");
        app.owner_runs("UPDATE photogate.mailbox SET rests_until = NULL").await;
        app.until("it arrives", async || app.mailbox(ANNA).await.trouble.is_none()).await;
    }
    postmaster.is("to anna@club.example 550 5.1.1 nobody of that name");
    app.top_up(organisation, 77).await;
    app.until("it is stopped", async || app.mailbox(ANNA).await.stopped_at.is_some()).await;
    let mailbox = app.mailbox(ANNA).await;
    assert_eq!(mailbox.trouble.as_deref(), Some("550 5.1.1 nobody of that name"));
    app.until("the other one hears", async || {
        postmaster.to("bert@club.example").iter().any(|one| one.text.contains("77 credits"))
    })
    .await;
    let entries =
        "SELECT count(*) FROM audit_log WHERE action = 'mailbox.stop' AND actor = 'System'";
    assert_eq!(app.count(entries).await, 1);
    let site = Site::of(&app).await;
    let bert = Visitor::logged_in(&site, "bert@club.example").await;
    let path = format!("/people/{}/mail", app.person_id(ANNA).await);
    let page = bert.text(&site, &path).await;
    assert!(page.contains("5.1.1 nobody of that name") && page.contains("try again"), "{page}");

    // One click, and what waited comes.
    postmaster.is("well");
    assert_eq!(bert.post(&site, &path, &[("credits", "yes")]).await, 303);
    app.until("what waited comes", async || {
        postmaster.to(ANNA).iter().any(|one| one.text.contains("77 credits"))
    })
    .await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_keeps_no_worker_and_the_mail_comes_later() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let (organisation, event) = app.an_event_with(5).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Credits]).await;
    postmaster.is("hangs");
    let worker = app.start_worker();
    app.top_up(organisation, 8).await;
    app.until("it hangs", async || postmaster.count("to") == 1).await;
    // Photos go on meanwhile.
    app.queue(event, "ok", 3).await;
    app.until_done(event).await;
    app.until("it is given up", async || app.mailbox(ANNA).await.trouble.is_some()).await;
    let trouble = app.mailbox(ANNA).await.trouble.unwrap();
    assert!(trouble.contains("did not answer within 10 seconds"), "{trouble}");
    postmaster.is("well");
    app.until_mails(&postmaster, ANNA, 1).await;
    // Whoever must stop at once does not wait for the server.
    postmaster.is("hangs");
    app.top_up(organisation, 9).await;
    app.until("it hangs again", async || postmaster.count("to") == 3).await;
    worker.stop.now.cancel();
    worker.drain().await;
    let leased = "SELECT count(*) FROM mailbox WHERE leased_until > clock_timestamp()";
    assert_eq!(app.count(leased).await, 1, "the mail is sent again by somebody else");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_click_ends_all_but_what_is_essential_and_that_says_why_it_comes() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let organisation = app.an_organisation_with(0).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Credits, Topic::Purchases]).await;
    let worker = app.start_worker();
    let site = Site::of(&app).await;
    app.top_up(organisation, 5).await;
    let mail = app.until_mails(&postmaster, ANNA, 1).await.remove(0);
    assert_eq!(mail.header("list-unsubscribe-post"), Some("List-Unsubscribe=One-Click"));
    let link = mail.header("list-unsubscribe").unwrap();
    let link = link.strip_prefix("<https://photogate.example").unwrap().strip_suffix('>').unwrap();
    assert_eq!(mail.link("/unsubscribe"), link);
    // Looking ends nothing.
    let stranger = Visitor::stranger();
    assert!(stranger.text(&site, link).await.contains("Unsubscribe?"));
    assert_eq!(app.mailbox(ANNA).await.topics.len(), 2);

    // As a mail program does it: no cookie, no key of a form.
    let body = [("List-Unsubscribe", "One-Click")];
    for _ in 0..2 {
        let answer = stranger.client.post(site.url(link)).form(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.text().await.unwrap().contains("money waits for somebody"));
    }
    assert_eq!(app.mailbox(ANNA).await.topics, [Topic::Purchases]);
    let entries = "SELECT count(*) FROM audit_log WHERE action = 'mailbox.unsubscribe' \
                   AND actor = 'anna@club.example'";
    assert_eq!(app.count(entries).await, 1);
    // Nobody else switches it on again; they themselves can.
    let again = app.set_mailbox(ANNA, &[Topic::Credits, Topic::Purchases]).await;
    assert!(again.unwrap_err().to_string().contains("only they can add"));
    app.set_mailbox(ANNA, &[Topic::Purchases]).await.unwrap();
    let forged = link.replace("/mail/", "/mail/9");
    let answer = stranger.client.post(site.url(&forged)).form(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);

    app.top_up(organisation, 6).await;
    app.owner_runs("UPDATE photogate.organisation SET purchase_limit = 1").await;
    sqlx::query("SELECT purchase($1, 900, 'anna@club.example', '', 'k')")
        .bind(organisation.0)
        .execute(&mut *app.db().await)
        .await
        .unwrap();
    let mail = app.until_mails(&postmaster, ANNA, 2).await.remove(1);
    worker.drain().await;
    assert!(
        mail.subject.contains("A purchase of 900 credits by anna@club.example waits for approval")
    );
    assert!(!mail.text.contains("6 credits"));
    assert!(mail.text.contains("because money waits for somebody"), "{}", mail.text);
    assert_eq!(mail.header("list-unsubscribe"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_hear_their_topics_of_their_organisation_and_nothing_else() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let (mine, theirs) = (app.an_organisation_with(0).await, app.an_organisation_with(0).await);
    app.a_reader(ANNA, Some(mine), &[Topic::Events]).await;
    app.a_reader("bert@club.example", Some(mine), &[Topic::Credits]).await;
    app.a_reader("eve@other.example", Some(theirs), &Topic::of(Some(theirs))).await;
    app.a_reader("disabled@club.example", Some(mine), &[Topic::Credits]).await;
    app.a_reader("moved@club.example", Some(mine), &[Topic::Credits]).await;
    app.a_reader("staff@photogate.example", None, &Topic::of(None)).await;
    app.owner_runs(
        "UPDATE photogate.person SET disabled_at = now() WHERE email = 'disabled@club.example'",
    )
    .await;
    sqlx::query("UPDATE person SET organisation_id = $1 WHERE email = 'moved@club.example'")
        .bind(theirs.0)
        .execute(&mut app.as_owner().await)
        .await
        .unwrap();
    app.top_up(mine, 11).await;
    app.pauses(mine, 1, 1).await;
    app.top_up(theirs, 22).await;
    let worker = app.start_worker();
    app.until_mails(&postmaster, ANNA, 1).await;
    app.until_mails(&postmaster, "bert@club.example", 1).await;
    app.until_mails(&postmaster, "eve@other.example", 1).await;
    app.until_mails(&postmaster, "moved@club.example", 1).await;
    app.until("nothing waits", async || {
        app.count("SELECT count(*) FROM mailbox WHERE waits_since IS NOT NULL").await == 0
    })
    .await;
    let only = |to: &str| {
        let mails = postmaster.to(to);
        assert_eq!(mails.len(), 1, "{to}");
        mails[0].text.clone()
    };
    let anna = only(ANNA);
    assert!(anna.contains("is paused") && !anna.contains("credits came in"), "{anna}");
    let bert = only("bert@club.example");
    assert!(
        bert.contains("11 credits") && !bert.contains("paused") && !bert.contains("22 credits")
    );
    for theirs in ["eve@other.example", "moved@club.example"] {
        let text = only(theirs);
        assert!(text.contains("22 credits") && !text.contains("11 credits"), "{text}");
    }
    for nobody in ["disabled@club.example", "staff@photogate.example"] {
        assert!(!postmaster.asked_for().contains(&nobody.to_owned()), "{nobody}");
    }
    // Enabled again, they hear what comes, and not what came.
    app.owner_runs("UPDATE photogate.person SET disabled_at = NULL").await;
    app.top_up(mine, 33).await;
    app.until_mails(&postmaster, "disabled@club.example", 1).await;
    let text = only("disabled@club.example");
    assert!(text.contains("33 credits") && !text.contains("11 credits"), "{text}");
    worker.drain().await;
}

/// Who belongs to no organisation hears the feed of organisation 0, and only that.
#[tokio::test]
async fn staff_hear_their_own_feed_with_the_names_of_organisations() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let organisation = app.an_organisation_with(5).await;
    app.a_person(ANNA, Role::Organiser, Some(organisation)).await;
    app.a_reader("staff@photogate.example", None, &Topic::of(None)).await;
    let mixed = app.set_mailbox("staff@photogate.example", &[Topic::Events]).await;
    assert!(matches!(mixed, Err(CommandError::Invalid { .. })), "{mixed:?}");
    app.pauses(organisation, 1, 1).await;
    app.owner_runs(
        "UPDATE photogate.organisation SET purchase_limit = 1;
         INSERT INTO photogate.payment (provider, reference, purchase, amount, currency, kept)
         VALUES ('stripe', 'x', 'photogate-99', 50, 'EUR', 'unknown_purchase')",
    )
    .await;
    sqlx::query("SELECT purchase($1, 900, 'anna@club.example', '', 'k')")
        .bind(organisation.0)
        .execute(&mut *app.db().await)
        .await
        .unwrap();
    let hand = app.a_worker().await;
    let db = &mut *app.db().await;
    let every = Duration::from_millis(1);
    for whose in [OrganisationId::STAFF, organisation] {
        feed::number(db, whose).await.unwrap();
    }
    tokio::time::sleep(every * 10).await;
    let due = mailboxes::take(db, hand.me, false, 9, LEASE, every).await.unwrap();
    assert_eq!(due.len(), 1);
    let letter = Letter::of(&due[0], "https://photogate.example");
    let head = letter.subject.strip_prefix("[photogate] Payment ").unwrap();
    assert!(head.ends_with(" cannot become credits: unknown purchase (and 1 more)"), "{head}");
    let purchase = "A purchase of 900 credits by anna@club.example of “Club” waits for approval.\n";
    assert!(letter.text.contains(purchase), "{}", letter.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_stay_words() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let (organisation, event) = app.an_event_with(0).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Events]).await;
    app.owner_runs(
        "UPDATE photogate.event SET name = E'Gala\\r\\nBcc: eve@other.example\\r\\n\\r\\n<script>alert(1)</script>
.\\r\\nMAIL FROM:<x>';
         UPDATE photogate.organisation SET name = E'Club\\r\\nX-Evil: yes <b>Ünï</b>'",
    )
    .await;
    app.queue(event, "ok", 1).await;
    app.pauses(organisation, event.0, event.0).await;
    let worker = app.start_worker();
    let mail = app.until_mails(&postmaster, ANNA, 1).await.remove(0);
    worker.drain().await;

    // (Its two pauses come in two mails, if a transaction of another test keeps the second one from
    // being numbered.)
    assert!(postmaster.asked_for().iter().all(|to| to == ANNA), "nobody else gets it");
    let mut names = mail.header_names();
    names.sort_unstable();
    let expected = [
        "auto-submitted",
        "content-type",
        "date",
        "from",
        "list-unsubscribe",
        "list-unsubscribe-post",
        "message-id",
        "mime-version",
        "subject",
        "to",
    ];
    names.retain(|name| {
        !name.starts_with("x-peer")
            && !name.starts_with("x-mailfrom")
            && !name.starts_with("x-rcptto")
    });
    assert_eq!(names, expected, "{}", mail.raw);
    assert!(mail.subject.starts_with("[Club X-Evil: yes <b>Ünï</b>] “Gala Bcc: eve@other.example"));
    assert!(!mail.html.contains("<script") && !mail.html.contains("<b>"), "{}", mail.html);
    assert!(mail.html.contains("&lt;script&gt;"));
    assert!(mail.text.lines().all(|line| !line.starts_with("Bcc") && line != "."));
}

/// What was forgotten while nothing could be sent is counted, not made up.
#[tokio::test]
async fn changes_that_were_deleted_before_they_could_be_told_are_counted() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let organisation = app.an_organisation_with(0).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Credits]).await;
    let db = &mut *app.db().await;
    for credits in [1, 2, 3] {
        app.top_up(organisation, credits).await;
    }
    feed::number(db, organisation).await.unwrap();
    app.owner_runs(
        "UPDATE photogate.change SET at = at - interval '20 days';
         UPDATE photogate.change_end SET oldest_at = oldest_at - interval '20 days'",
    )
    .await;
    assert_eq!(feed::forget(db, 14).await.unwrap(), 3);
    let hand = app.a_worker().await;
    let every = Duration::from_millis(1);
    tokio::time::sleep(every * 10).await;
    let due = mailboxes::take(db, hand.me, false, 9, LEASE, every).await.unwrap();
    assert_eq!(due.len(), 0, "there is nothing to say");
    app.top_up(organisation, 4).await;
    feed::number(db, organisation).await.unwrap();
    tokio::time::sleep(every * 10).await;
    let due = mailboxes::take(db, hand.me, false, 9, LEASE, every).await.unwrap();
    assert_eq!((due[0].skipped, due[0].changes.len()), (3, 1));
    let letter = Letter::of(&due[0], "https://photogate.example");
    assert!(letter.text.contains("3 older changes of the organisation are not kept any more"));
    mailboxes::end(db, &due[0], &Outcome::Sent("250".into()), every).await.unwrap();
    // Nor is it said again, or of what is not for it.
    app.top_up(organisation, 5).await;
    feed::number(db, organisation).await.unwrap();
    tokio::time::sleep(every * 10).await;
    let due = mailboxes::take(db, hand.me, false, 9, LEASE, every).await.unwrap();
    assert_eq!((due[0].skipped, due[0].changes.len()), (0, 1));
}

/// A feed full of what it does not hear is read in parts, and what lies behind is found.
#[tokio::test]
async fn a_mailbox_finds_its_change_behind_thousands_of_others() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let organisation = app.an_organisation_with(0).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Credits]).await;
    app.top_up(organisation, 1).await;
    let db = &mut *app.db().await;
    feed::number(db, organisation).await.unwrap();
    app.pauses(organisation, 1, 14_000).await;
    while feed::number(db, organisation).await.unwrap() > 0 {}
    app.top_up(organisation, 2).await;
    feed::number(db, organisation).await.unwrap();
    let hand = app.a_worker().await;
    let every = Duration::from_millis(1);
    let mut said = Vec::new();
    for _ in 0..5 {
        tokio::time::sleep(every * 10).await;
        for due in mailboxes::take(db, hand.me, false, 9, LEASE, every).await.unwrap() {
            said.extend(due.changes.iter().map(|one| one.data["credits"].as_i64().unwrap()));
            mailboxes::end(db, &due, &Outcome::Sent("250".into()), every).await.unwrap();
        }
    }
    assert_eq!(said, [1, 2]);
    assert_eq!(app.mailbox(ANNA).await.waits_since, None);
}

#[tokio::test]
async fn every_type_has_a_topic_or_is_never_mailed() {
    let app = App::new().await;
    let mut never = Vec::new();
    for kind in Type::ALL.into_iter().chain([Type::WebhookPing]) {
        let topic: Option<String> = sqlx::query_scalar("SELECT topic_of($1::change_type)::text")
            .bind(kind.code())
            .fetch_one(&mut app.as_owner().await)
            .await
            .unwrap();
        match topic {
            None => never.push(kind.code()),
            Some(topic) => assert!(Topic::ALL.iter().any(|one| one.code() == topic), "{topic}"),
        }
    }
    assert_eq!(never, ["run.queued", "run.started", "photo.processed", "webhook.ping"]);
}

#[tokio::test]
async fn organisers_set_the_mail_of_their_own_people_and_nobody_reads_the_keys() {
    let app = App::new().await;
    let (mine, theirs) = (app.an_organisation_with(0).await, app.an_organisation_with(0).await);
    app.a_person(ANNA, Role::Organiser, Some(mine)).await;
    app.a_person("eve@other.example", Role::Organiser, Some(theirs)).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(theirs)).await;
    let path = |person: PersonId| format!("/v1/people/{person}/mailbox");
    let (anna, eve) = (app.person_id(ANNA).await, app.person_id("eve@other.example").await);
    let set = async |person, body: serde_json::Value| {
        answered(site.ask(Method::PUT, &path(person), &token).json(&body)).await
    };
    assert_eq!(set(anna, json!({ "topics": ["events"] })).await.0, StatusCode::NOT_FOUND);
    let wrong = set(eve, json!({ "topics": ["operations"] })).await;
    assert_eq!(wrong.0, StatusCode::UNPROCESSABLE_ENTITY, "{wrong:?}");
    let (status, mailbox) = set(eve, json!({ "topics": ["events", "events"] })).await;
    assert_eq!((status, &mailbox["topics"]), (StatusCode::OK, &json!(["events"])));
    let (_, listed) = site.get("/v1/mailboxes", &token).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert_eq!(listed["set_up"], json!(false));
    let (status, _) = site.get(&format!("/v1/mailboxes?organisation={mine}"), &token).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    // Their own, on the page; and it says that nothing is sent.
    let visitor = Visitor::logged_in(&site, ANNA).await;
    assert_eq!(visitor.get(&site, &format!("/people/{eve}/mail")).await, 404);
    assert!(visitor.text(&site, "/account/mail").await.contains("E-mail is not set up"));
    assert_eq!(
        visitor.post(&site, "/account/mail", &[("events", "yes"), ("runs", "yes")]).await,
        303
    );
    assert_eq!(app.mailbox(ANNA).await.topics, [Topic::Events, Topic::Runs]);
    let entries = "SELECT count(*) FROM audit_log WHERE action = 'mailbox.set'";
    assert_eq!(app.count(entries).await, 2);
    let mut db = app.db().await;
    for statement in ["SELECT key FROM mailbox", "UPDATE mailbox SET confirmed_at = now()"] {
        crate::support::refused_for_want_of_privilege(&mut db, statement).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_sets_lists_and_tries_mail() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let organisation = app.an_organisation_with(0).await;
    app.a_person(ANNA, Role::Organiser, Some(organisation)).await;
    let set = app.says(&["mail", "set", ANNA, "--topics", "events,credits", "--actor", "ops"]);
    assert!(set.contains("events,credits") && set.contains("waits for the person to say yes"));
    let listed = app.says(&["mail", "list", "--json"]);
    assert!(listed.contains(ANNA), "{listed}");
    assert!(app.says(&["mail", "stop", ANNA]).contains("off"));
    let unknown = photogate(&app.config, &["mail", "stop", "nobody@club.example"]);
    assert_eq!(unknown.status.code(), Some(4));

    let tried = app.says(&["mail", "test", "ops@club.example"]);
    assert!(tried.contains("250 it is in good hands"), "{tried}");
    assert_eq!(postmaster.to("ops@club.example")[0].subject, "[photogate] A test");
    postmaster.is("to 550 5.1.1 nobody");
    let refused = photogate(&app.config, &["mail", "test", "ops@club.example"]);
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("550 5.1.1 nobody"), "{}", stderr(&refused));
    let shown = app.says(&["config", "show"]);
    assert!(shown.contains("smtp_url"), "{shown}");

    let off = photogate(&App::new().await.config, &["mail", "test", "ops@club.example"]);
    assert!(stderr(&off).contains("e-mail is not set up"), "{}", stderr(&off));
}

/// STARTTLS with an authority of our own: who does not know it sends nothing.
#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_over_tls_to_whom_the_certificate_names_and_otherwise_not_at_all() {
    let dir = place("mail-tls");
    std::fs::create_dir_all(&dir).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, key).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".into()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(dir.join("server.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.join("server.key"), key.serialize_pem()).unwrap();
    let secured = Postmaster::start_with(Some((dir.join("server.pem"), dir.join("server.key"))));
    let plain = Postmaster::start();
    let mut app = an_app(&secured).await;
    let test = |config: &photogate::config::Config, knows: bool| {
        let mut command = program(config);
        command.args(["mail", "test", "ops@club.example"]);
        if knows {
            command.env("SSL_CERT_FILE", dir.join("ca.pem"));
        }
        command.output().unwrap()
    };
    let port = secured.address.port();
    app.config.smtp_url = Some(format!("smtp://localhost:{port}?tls=required"));
    let known = test(&app.config, true);
    assert!(stdout(&known).contains("250"), "{}", stderr(&known));
    assert!(secured.to("ops@club.example")[0].tls);
    assert!(!test(&app.config, false).status.success(), "the authority is unknown");
    app.config.smtp_url = Some(format!("smtp://127.0.0.1:{port}?tls=required"));
    assert!(!test(&app.config, true).status.success(), "the certificate is for another name");
    // It does not fall back.
    app.config.smtp_url = Some(format!("smtp://localhost:{}?tls=required", plain.address.port()));
    assert!(!test(&app.config, true).status.success());
    assert_eq!((secured.received().len(), plain.received().len()), (1, 0));
}

/// A millisecond: nothing is collected, and the next mail may go at once.
const AT_ONCE: Duration = Duration::from_millis(1);

impl App {
    /// The mails that are due by now, of those that fail or of the others.
    async fn due(&self, me: photogate::queue::claim::Incarnation, failing: bool) -> Vec<Due> {
        tokio::time::sleep(AT_ONCE * 10).await;
        mailboxes::take(&mut *self.db().await, me, failing, 9, LEASE, AT_ONCE).await.unwrap()
    }

    async fn ends(&self, due: &Due, outcome: fn(String) -> Outcome) -> bool {
        let (outcome, pause) = (outcome("so it said".into()), Duration::from_secs(5));
        mailboxes::end(&mut *self.db().await, due, &outcome, pause).await.unwrap()
    }

    /// Credits came in, and the mailboxes know.
    async fn news(&self, organisation: OrganisationId, credits: i64) {
        self.top_up(organisation, credits).await;
        feed::number(&mut *self.db().await, organisation).await.unwrap();
    }

    /// The pauses of addresses and of the server are over.
    async fn pauses_end(&self) {
        self.owner_runs(
            "UPDATE photogate.mailbox SET rests_until = NULL;
             UPDATE photogate.mail_server SET rests_until = NULL",
        )
        .await;
    }

    async fn ticket(&self, email: &str, what: &str) -> Ticket {
        let person = self.person_id(email).await;
        let token =
            "SELECT photogate.mail_token(m, $2) FROM photogate.mailbox m WHERE person_id = $1";
        let token: String = sqlx::query_scalar(token)
            .bind(person.0)
            .bind(what)
            .fetch_one(&mut self.as_owner().await)
            .await
            .unwrap();
        Ticket::read(&format!("{person}-{token}")).unwrap()
    }

    /// So many people of an organisation, who cannot log in.
    async fn people(&self, organisation: OrganisationId, people: i64) {
        sqlx::query(
            "INSERT INTO photogate.person (email, password, role, organisation_id)
             SELECT 'p' || n || '@club' || $1 || '.example', 'x', 'organiser', $1
             FROM generate_series(1, $2) n",
        )
        .bind(organisation.0)
        .bind(people)
        .execute(&mut self.as_owner().await)
        .await
        .unwrap();
    }
}

/// Found: two calls switched on again what somebody had unsubscribed from. The first one made it less,
/// and was then the one who had set it.
#[tokio::test]
async fn nobody_adds_to_what_a_person_has_chosen_also_not_in_two_steps() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Credits, Topic::Purchases]).await;
    app.commands().unsubscribe(&app.ticket(ANNA, "unsubscribe").await).await.unwrap();
    app.set_mailbox(ANNA, &[]).await.unwrap();
    let again = app.set_mailbox(ANNA, &[Topic::Credits]).await;
    assert!(again.unwrap_err().to_string().contains("only they can add"));
    // What is essential goes on after unsubscribing, so that is no addition.
    app.set_mailbox(ANNA, &[Topic::Purchases]).await.unwrap();
    let own = MailboxChange { topics: vec![Topic::Credits] };
    app.commands().set_own_mailbox(&Caller::trusted(ANNA), &own).await.unwrap();
    app.set_mailbox(ANNA, &[]).await.unwrap();
    app.set_mailbox(ANNA, &[Topic::Credits]).await.unwrap();
    assert!(app.set_mailbox(ANNA, &[Topic::Credits, Topic::Runs]).await.is_err());
}

/// Found: a change that was numbered while a mail ended was told to nobody. Whoever numbered looked at
/// the mailbox as it was before the mail's end.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_numbered_while_a_mail_ends_is_told() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Credits]).await;
    app.news(organisation, 1).await;
    let hand = app.a_worker().await;
    let due = app.due(hand.me, false).await.remove(0);
    let mut ending = app.as_owner().await;
    let pid: i32 =
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut ending).await.unwrap();
    let mut tx = sqlx::Connection::begin(&mut ending).await.unwrap();
    mailboxes::end(&mut tx, &due, &Outcome::Sent("250".into()), AT_ONCE).await.unwrap();
    // As if number_changes had seen no change for a mailbox, and then one was committed.
    let mut numbers = app.as_owner().await;
    let telling = tokio::spawn(async move {
        sqlx::query(
            "WITH one AS (
                INSERT INTO photogate.change (organisation_id, position, type, subject, at, data)
                SELECT organisation_id, position + 1, 'credits.added', 'x', now(), '{}'
                FROM photogate.change_end),
             ended AS (UPDATE photogate.change_end SET position = position + 1)
             SELECT 1",
        )
        .execute(&mut numbers)
        .await
        .unwrap();
        sqlx::query("SELECT photogate.tell_mailboxes($1, 1)")
            .bind(organisation.0)
            .execute(&mut numbers)
            .await
            .unwrap();
    });
    app.until("it waits for the mailbox, or has not seen it", async || {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
        let mut owner = app.as_owner().await;
        let waits: i64 = sqlx::query_scalar(waits).bind(pid).fetch_one(&mut owner).await.unwrap();
        waits > 0 || telling.is_finished()
    })
    .await;
    tx.commit().await.unwrap();
    telling.await.unwrap();
    assert!(app.mailbox(ANNA).await.waits_since.is_some(), "the second change is to be told");
    assert_eq!(app.due(hand.me, false).await[0].changes[0].position, 2);
}

/// Found: an organisation stopped the mail of the staff with the name of a token that filters of mail
/// refuse: the same letter was tried until its changes were forgotten.
#[tokio::test]
async fn a_letter_that_is_refused_for_its_words_is_sent_without_those_of_others() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    app.a_reader("staff@photogate.example", None, &Topic::of(None)).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Purchases]).await;
    app.owner_runs("UPDATE photogate.organisation SET purchase_limit = 1, name = 'Evil Club'")
        .await;
    sqlx::query("SELECT purchase($1, 900, 'token 4 (http://virus.example)', '', 'k')")
        .bind(organisation.0)
        .execute(&mut *app.db().await)
        .await
        .unwrap();
    for whose in [OrganisationId::STAFF, organisation] {
        feed::number(&mut *app.db().await, whose).await.unwrap();
    }
    let hand = app.a_worker().await;
    let both = app.due(hand.me, false).await;
    assert_eq!(both.len(), 2);
    for due in &both {
        let said = Letter::of(due, "https://photogate.example");
        let is_staff = due.email.starts_with("staff");
        assert_eq!(said.text.contains("virus"), !is_staff, "{}", said.text);
        if is_staff {
            let sentence = "A purchase of 900 credits by a program of “Evil Club” waits";
            assert!(said.text.contains(sentence), "{}", said.text);
        }
        app.ends(due, Outcome::Letter).await;
    }
    app.pauses_end().await;
    assert_eq!(app.due(hand.me, false).await.len(), 0);
    let bare = app.due(hand.me, true).await;
    assert_eq!(bare.len(), 2);
    for due in &bare {
        let said = Letter::of(due, "https://photogate.example");
        let whole = format!("{} {} {}", said.subject, said.text, said.html);
        assert!(!whole.contains("virus") && !whole.contains("Evil"), "{whole}");
        assert!(whole.contains("a purchase waits for approval (purchases/"), "{whole}");
        assert!(!app.ends(due, Outcome::Sent).await);
    }
    app.owner_runs("UPDATE photogate.organisation SET purchase_limit = 2").await;
    app.news(organisation, 1).await;
    sqlx::query("SELECT purchase($1, 901, 'x', '', 'l')")
        .bind(organisation.0)
        .execute(&mut *app.db().await)
        .await
        .unwrap();
    feed::number(&mut *app.db().await, organisation).await.unwrap();
    assert!(!app.due(hand.me, false).await[0].is_bare, "the next one is whole again");
}

/// A program has any name; a question goes to somebody who never asked for it.
#[tokio::test]
async fn a_question_names_a_person_or_the_organisation() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    app.a_person(ANNA, Role::Organiser, Some(organisation)).await;
    let person = app.person_id(ANNA).await;
    let caller = Caller::trusted("token 4 (Win at http://virus.example)");
    let change = MailboxChange { topics: vec![Topic::Credits] };
    app.commands().set_mailbox(&caller, person, &change).await.unwrap();
    let hand = app.a_worker().await;
    let due = app.due(hand.me, false).await.remove(0);
    let letter = Letter::of(&due, "https://photogate.example");
    assert!(letter.text.starts_with("Somebody of Club wants photogate"), "{}", letter.text);
    assert!(!letter.text.contains("virus") && !letter.html.contains("virus"));
}

/// The server has the whole mail. If that was it, the same mail must not come every few seconds.
#[tokio::test]
async fn a_mail_that_was_not_answered_comes_again_after_an_hour_and_a_question_never() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Credits]).await;
    app.a_person("new@club.example", Role::Organiser, Some(organisation)).await;
    app.set_mailbox("new@club.example", &[Topic::Credits]).await.unwrap();
    app.news(organisation, 1).await;
    let hand = app.a_worker().await;
    let due = app.due(hand.me, false).await;
    assert_eq!(due.len(), 2);
    for due in &due {
        assert!(!app.ends(due, Outcome::Unanswered).await);
    }
    let anna = app.mailbox(ANNA).await;
    let rest = anna.rests_until.unwrap() - chrono::Utc::now();
    assert!(rest > chrono::TimeDelta::minutes(50), "{rest}");
    let new = app.mailbox("new@club.example").await;
    assert_eq!((new.waits_since, new.rests_until), (None, None));
    app.pauses_end().await;
    let again = app.due(hand.me, true).await;
    let ids = [&due[0], &due[1], &again[0]].map(|one| (one.person, Letter::of(one, "x").id()));
    assert!(ids[..2].contains(&ids[2]), "it is known by its ID");
    assert_eq!((again.len(), app.due(hand.me, false).await.len()), (1, 0));
}

/// The server thinks about a mail for minutes; whoever must stop does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_to_stop_gives_up_a_mail_that_the_server_thinks_about() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let organisation = app.an_organisation_with(0).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Credits]).await;
    postmaster.is("silent");
    let worker = app.start_worker();
    app.top_up(organisation, 5).await;
    app.until("the server has it", async || postmaster.count("data") == 1).await;
    worker.drain().await;
    let mailbox = app.mailbox(ANNA).await;
    assert_eq!(mailbox.trouble, None, "nobody has said what came of it");
    let leased = "SELECT count(*) FROM mailbox WHERE leased_until > clock_timestamp()";
    assert_eq!(app.count(leased).await, 1);
    // A server that hangs up instead is an answer as little.
    postmaster.is("drops");
    app.owner_runs("UPDATE photogate.mailbox SET leased_until = NULL").await;
    let worker = app.start_worker();
    app.until("it is noted", async || app.mailbox(ANNA).await.trouble.is_some()).await;
    worker.drain().await;
    let rest = app.mailbox(ANNA).await.rests_until.unwrap() - chrono::Utc::now();
    assert!(rest > chrono::TimeDelta::minutes(50), "{rest}");
}

/// Found: topics that were set to nothing and back while a question was on its way asked again, and
/// questions that did not arrive never counted.
#[tokio::test]
async fn a_question_counts_when_it_is_tried_whatever_is_set_meanwhile() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    app.a_person(ANNA, Role::Organiser, Some(organisation)).await;
    let hand = app.a_worker().await;
    for day in 1..=3 {
        app.set_mailbox(ANNA, &[Topic::Credits]).await.unwrap();
        let due = app.due(hand.me, false).await;
        assert_eq!(due.len(), 1, "day {day}");
        app.set_mailbox(ANNA, &[]).await.unwrap();
        app.set_mailbox(ANNA, &[Topic::Credits]).await.unwrap();
        app.ends(&due[0], Outcome::Later).await;
        app.set_mailbox(ANNA, &[]).await.unwrap();
        app.set_mailbox(ANNA, &[Topic::Credits]).await.unwrap();
        app.pauses_end().await;
        assert_eq!(app.due(hand.me, false).await.len() + app.due(hand.me, true).await.len(), 0);
        app.owner_runs(
            "UPDATE photogate.mailbox SET confirm_sent_at = confirm_sent_at - interval '25 hours',
                 failures = 0, failing_since = NULL",
        )
        .await;
    }
    let refused = app.set_mailbox(ANNA, &[Topic::Credits]).await.unwrap_err();
    assert!(refused.to_string().contains("asked 3 times"), "{refused}");
}

/// One question that is tried again and again is one: an outage, or a server that says "not yet", uses
/// up nothing.
#[tokio::test]
async fn a_question_that_is_tried_again_counts_once() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    app.a_person(ANNA, Role::Organiser, Some(organisation)).await;
    app.set_mailbox(ANNA, &[Topic::Credits]).await.unwrap();
    let hand = app.a_worker().await;
    for outcome in [Outcome::Server, Outcome::Busy, Outcome::Later, Outcome::Sent] {
        let mut due = app.due(hand.me, false).await;
        due.extend(app.due(hand.me, true).await);
        assert_eq!(due.len(), 1);
        app.ends(&due[0], outcome).await;
        app.pauses_end().await;
        // A long outage: the link is good from now on.
        app.owner_runs(
            "UPDATE photogate.mailbox SET confirm_asked_at = confirm_asked_at - interval '2 days',
                 confirm_sent_at = confirm_sent_at - interval '2 days'",
        )
        .await;
    }
    assert_eq!(app.count("SELECT confirm_mails::bigint FROM mailbox").await, 1);
}

/// An organisation that invites strangers, and opens the links itself, asks few of them.
#[tokio::test]
async fn an_organisation_asks_fifty_people_a_day() {
    let app = App::new().await;
    let (evil, other) = (app.an_organisation_with(0).await, app.an_organisation_with(0).await);
    app.people(evil, 60).await;
    app.people(other, 1).await;
    app.owner_runs(
        "SELECT photogate.set_mailbox(person_id, '{credits}', 'x') FROM photogate.person",
    )
    .await;
    let hand = app.a_worker().await;
    let mut asked = Vec::new();
    for round in 0..60 {
        for due in app.due(hand.me, false).await {
            asked.push(due.email.clone());
            // Also those that were disabled since then count.
            if round == 10 {
                app.owner_runs(
                    "UPDATE photogate.person SET disabled_at = now() WHERE person_id IN (
                    SELECT person_id FROM photogate.mailbox WHERE confirm_sent_at IS NOT NULL)",
                )
                .await;
            }
            app.ends(&due, Outcome::Sent).await;
        }
    }
    let of = |organisation: OrganisationId| {
        asked.iter().filter(|one| one.contains(&format!("club{organisation}."))).count()
    };
    assert_eq!((of(evil), of(other)), (50, 1));
    app.owner_runs(
        "UPDATE photogate.mailbox SET confirm_sent_at = confirm_sent_at - interval '25 hours'",
    )
    .await;
    app.pauses_end().await;
    assert_eq!(app.due(hand.me, false).await.len(), 2, "tomorrow the others are asked");
}

/// Found: an organisation whose addresses are dead or slow had all places, because it waited longest.
#[tokio::test]
async fn addresses_that_hang_or_fail_leave_places_to_others() {
    let app = App::new().await;
    let (slow, other) = (app.an_organisation_with(0).await, app.an_organisation_with(0).await);
    app.people(slow, 5).await;
    app.people(other, 1).await;
    app.owner_runs(
        "SELECT photogate.set_mailbox(person_id, '{credits}', 'x') FROM photogate.person
         ORDER BY organisation_id",
    )
    .await;
    app.owner_runs(
        "UPDATE photogate.mailbox SET confirm_asked_at = now(), confirmed_at = now(), waits_since = NULL",
    )
    .await;
    app.news(slow, 1).await;
    app.news(other, 2).await;
    let hand = app.a_worker().await;
    let whose = |due: &[Due]| {
        due.iter().map(|one| one.changes[0].data["credits"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    let first = app.due(hand.me, false).await;
    assert_eq!(whose(&first), [1, 1, 2], "two hang, and the other organisation is served");
    assert_eq!(app.due(hand.me, false).await.len(), 0);
    // They fail, and then compete only with those that fail.
    for due in &first[..2] {
        app.ends(due, Outcome::Later).await;
    }
    app.pauses_end().await;
    let well = app.due(hand.me, false).await;
    assert_eq!(whose(&well), [1, 1]);
    assert!(well.iter().all(|due| due.person != first[0].person && due.person != first[1].person));
    assert_eq!(app.due(hand.me, true).await.len(), 0, "the organisation has two mails already");
    for due in &well {
        app.ends(due, Outcome::Sent).await;
    }
    assert_eq!(app.due(hand.me, true).await.len(), 2);
}

/// Mailboxes for which nothing is left to say take no place of others.
#[tokio::test]
async fn a_mailbox_with_nothing_to_say_takes_no_place() {
    let app = App::new().await;
    let hand = app.a_worker().await;
    for person in ["anna@club.example", "bert@club.example", "carl@club.example"] {
        let organisation = app.an_organisation_with(0).await;
        app.a_reader(person, Some(organisation), &[Topic::Credits]).await;
        app.news(organisation, 1).await;
        if person != "carl@club.example" {
            app.set_mailbox(person, &[Topic::Runs]).await.unwrap();
        }
    }
    tokio::time::sleep(AT_ONCE * 10).await;
    let db = &mut *app.db().await;
    let due = mailboxes::take(db, hand.me, false, 1, LEASE, AT_ONCE).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].email, "carl@club.example");
}

/// Found: a relay that refuses everybody with a plain 550 stopped every mailbox.
#[tokio::test]
async fn a_plain_no_stops_an_address_after_a_day_and_only_if_others_are_taken() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Credits]).await;
    app.news(organisation, 1).await;
    let hand = app.a_worker().await;
    let due = app.due(hand.me, false).await.remove(0);
    assert!(!app.ends(&due, Outcome::Doubtful).await);
    let refused = async || {
        app.pauses_end().await;
        let due = app.due(hand.me, true).await.remove(0);
        app.ends(&due, Outcome::Doubtful).await
    };
    for _ in 0..4 {
        assert!(!refused().await, "not in a day");
    }
    app.owner_runs(
        "UPDATE photogate.mailbox SET failing_since = failing_since - interval '25 hours'",
    )
    .await;
    assert!(!refused().await, "it takes nobody's mail");
    app.owner_runs("UPDATE photogate.mail_server SET sent_at = clock_timestamp()").await;
    assert!(refused().await);
    assert!(app.mailbox(ANNA).await.stopped_at.is_some());
}

/// Found: troubles of the server that it says when the address is named were those of each address, and
/// the metric left out all addresses that fail. And one address alone must not stop all mail.
#[tokio::test]
async fn a_server_that_is_busy_rests_and_another_address_finds_out_whether_it_is_back() {
    let app = App::new().await;
    let hand = app.a_worker().await;
    let people = ["anna@club.example", "bert@club.example"];
    for person in people {
        let organisation = app.an_organisation_with(0).await;
        app.a_reader(person, Some(organisation), &[Topic::Credits]).await;
        app.news(organisation, 1).await;
    }
    let db = &mut *app.db().await;
    tokio::time::sleep(AT_ONCE * 10).await;
    let first = mailboxes::take(db, hand.me, false, 1, LEASE, AT_ONCE).await.unwrap().remove(0);
    app.ends(&first, Outcome::Busy).await;
    assert!(mailboxes::server_trouble(db).await.unwrap().is_some());
    app.owner_runs("UPDATE photogate.mail_server SET rests_until = NULL").await;
    assert_eq!(app.due(hand.me, true).await.len(), 0, "that address rests, too");
    let second = app.due(hand.me, false).await.remove(0);
    assert_ne!(first.email, second.email);
    // No server was asked: that says nothing of it, and keeps nobody back.
    app.ends(&second, Outcome::Unfit).await;
    assert!(mailboxes::server_trouble(db).await.unwrap().is_some());
    assert!(app.mailbox(&second.email).await.stopped_at.is_some());
    app.owner_runs(
        "UPDATE photogate.mailbox SET failing_since = failing_since - interval '40 minutes',
             rests_until = NULL",
    )
    .await;
    let waits = mailboxes::seconds_waiting(db).await.unwrap();
    assert!((2300.0..2600.0).contains(&waits), "the address that fails counts: {waits}");
    let first = app.due(hand.me, true).await.remove(0);
    app.ends(&first, Outcome::Sent).await;
    assert!(mailboxes::server_trouble(db).await.unwrap().is_none());
}

/// Found: of many changes the urgent ones had a place, and what ended them had none: the mail said that
/// an event is paused that went on.
#[tokio::test]
async fn a_pause_that_is_over_has_no_place_in_a_long_mail() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Events]).await;
    app.pauses(organisation, 1, 70).await;
    app.owner_runs(
        "INSERT INTO photogate.new_change (organisation_id, type, subject, data)
         SELECT organisation_id, 'event.resumed', 'events/' || n, jsonb_build_object('event', n,
             'operation', 'photo_processing', 'cause', 'top_up')
         FROM photogate.organisation, generate_series(1, 69) n",
    )
    .await;
    feed::number(&mut *app.db().await, organisation).await.unwrap();
    let hand = app.a_worker().await;
    let due = app.due(hand.me, false).await.remove(0);
    let paused: Vec<_> = due.changes.iter().filter(|one| one.kind == Type::EventPaused).collect();
    assert_eq!((paused.len(), paused[0].subject.as_str()), (1, "events/70"));
    assert_eq!((due.changes.len(), due.more), (50, 89));
    let letter = Letter::of(&due, "https://photogate.example");
    assert!(letter.subject.contains("event 70 is paused"), "{}", letter.subject);
}

/// A clock that was years ahead, and is right again.
#[tokio::test]
async fn times_of_the_future_keep_no_mail_back() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Credits]).await;
    app.news(organisation, 1).await;
    app.owner_runs(
        "UPDATE photogate.mailbox SET waits_since = now() + interval '1 year',
             leased_until = now() + interval '1 year', rests_until = now() + interval '1 year',
             sent_at = now() + interval '1 year';
         UPDATE photogate.mail_server SET failing_since = now() + interval '1 year', failures = 1,
             rests_until = now() + interval '1 year'",
    )
    .await;
    let hand = app.a_worker().await;
    let due = app.due(hand.me, false).await;
    assert_eq!(due.len(), 1);
    app.ends(&due[0], Outcome::Server).await;
    let rests = "SELECT count(*) FROM mail_server WHERE rests_until < now() + interval '1 hour'";
    assert_eq!(app.count(rests).await, 1);
}

/// Found: a person who was disabled for a moment was never asked, and the page said that they will be.
#[tokio::test]
async fn a_question_survives_that_a_person_is_disabled_for_a_moment() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    app.a_person(ANNA, Role::Organiser, Some(organisation)).await;
    app.set_mailbox(ANNA, &[Topic::Credits]).await.unwrap();
    let hand = app.a_worker().await;
    app.owner_runs("UPDATE photogate.person SET disabled_at = now()").await;
    assert_eq!(app.due(hand.me, false).await.len(), 0);
    app.owner_runs("UPDATE photogate.person SET disabled_at = NULL").await;
    assert_eq!(app.due(hand.me, false).await.len(), 1);
}

/// Each change is looked at when it is numbered: that must cost no call of a function.
#[tokio::test]
async fn the_topic_of_a_change_is_read_without_a_call() {
    let app = App::new().await;
    let plan: Vec<String> = sqlx::query_scalar(
        "EXPLAIN (VERBOSE) SELECT FROM photogate.new_change WHERE photogate.topic_of(type) IS NOT NULL
             AND photogate.is_urgent_mail(type)",
    )
    .fetch_all(&mut app.as_owner().await)
    .await
    .unwrap();
    let plan = plan.join(" ");
    assert!(plan.contains("event.paused") && !plan.contains("topic_of"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn small_words_are_right() {
    let postmaster = Postmaster::start();
    let app = an_app(&postmaster).await;
    let organisation = app.an_organisation_with(0).await;
    app.a_reader(ANNA, Some(organisation), &[Topic::Credits]).await;
    let own = MailboxChange { topics: vec![Topic::Credits] };
    app.commands().set_own_mailbox(&Caller::trusted(ANNA), &own).await.unwrap();
    app.news(organisation, 1).await;
    let hand = app.a_worker().await;
    let mut due = app.due(hand.me, false).await.remove(0);
    due.skipped = 1;
    let letter = Letter::of(&due, "https://photogate.example");
    assert!(letter.text.contains("1 older change of the organisation is not kept"));
    assert!(letter.text.contains("You get this because you chose it."), "{}", letter.text);

    // Two tests are two mails.
    for _ in 0..2 {
        app.says(&["mail", "test", "ops@club.example"]);
    }
    let tests = postmaster.to("ops@club.example");
    assert_ne!(tests[0].header("message-id"), tests[1].header("message-id"));

    // Who says yes when all was switched off meanwhile is told that nothing comes.
    app.a_person("new@club.example", Role::Organiser, Some(organisation)).await;
    app.set_mailbox("new@club.example", &[Topic::Credits]).await.unwrap();
    let ticket = app.ticket("new@club.example", "confirm").await;
    app.set_mailbox("new@club.example", &[]).await.unwrap();
    let site = Site::of(&app).await;
    let (stranger, path) = (Visitor::stranger(), format!("/mail/{}/confirm", ticket.shown()));
    assert!(stranger.text(&site, &path).await.contains("Nothing is to be sent"));
    let answer = stranger.client.post(site.url(&path)).send().await.unwrap();
    assert!(answer.text().await.unwrap().contains("so no mail comes"));
    let visitor = Visitor::logged_in(&site, ANNA).await;
    assert!(visitor.text(&site, "/account/mail").await.contains("minutes at most"));
}
