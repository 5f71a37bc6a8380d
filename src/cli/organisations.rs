//! `photogate organisations …`

use serde_json::json;
use sqlx::Connection;

use super::{End, Output, deed};
use crate::{
    catalog::organisations::{self, Price},
    config::Config,
    database,
    ids::OrganisationId,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Organisations {
    /// Creates an organisation with an empty account
    #[command(
        after_help = "Example:\n  photogate organisations create 'Athletics Club' --time-zone Europe/Berlin --price '0.05 EUR'"
    )]
    Create {
        /// As it calls itself
        name: String,
        /// Where its months begin and end
        #[arg(long, default_value = "UTC")]
        time_zone: String,
        /// What a credit costs it; without, nothing can be bought, and staff grants
        #[arg(long)]
        price: Option<Price>,
        /// Where its photos are in the store: its people can queue no others over HTTP
        #[arg(long, default_value = "")]
        photos_under: String,
        /// Who does it
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Sets what a credit costs from now on
    #[command(after_help = "Examples:
  photogate organisations price 1 '0.05 EUR'
  photogate organisations price 1 none              custom billing: nothing can be bought")]
    Price {
        /// Whose
        organisation: OrganisationId,
        /// As '0.05 EUR', or none
        price: String,
        /// Who does it
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Lists all organisations
    List,
}

impl Organisations {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        match self {
            Self::Create { name, time_zone, price, photos_under, actor } => {
                let mut tx = db.begin().await?;
                let id = organisations::create(&mut tx, &name, &time_zone)
                    .await
                    .map_err(super::sentence)?;
                if price.is_some() {
                    organisations::set_price(&mut tx, id, price.as_ref()).await?;
                }
                organisations::set_photos_under(&mut tx, id, &photos_under).await?;
                let detail = json!({ "name": name, "time_zone": time_zone, "price": price, "photos_under": photos_under });
                let subject = format!("organisation {id}");
                deed::record(&mut tx, &actor, Some(id), "organisation.create", &subject, detail)
                    .await?;
                tx.commit().await?;
                output.one(&json!({ "organisation": id }), |out| {
                    writeln!(out, "Organisation {id} was created.")
                })?;
            }
            Self::Price { organisation, price, actor } => {
                let price = if price == "none" { None } else { Some(price.parse::<Price>()?) };
                let mut tx = db.begin().await?;
                if let Err(error) =
                    organisations::set_price(&mut tx, organisation, price.as_ref()).await
                {
                    return super::not_found_or(error);
                }
                let (subject, detail) =
                    (format!("organisation {organisation}"), json!({ "price": price }));
                let action = "organisation.change";
                deed::record(&mut tx, &actor, Some(organisation), action, &subject, detail).await?;
                tx.commit().await?;
                output.one(&json!({ "organisation": organisation, "price": price }), |out| {
                    match &price {
                        Some(price) => {
                            writeln!(out, "A credit costs organisation {organisation} {price}.")
                        }
                        None => writeln!(out, "Organisation {organisation} cannot buy credits."),
                    }
                })?;
            }
            Self::List => {
                let all = organisations::list(&mut db).await?;
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
