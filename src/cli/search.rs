//! `photogate search …`: finds photos of an event by bib number or by selfie.

use std::path::{Path, PathBuf};

use super::{End, Output, say};
use crate::{
    access::Caller,
    catalog::{
        erasures::FaceOf,
        events,
        search::{self, ByFace},
        start_list,
    },
    commands::{CommandError, Commands},
    config::Config,
    database,
    ids::EventId,
    sandbox::{Pool, THIS_PROGRAM},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Search {
    /// Finds photos of an event by bib number
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate search bib 1 A12 --prefix")]
    Bib {
        /// The event's number
        event: EventId,
        /// The bib number: letters and digits, at most ten
        number: String,
        /// Also find longer numbers that begin with this number
        #[arg(long)]
        prefix: bool,
    },
    /// Finds photos of an event by selfie; the event's face search must be on
    #[command(after_help = "Needs: PostgreSQL (--database-url) and the models (--models-dir).

Example:
  photogate search face 1 selfie.jpg --min 0.5")]
    Face {
        /// The event's number
        event: EventId,
        /// A photo file; if it shows several people, the nearest face is used
        selfie: PathBuf,
        /// Minimum similarity of two faces, 0 to 1; a higher value finds fewer photos
        #[arg(long, default_value_t = search::SAME_PERSON, value_parser = alike)]
        min: f32,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
}

fn alike(text: &str) -> Result<f32, &'static str> {
    let value: Option<f32> = text.parse().ok();
    value.filter(|value| (0.0..=1.0).contains(value)).ok_or("must be a number from 0 to 1")
}

impl Search {
    pub(super) async fn run(self, config: Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        let (Self::Bib { event: of, .. } | Self::Face { event: of, .. }) = &self;
        let Some(event) = events::find(&mut db, *of).await? else {
            say!("error: there is no event {of}");
            return Ok(End::NotFound);
        };
        match self {
            Self::Bib { number, prefix, .. } => {
                let Some(number) = start_list::number(&number) else {
                    anyhow::bail!(
                        "{number:?} is not a bib number: write at most ten letters and digits"
                    );
                };
                let found = search::by_bib(&mut db, event.id, &number, prefix).await?;
                output.rows(
                    &found,
                    &["Number", "Score", "Sure", "Settled by", "Photo", "Key"],
                    |row| {
                        vec![
                            row.number.clone(),
                            format!("{:.2}", row.score),
                            if row.sure { "yes" } else { "no" }.to_owned(),
                            row.settled_by.reason().to_owned(),
                            row.photo.to_string(),
                            row.key.clone(),
                        ]
                    },
                )?;
            }
            Self::Face { selfie, min, actor, .. } => {
                let commands = super::commands(&config).await?;
                let caller = Caller::trusted(&actor);
                let found = by_face(&config, &commands, &caller, event.id, &selfie, min).await;
                let found = match found {
                    Ok(found) => found,
                    Err(error) => match error.downcast::<CommandError>() {
                        Ok(error) => return super::refused(error),
                        Err(error) => return Err(error),
                    },
                };
                output.rows(&found, &["Score", "Photo", "Face", "Key"], |row| {
                    vec![
                        format!("{:.2}", row.score),
                        row.photo.to_string(),
                        row.face.to_string(),
                        row.key.clone(),
                    ]
                })?;
            }
        }
        Ok(End::Ok)
    }
}

/// Finds the photos of an event with the face of a selfie.
async fn by_face(
    config: &Config,
    commands: &Commands,
    caller: &Caller,
    event: EventId,
    selfie: &Path,
    min: f32,
) -> anyhow::Result<Vec<ByFace>> {
    let of = commands.may_search_faces(caller, event).await?.organisation;
    let photo =
        super::inspect::read(selfie).map_err(|trouble| anyhow::anyhow!("{}", trouble.detail))?;
    let config = Config { slots: 1, ..config.clone() };
    let looking = Pool::open(Path::new(THIS_PROGRAM), &config).await?;
    let face = search::selfie(&looking, of, photo)
        .await
        .map_err(|error| anyhow::anyhow!("{}: {error}", selfie.display()))?;
    Ok(commands.search_face(caller, event, &face, min).await?)
}

/// The faces on an event's photos that are the face of a selfie.
pub(super) async fn faces_of(
    config: &Config,
    commands: &Commands,
    caller: &Caller,
    event: EventId,
    selfie: &Path,
    min: f32,
) -> anyhow::Result<Vec<FaceOf>> {
    let found = by_face(config, commands, caller, event, selfie, min).await?;
    Ok(found.iter().map(|one| FaceOf { photo: one.photo, face: one.face }).collect())
}
