//! `photogate spending …`: the order in which events get credits, and their budgets.

use chrono::NaiveTime;

use super::{End, Output, say};
use crate::{
    access::Caller,
    commands::{EventChange, NewOrder},
    config::Config,
    database,
    ids::{EventId, OrganisationId},
    ledger::{
        credits::Credits,
        spending::{self, Budget, Class, Order, Pace},
    },
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Spending {
    /// Shows how an organisation spends its credits, and which photos get one if nothing changes
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Show {
        /// The organisation's number
        organisation: OrganisationId,
    },
    /// Sets how many credits an event may use, and how many are kept for it; without both, removes it
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Credits that the event has used already count, and both operations together. A queue that may spend
nothing more is paused; it resumes when the budget, a refund or a top-up allows it.

Examples:
  photogate spending budget 1 --cap 5000 --floor 1000
  photogate spending budget 1                       no budget any more")]
    Budget {
        /// The event's number
        event: EventId,
        /// The event never uses more credits than this [default: no limit]
        #[arg(long)]
        cap: Option<i64>,
        /// So many credits are kept for the event: other events cannot take them
        #[arg(long, default_value_t = 0)]
        floor: i64,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Sets the order in which an organisation's events get its credits
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Examples:
  photogate spending order 1 priority               urgent events first, background events last
  photogate spending order 1 finish_first 12 7 --dry-run")]
    Order {
        /// The organisation's number
        organisation: OrganisationId,
        /// The order
        #[arg(value_enum)]
        order: Order,
        /// For `finish_first`: the events that come first, in this order
        events: Vec<EventId>,
        /// Change nothing: only tell which photos would get a credit then
        #[arg(long)]
        dry_run: bool,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Sets how fast photos of an event, or of an organisation, are claimed at most
    #[command(after_help = "Needs: PostgreSQL (--database-url).

What is left out has no limit. Quiet hours are in the organisation's time zone.

Examples:
  photogate spending pace --event 1 --per-minute 600 --quiet-from 22:00 --quiet-to 06:00
  photogate spending pace --organisation 1 --in-flight-max 32
  photogate spending pace --organisation 1 --weight 2    its limits stay as they are
  photogate spending pace --event 1                 no limit any more")]
    Pace {
        /// The event's number
        #[arg(long, required_unless_present = "organisation", conflicts_with = "organisation")]
        event: Option<EventId>,
        /// The organisation's number: for all its events together
        #[arg(long)]
        organisation: Option<OrganisationId>,
        /// Photos in progress at the same time, over all workers
        #[arg(long)]
        in_flight_max: Option<i32>,
        /// Photos that are claimed in a minute
        #[arg(long)]
        per_minute: Option<i32>,
        /// From this time of day on, nothing is claimed
        #[arg(long, value_parser = time_of_day, requires = "quiet_to")]
        quiet_from: Option<NaiveTime>,
        /// Until this time of day
        #[arg(long, value_parser = time_of_day, requires = "quiet_from")]
        quiet_to: Option<NaiveTime>,
        /// The organisation's share beside others, 1 to 100 [default: as it is]
        #[arg(long, requires = "organisation")]
        weight: Option<i32>,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Sets how urgent an event is, for organisations whose order is priority
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate spending class 1 urgent")]
    Class {
        /// The event's number
        event: EventId,
        /// How urgent it is
        #[arg(value_enum)]
        class: Class,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
}

impl Spending {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let done = match self {
            Self::Show { organisation } => {
                let pool = database::connect(&config.database_url, 1).await?;
                match spending::read(&mut *pool.acquire().await?, organisation, None).await? {
                    Some(spending) => Ok(spending),
                    None => {
                        say!("error: there is no organisation {organisation}");
                        return Ok(End::NotFound);
                    }
                }
            }
            Self::Budget { event, cap, floor, actor } => {
                let budget = Budget { cap: cap.map(Credits), floor: Credits(floor) };
                let commands = super::commands(config).await?;
                commands.set_budget(&Caller::trusted(&actor), event, budget, None).await
            }
            Self::Order { organisation, order, events, dry_run, actor } => {
                let commands = super::commands(config).await?;
                let new = NewOrder { order, events };
                let caller = Caller::trusted(&actor);
                commands.set_spend_order(&caller, organisation, &new, dry_run).await
            }
            Self::Pace {
                event,
                organisation,
                in_flight_max,
                per_minute,
                quiet_from,
                quiet_to,
                weight,
                actor,
            } => {
                let pace =
                    Pace { in_flight_max, photos_per_minute: per_minute, quiet_from, quiet_to };
                let commands = super::commands(config).await?;
                let caller = Caller::trusted(&actor);
                match (event, organisation) {
                    (Some(event), _) => commands.set_event_pace(&caller, event, pace).await,
                    (None, Some(id)) => {
                        // A weight alone leaves the limits as they are.
                        let keeps = weight.is_some() && pace == Pace::default();
                        let pace = (!keeps).then_some(pace);
                        commands.set_organisation_pace(&caller, id, pace, weight).await
                    }
                    (None, None) => anyhow::bail!("name an event or an organisation"),
                }
            }
            Self::Class { event, class, actor } => {
                let change = EventChange { class: Some(class), ..EventChange::default() };
                let commands = super::commands(config).await?;
                match commands.change_event(&Caller::trusted(&actor), event, &change).await {
                    Ok((changed, _)) => {
                        output.one(&changed, |out| {
                            writeln!(out, "Event {event} is {} now.", class.code())
                        })?;
                        return Ok(End::Ok);
                    }
                    Err(error) => return super::refused(error),
                }
            }
        };
        let found = match done {
            Ok(found) => found,
            Err(error) => return super::refused(error),
        };
        output.one(&found, |out| {
            let pace = found.pace.unwrap_or_default();
            writeln!(
                out,
                "Order: {}. {} credits are available, {} of them kept for events{}.\nPace of all events \
                 together: {pace}. Weight beside other organisations: {}.\n",
                found.order.code(),
                found.available,
                found.kept,
                if found.underfunded > Credits(0) {
                    format!("; {} of these are missing", found.underfunded)
                } else {
                    String::new()
                },
                found.weight
            )?;
            let rows: Vec<Vec<String>> = found.events.iter().map(row).collect();
            write!(out, "{}", super::output::table(COLUMNS, &rows))
        })?;
        Ok(End::Ok)
    }
}

fn time_of_day(text: &str) -> Result<NaiveTime, &'static str> {
    NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| "write a time of day as 22:00")
}

const COLUMNS: &[&str] =
    &["Event", "Name", "Class", "Turn", "Used", "Cap", "Floor", "Waiting", "Will finish", "Pace"];

fn row(event: &spending::EventSpending) -> Vec<String> {
    let or_dash = |number: Option<String>| number.unwrap_or_else(|| "-".into());
    vec![
        event.event.to_string(),
        event.name.clone(),
        event.class.code().into(),
        or_dash(event.turn.map(|turn| turn.to_string())),
        event.used.to_string(),
        or_dash(event.cap.map(|cap| cap.to_string())),
        event.floor.to_string(),
        event.waiting.to_string(),
        event.will_finish.to_string(),
        or_dash(event.pace.map(|pace| pace.to_string())),
    ]
}
