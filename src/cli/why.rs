//! `photogate why …`: explains what stops a photo, an event or an organisation.

use super::{End, Output, say};
use crate::{
    config::Config,
    database,
    ids::{EventId, OrganisationId, PhotoId},
    queue::why,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Why {
    /// Explains why a photo is not processed
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Photo {
        /// The photo's ID (a UUID)
        photo: PhotoId,
    },
    /// Explains why an event's photos are not processed
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate why event 1")]
    Event {
        /// The event's number
        event: EventId,
    },
    /// Explains why an organisation's photos are not processed
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Organisation {
        /// The organisation's number
        organisation: OrganisationId,
    },
}

impl Why {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        let found = match self {
            Self::Photo { photo } => why::photo(&mut db, photo).await?,
            Self::Event { event } => why::event(&mut db, event).await?,
            Self::Organisation { organisation } => why::organisation(&mut db, organisation).await?,
        };
        let Some(why) = found else {
            say!("error: there is no photo, event or organisation with this ID");
            return Ok(End::NotFound);
        };
        output.one(&why, |out| {
            writeln!(out, "{}: {}", why.subject, why.answer)?;
            for (at, cause) in why.chain.iter().enumerate() {
                let since = cause.since.map_or_else(String::new, |since| {
                    format!(", since {}", since.format("%Y-%m-%d %H:%M UTC"))
                });
                writeln!(out, "  {}. {}{since}", at + 1, cause.says)?;
            }
            match &why.action {
                Some(action) => writeln!(out, "Do: {action}"),
                None => writeln!(out, "Nothing has to be done."),
            }
        })?;
        Ok(End::Ok)
    }
}
