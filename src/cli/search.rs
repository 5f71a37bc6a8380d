//! `photogate search …`

use std::path::{Path, PathBuf};

use super::{End, Output, say};
use crate::{
    catalog::{events, search, start_list},
    config::Config,
    database,
    ids::EventId,
    sandbox::{Pool, THIS_PROGRAM},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Search {
    /// By a bib number
    #[command(after_help = "Example:\n  photogate search bib 1 A12 --prefix")]
    Bib {
        /// Whose photos
        event: EventId,
        /// As it is worn
        number: String,
        /// Also longer numbers that begin so
        #[arg(long)]
        prefix: bool,
    },
    /// By a selfie, where the event's face search is on
    #[command(after_help = "Example:\n  photogate search face 1 selfie.jpg --min 0.5")]
    Face {
        /// Whose photos
        event: EventId,
        /// A photo of one person, or of whoever is nearest on it
        selfie: PathBuf,
        /// How alike two faces have to be, from 0 to 1
        #[arg(long, default_value_t = search::SAME_PERSON, value_parser = alike)]
        min: f32,
    },
}

fn alike(text: &str) -> Result<f32, &'static str> {
    let value: Option<f32> = text.parse().ok();
    value.filter(|value| (0.0..=1.0).contains(value)).ok_or("write a number from 0 to 1")
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
                    anyhow::bail!("{number:?} is no bib number: at most ten letters and digits");
                };
                let found = search::by_bib(&mut db, event.id, &number, prefix).await?;
                output.rows(&found, &["Number", "Score", "Photo", "Key"], |row| {
                    vec![
                        row.number.clone(),
                        format!("{:.2}", row.score),
                        row.photo.to_string(),
                        row.key.clone(),
                    ]
                })?;
            }
            Self::Face { selfie, min, .. } => {
                anyhow::ensure!(
                    event.face_search,
                    "face search is off for event {of}: switch it on with `photogate events face-search {of} on`, and have its photos processed",
                    of = event.id
                );
                let photo = super::inspect::read(&selfie)
                    .map_err(|trouble| anyhow::anyhow!("{}", trouble.detail))?;
                let config = Config { slots: 1, ..config };
                let looking = Pool::open(Path::new(THIS_PROGRAM), &config).await?;
                let face = search::selfie(&looking, photo)
                    .await
                    .map_err(|error| anyhow::anyhow!("{}: {error}", selfie.display()))?;
                let found = search::by_face(&mut db, event.id, &face, min).await?;
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
