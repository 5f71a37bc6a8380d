//! Makes the history, event by event, in the past.

use std::collections::HashMap;

use anyhow::Context;
use chrono::{DateTime, Days, NaiveTime, TimeDelta, Utc};
use indicatif::ProgressBar;

use super::{
    crew::{Crew, Luck},
    lens::Lens,
    past::Past,
    plot::{CLUBS, Club, DONE_BEFORE, OPERATOR, PEOPLE, RACES, Race, STAFF, Way},
};
use crate::{
    access::{self, Caller, Hashed, Role},
    changes::alerts::Kind,
    commands::{
        Addition, Commands, Enqueue, NewAlert, NewEvent, NewHold, NewOrganisation, NewPerson,
        NewSchedule, NewToken, OnInsufficient, OrganisationChange, Payloads, Retry, Twin, Which,
    },
    config::Config,
    ids::{EventId, Operation, Operations, OrganisationId},
    ledger::{
        credits::{self, Credits},
        spending::{Budget, Pace},
        top_up::TopUpKind,
    },
    notify::wake::Wake,
    queue::enqueue::Priority,
};

/// The history begins so many days ago.
const DAYS: u64 = 170;

/// The photos of the running event that are claimed in a minute: it runs for half an hour.
const PER_MINUTE: i32 = 20;

/// What was made.
pub(super) struct Made {
    pub(super) clubs: Vec<OrganisationId>,
    /// The events by the way they went; the last one of each.
    pub(super) events: HashMap<Way, EventId>,
    pub(super) present: DateTime<Utc>,
    /// The path of the link with which somebody who was invited chooses a password.
    pub(super) invitation: String,
}

pub(super) struct History<'a> {
    past: Past,
    lens: &'a Lens,
    commands: Commands,
    made: Made,
    /// A new key for each purchase.
    purchases: usize,
}

impl<'a> History<'a> {
    /// Makes all of it. The people get this password.
    pub(super) async fn make(
        config: &Config,
        lens: &'a Lens,
        password: &str,
        bar: &ProgressBar,
    ) -> anyhow::Result<Made> {
        let present = Utc::now();
        let began = present - Days::new(DAYS);
        let past = Past::begin(&config.database_url, began).await?;
        let commands = Commands::new(past.pool.clone(), Wake::silent());
        let (clubs, events, invitation) = (Vec::new(), HashMap::new(), String::new());
        let made = Made { clubs, events, present, invitation };
        let mut history = Self { past, lens, commands, made, purchases: 0 };
        for club in &CLUBS {
            history.found(club).await?;
        }
        history.let_in(password).await?;
        for race in &RACES {
            bar.set_message(race.name);
            history.race(race).await.with_context(|| format!("making {}", race.name))?;
            bar.inc(1);
        }
        history.ask_for_more().await?;
        history.past.end().await?;
        Ok(history.made)
    }

    /// A new organisation, with a few credits as a present.
    async fn found(&mut self, club: &Club) -> anyhow::Result<()> {
        let staff = Caller::trusted(STAFF);
        let new = NewOrganisation {
            time_zone: club.time_zone.into(),
            price: Some(club.price.parse()?),
            photos_under: Some(club.under.into()),
            ..NewOrganisation::new(club.name)
        };
        let id = self.commands.create_organisation(&staff, &new).await?.value.id;
        self.made.clubs.push(id);
        let limit = OrganisationChange {
            purchase_limit: Some(Credits(club.purchase_limit)),
            ..OrganisationChange::default()
        };
        self.commands.change_organisation(&staff, id, &limit).await?;
        let welcome = Addition {
            kind: TopUpKind::FreeCredits,
            note: "Welcome",
            ..addition(id, Credits(100), "welcome")
        };
        self.commands.add_credits(&staff, &welcome).await?;
        let token = NewToken {
            name: format!("{} upload", club.name),
            role: Role::Pipeline,
            organisation: Some(id),
            expires_in_days: None,
        };
        self.commands.create_token(&staff, &token).await?;
        let organiser = self.organiser(self.made.clubs.len() - 1);
        for (kind, threshold) in [(Kind::LowBalance, 300), (Kind::Failures, 10)] {
            let alert = NewAlert { kind, threshold: threshold.into() };
            self.commands.add_alert(&organiser, id, &alert).await?;
        }
        self.past.pass(TimeDelta::hours(3)).await
    }

    /// The people, all with the same password, and somebody who has not come yet.
    async fn let_in(&mut self, password: &str) -> anyhow::Result<()> {
        let hashed = Hashed::new(password, PEOPLE[0].0).await?;
        for (email, role, club, _) in PEOPLE {
            let club = club.map(|club| self.made.clubs[club]);
            let mut db = self.past.pool.acquire().await?;
            access::create_person(&mut db, email, &hashed, role, club).await?;
        }
        Ok(())
    }

    fn organiser(&self, club: usize) -> Caller {
        let (actor, organisation) = (CLUBS[club].organiser.into(), Some(self.made.clubs[club]));
        Caller { actor, role: Role::Organiser, organisation }
    }

    /// A time of a day before the present.
    fn at(&self, days: i64, hour: i64) -> DateTime<Utc> {
        let midnight = self.made.present.date_naive().and_time(NaiveTime::MIN).and_utc();
        midnight - TimeDelta::days(days) + TimeDelta::hours(hour)
    }

    /// An event, from its first day to its last.
    async fn race(&mut self, race: &Race) -> anyhow::Result<()> {
        let organiser = self.organiser(race.club);
        let began = if race.days == 0 {
            self.made.present - TimeDelta::minutes(50)
        } else {
            self.at(race.days, 13)
        };
        self.past.until(began - TimeDelta::hours(30)).await?;
        let new = NewEvent {
            face_search: race.way == Way::Fresh,
            face_consent: race.way == Way::Fresh,
            ..NewEvent::new(race.name, self.made.clubs[race.club])
        };
        let event = self.commands.create_event(&organiser, &new).await?.value.id;
        self.made.events.insert(race.way, event);
        self.past.until(began - TimeDelta::hours(20)).await?;
        let (needed, all) = (race.photos, 1..=race.photos);
        match race.way {
            Way::Done | Way::Cancelled => {
                self.fund(race.club, needed).await?;
                self.past.until(began).await?;
                let later = needed * 3 / 5;
                self.queue(race, event, Operation::PhotoProcessing, 1..=later).await?;
                self.work(Luck::Usual, usize::MAX).await?;
                self.past.until(began + TimeDelta::hours(4)).await?;
                self.queue(race, event, Operation::PhotoProcessing, later + 1..=needed).await?;
                self.work(Luck::Usual, usize::MAX).await?;
                if race.way == Way::Cancelled {
                    self.queue_by_mistake(race, event).await?;
                }
            }
            Way::Turned => {
                self.fund(race.club, 2 * needed).await?;
                self.past.until(began).await?;
                for operation in [Operation::AiRotation, Operation::PhotoProcessing] {
                    self.queue(race, event, operation, all.clone()).await?;
                    self.work(Luck::Usual, usize::MAX).await?;
                    self.past.pass(TimeDelta::hours(1)).await?;
                }
            }
            Way::RunsDry => {
                self.past.until(began).await?;
                self.queue(race, event, Operation::PhotoProcessing, all).await?;
                self.work(Luck::Usual, usize::MAX).await?;
                self.past.until(self.at(race.days - 1, 8)).await?;
                self.fund(race.club, needed).await?;
                self.work(Luck::Usual, usize::MAX).await?;
            }
            Way::Troubled | Way::Retried => {
                self.fund(race.club, needed).await?;
                self.past.until(began).await?;
                self.queue_with(race, event, Operation::PhotoProcessing, all, Luck::Bad).await?;
                self.work(Luck::Bad, usize::MAX).await?;
                if race.way == Way::Retried {
                    self.past.until(self.at(race.days - 1, 9)).await?;
                    self.retry(event).await?;
                }
            }
            Way::Capped => {
                self.fund(race.club, needed).await?;
                let cap = Credits(i64::try_from(needed * 3 / 4)?);
                let budget = Budget { cap: Some(cap), floor: Credits(0) };
                self.commands.set_budget(&organiser, event, budget, None).await?;
                self.past.until(began).await?;
                self.queue(race, event, Operation::PhotoProcessing, all).await?;
                self.work(Luck::Usual, usize::MAX).await?;
            }
            Way::Held => {
                self.fund(race.club, needed).await?;
                self.past.until(began).await?;
                self.queue(race, event, Operation::PhotoProcessing, all).await?;
                self.work(Luck::Usual, needed / 3).await?;
                let operator = by(OPERATOR, Role::Operator);
                let note = "The clock of one camera was wrong: its photos are sent again";
                let hold = NewHold { operation: None, note: note.into(), until: None };
                self.commands.hold(&operator, event, &hold).await?;
            }
            Way::Paused => {
                self.fund_exactly(race.club, 300).await?;
                self.past.until(began).await?;
                self.queue(race, event, Operation::PhotoProcessing, all).await?;
                self.work(Luck::Usual, usize::MAX).await?;
            }
            Way::Running => {
                self.fund(race.club, needed + 2_600).await?;
                self.past.until(began).await?;
                self.queue(race, event, Operation::PhotoProcessing, 1..=needed).await?;
                self.work(Luck::Good, DONE_BEFORE).await?;
                let pace = Pace { photos_per_minute: Some(PER_MINUTE), ..Pace::default() };
                self.commands.set_event_pace(&organiser, event, pace).await?;
            }
            Way::Scheduled => self.schedule(race, event).await?,
            Way::Fresh | Way::Empty => {}
        }
        Ok(())
    }

    /// The keys of photos of an event, which are put into the store.
    fn photos(
        &self,
        race: &Race,
        which: std::ops::RangeInclusive<usize>,
        luck: Luck,
    ) -> anyhow::Result<Vec<String>> {
        let year = self.past.now().format("%Y");
        let (under, folder) = (CLUBS[race.club].under, race.folder);
        let mut keys = Vec::new();
        for number in which {
            let key = format!("{under}{year}/{folder}/IMG_{number:04}.jpg");
            // A real worker looks at the rest of the event that runs.
            if race.way == Way::Running && number > DONE_BEFORE {
                self.lens.put_own(&key)?;
            } else {
                self.lens.put(&key, luck.breaks(&key))?;
            }
            keys.push(key);
        }
        Ok(keys)
    }

    async fn queue(
        &mut self,
        race: &Race,
        event: EventId,
        operation: Operation,
        which: std::ops::RangeInclusive<usize>,
    ) -> anyhow::Result<()> {
        let luck = if race.way == Way::Running { Luck::Good } else { Luck::Usual };
        self.queue_with(race, event, operation, which, luck).await
    }

    /// The upload pipeline queues photos.
    async fn queue_with(
        &mut self,
        race: &Race,
        event: EventId,
        operation: Operation,
        which: std::ops::RangeInclusive<usize>,
        luck: Luck,
    ) -> anyhow::Result<()> {
        let keys = self.photos(race, which, luck)?;
        let pipeline = Caller {
            actor: format!("{} upload", CLUBS[race.club].name),
            role: Role::Pipeline,
            organisation: Some(self.made.clubs[race.club]),
        };
        self.commands.enqueue(&pipeline, event, &enqueue(operation.into(), &keys)).await?;
        self.past.pass(TimeDelta::minutes(2)).await
    }

    async fn work(&mut self, luck: Luck, most: usize) -> anyhow::Result<()> {
        let mut crew = Crew::begin(&mut self.past, self.lens, luck).await?;
        crew.work(most).await?;
        crew.end().await?;
        self.past.pass(TimeDelta::minutes(1)).await
    }

    /// An operator has failed photos tried again, and this time they can be read.
    async fn retry(&mut self, event: EventId) -> anyhow::Result<()> {
        let (operation, reason) = (Operation::PhotoProcessing, Some("truncated"));
        let asked = Retry { operation, reason, dry_run: false };
        self.commands.retry(&by(OPERATOR, Role::Operator), event, &asked).await?;
        self.work(Luck::Good, usize::MAX).await
    }

    /// Photos of another event are queued, and taken back.
    async fn queue_by_mistake(&mut self, race: &Race, event: EventId) -> anyhow::Result<()> {
        let organiser = self.organiser(race.club);
        let keys: Vec<String> = (1..=90)
            .map(|number| format!("{}bremen-cups/IMG_{number:04}.jpg", CLUBS[race.club].under))
            .collect();
        for key in &keys {
            self.lens.put(key, false)?;
        }
        let asked = enqueue(Operations::PhotoProcessing, &keys);
        let plan = self.commands.enqueue(&organiser, event, &asked).await?;
        self.past.pass(TimeDelta::minutes(6)).await?;
        for run in plan.runs {
            self.commands.cancel_run(&organiser, run).await?;
        }
        Ok(())
    }

    async fn schedule(&mut self, race: &Race, event: EventId) -> anyhow::Result<()> {
        let keys = self.photos(race, 1..=400, Luck::Good)?;
        let tomorrow = self.at(-1, 5);
        let schedule = NewSchedule {
            operation: Operations::Both,
            photos: Which::Keys(&keys),
            payloads: Payloads::new(),
            not_before: tomorrow,
            priority: Priority::Normal,
        };
        self.commands.schedule(&self.organiser(race.club), event, &schedule).await?;
        Ok(())
    }

    /// Makes sure of enough credits: buys what is missing, in round numbers.
    async fn fund(&mut self, club: usize, needed: usize) -> anyhow::Result<()> {
        let available = self.available(club).await?;
        let missing = i64::try_from(needed)? - available;
        if missing > 0 {
            let bundle = CLUBS[club].bundle;
            self.buy(club, (missing.max(bundle) + 499) / 500 * 500).await?;
        }
        Ok(())
    }

    async fn fund_exactly(&mut self, club: usize, needed: i64) -> anyhow::Result<()> {
        let available = self.available(club).await?;
        if (1..needed).contains(&available) {
            self.buy(club, needed - available).await?;
        }
        Ok(())
    }

    async fn available(&self, club: usize) -> anyhow::Result<i64> {
        let mut db = self.past.pool.acquire().await?;
        let balance = credits::balance(&mut db, self.made.clubs[club]).await?;
        Ok(balance.context("the organisation is gone")?.available.0)
    }

    /// The organiser buys credits.
    async fn buy(&mut self, club: usize, credits: i64) -> anyhow::Result<()> {
        self.purchases += 1;
        let key = format!("purchase-{}", self.purchases);
        let addition = addition(self.made.clubs[club], Credits(credits), &key);
        self.commands.buy(&self.organiser(club), &addition).await?;
        Ok(())
    }

    /// The last hours: a purchase above the limit waits for staff, and somebody is invited.
    async fn ask_for_more(&mut self) -> anyhow::Result<()> {
        self.past.until(self.made.present - TimeDelta::minutes(25)).await?;
        self.buy(2, 2_000).await?;
        let invited = NewPerson {
            email: "lena@laufwerk.example".into(),
            role: Role::Organiser,
            organisation: Some(self.made.clubs[0]),
        };
        let link = self.commands.invite(&Caller::trusted(STAFF), &invited).await?;
        self.made.invitation = link.link.0;
        Ok(())
    }
}

fn by(email: &str, role: Role) -> Caller {
    Caller { actor: email.into(), role, organisation: None }
}

fn enqueue(operation: Operations, keys: &[String]) -> Enqueue<'_> {
    Enqueue {
        operation,
        photos: Which::Keys(keys),
        payloads: Payloads::new(),
        dry_run: false,
        on_insufficient: OnInsufficient::Wait,
        priority: Priority::Normal,
    }
}

fn addition(organisation: OrganisationId, credits: Credits, key: &str) -> Addition<'_> {
    Addition {
        organisation,
        kind: TopUpKind::Purchase,
        credits,
        note: "",
        idempotency_key: key,
        price: None,
        twin: Twin::Waits,
    }
}
