//! `photogate organisations …`: creates, changes and lists organisations.

use serde_json::json;

use super::{End, Output};
use crate::{
    access::Caller,
    catalog::organisations::{self, Organisation, Price},
    commands::{NewOrganisation, OrganisationChange},
    config::Config,
    database,
    ids::OrganisationId,
    ledger::credits::Credits,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Organisations {
    /// Creates an organisation with an empty account
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate organisations create 'Athletics Club' --time-zone Europe/Berlin --price '0.05 EUR'")]
    Create {
        /// The name of the organisation
        name: String,
        /// The ID that you have for it: the same command again finds the organisation, and creates
        /// none
        #[arg(long)]
        reference: Option<String>,
        /// The time zone of its months, as Europe/Berlin
        #[arg(long, default_value = "UTC")]
        time_zone: String,
        /// The price of one credit, as '0.05 EUR' [default: none; the organisation cannot buy, and
        /// staff grants its credits]
        #[arg(long)]
        price: Option<Price>,
        /// The part of the store that holds its photos, as `clubs/7/`: its people can queue no
        /// others; empty: wherever no other organisation's are [default: that for the first
        /// organisation, a directory with its name for the others]
        #[arg(long)]
        photos_under: Option<String>,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Sets the part of the store that holds its photos: its people can queue no others
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Examples:
  photogate organisations photos-under 1 athletics-club/
  photogate organisations photos-under 1 ''        wherever no other organisation's are")]
    PhotosUnder {
        /// The organisation's number
        organisation: OrganisationId,
        /// The beginning of its photos' keys, with a slash at the end
        prefix: String,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Sets how many credits its people can buy in a month without approval
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate organisations limit 1 50000")]
    Limit {
        /// The organisation's number
        organisation: OrganisationId,
        /// Number of credits, 0 to 1,000,000,000; 0: every purchase needs an approval
        credits: i64,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Sets the price of one credit for purchases from now on
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Examples:
  photogate organisations price 1 '0.05 EUR'
  photogate organisations price 1 none              without a price, the organisation cannot buy")]
    Price {
        /// The organisation's number
        organisation: OrganisationId,
        /// The price of one credit, as '0.05 EUR', or none
        price: String,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Changes the name of an organisation, and whether its people can buy credits
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Examples:
  photogate organisations change 1 --name 'Athletics Club Berlin'
  photogate organisations change 1 --purchasing off      its people cannot buy; the price stays
  photogate organisations change 1 --custom-billing on   it pays by a contract; staff grant credits")]
    Change {
        /// The organisation's number
        organisation: OrganisationId,
        /// The new name
        #[arg(long, required_unless_present_any = ["purchasing", "custom_billing"])]
        name: Option<String>,
        /// Whether its people may buy credits
        #[arg(long, value_name = "on|off")]
        purchasing: Option<Switch>,
        /// Whether it pays by a contract, so that its people do not buy
        #[arg(long, value_name = "on|off")]
        custom_billing: Option<Switch>,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Lists all organisations
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    List,
}

impl Organisations {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        match self {
            Self::Create { name, reference, time_zone, price, photos_under, actor } => {
                let caller = Caller::trusted(&actor);
                let new = NewOrganisation { name, reference, time_zone, price, photos_under };
                let made = super::commands(config).await?.create_organisation(&caller, &new).await;
                let (found, is_new) = match made {
                    Ok(made) => (made.value, made.is_new),
                    Err(error) => return super::refused(error),
                };
                let (id, under) = (found.id, &found.photos_under);
                let what = if is_new { "was created" } else { "has this reference already" };
                let made = json!({ "organisation": id, "is_new": is_new, "photos_under": found.photos_under });
                output.one(&made, |out| {
                    writeln!(out, "Organisation {id} {what}. {}", where_photos_are(under))
                })?;
            }
            Self::PhotosUnder { organisation, prefix, actor } => {
                let change = OrganisationChange {
                    photos_under: Some(prefix),
                    ..OrganisationChange::default()
                };
                return changed(config, output, organisation, &actor, &change, |changed| {
                    where_photos_are(&changed.photos_under)
                })
                .await;
            }
            Self::Limit { organisation, credits, actor } => {
                let credits = Credits(credits);
                let change = OrganisationChange {
                    purchase_limit: Some(credits),
                    ..OrganisationChange::default()
                };
                return changed(config, output, organisation, &actor, &change, |_| {
                    format!(
                        "Organisation {organisation} buys up to {credits} credits a month without \
                         approval."
                    )
                })
                .await;
            }
            Self::Price { organisation, price, actor } => {
                let price = if price == "none" { None } else { Some(price.parse::<Price>()?) };
                let caller = Caller::trusted(&actor);
                let change =
                    OrganisationChange { price: Some(price.clone()), ..Default::default() };
                let commands = super::commands(config).await?;
                if let Err(error) =
                    commands.change_organisation(&caller, organisation, &change).await
                {
                    return super::refused(error);
                }
                output.one(&json!({ "organisation": organisation, "price": price }), |out| {
                    match &price {
                        Some(price) => {
                            writeln!(out, "A credit costs organisation {organisation} {price}.")
                        }
                        None => writeln!(out, "Organisation {organisation} cannot buy credits."),
                    }
                })?;
            }
            Self::Change { organisation, name, purchasing, custom_billing, actor } => {
                let change = OrganisationChange {
                    name,
                    purchasing: purchasing.map(|switch| switch == Switch::On),
                    custom_billing: custom_billing.map(|switch| switch == Switch::On),
                    ..OrganisationChange::default()
                };
                return changed(config, output, organisation, &actor, &change, |changed| {
                    format!("{}: {}.", changed.name, buys(changed))
                })
                .await;
            }
            Self::List => {
                let pool = database::connect(&config.database_url, 1).await?;
                let all = organisations::list(&mut *pool.acquire().await?).await?;
                output.rows(
                    &all,
                    &["Organisation", "Name", "Time zone", "Price per credit"],
                    |one| {
                        let price = one.price.as_ref().map_or_else(|| "—".into(), Price::to_string);
                        vec![one.id.to_string(), one.name.clone(), one.time_zone.clone(), price]
                    },
                )?;
            }
        }
        Ok(End::Ok)
    }
}

/// Changes an organisation, and says how it is then.
async fn changed(
    config: &Config,
    output: Output,
    organisation: OrganisationId,
    actor: &str,
    change: &OrganisationChange,
    says: impl Fn(&Organisation) -> String,
) -> anyhow::Result<End> {
    let caller = Caller::trusted(actor);
    let commands = super::commands(config).await?;
    match commands.change_organisation(&caller, organisation, change).await {
        Ok(changed) => output.one(&changed, |out| writeln!(out, "{}", says(&changed)))?,
        Err(error) => return super::refused(error),
    }
    Ok(End::Ok)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Switch {
    On,
    Off,
}

fn buys(organisation: &Organisation) -> String {
    match (organisation.sells_at(), organisation.custom_billing, organisation.purchasing) {
        (Some(price), ..) => format!("its people buy credits at {price}"),
        (None, true, _) => "custom billing, staff grant its credits".to_owned(),
        (None, false, false) => "its people cannot buy credits, purchasing is off".to_owned(),
        (None, false, true) => "its people cannot buy credits, there is no price".to_owned(),
    }
}

fn where_photos_are(under: &str) -> String {
    if under.is_empty() {
        "Its photos are wherever no other organisation's are in the store.".to_owned()
    } else {
        format!("Its photos are below {under} in the store.")
    }
}
