//! `photogate pipelines …`: logins of PostgreSQL that queue photos in transactions of their own.

use serde_json::json;

use super::{End, Output, say};
use crate::{
    access::{self, Caller, Pipeline},
    config::Config,
    database,
    ids::{OrganisationId, PipelineId},
};

/// Rows that are read from the database at once.
const PAGE: i64 = 1000;

/// The columns of the list.
const HEADER: [&str; 7] = [
    "Pipeline",
    "Login",
    "Organisation",
    "Unpaid photos, at most",
    "Can connect",
    "Allowed by",
    "Revoked",
];

#[derive(Debug, clap::Subcommand)]
pub(super) enum Pipelines {
    /// Lets a login of PostgreSQL queue photos of an organisation with `enqueue_photos`
    #[command(after_help = "Needs: PostgreSQL (--database-url).

The login is made by whoever runs the server:
  CREATE ROLE club_uploads LOGIN PASSWORD '…' IN ROLE photogate_pipeline;

Its calls are refused if more photos than unpaid_photos_max would wait without credits, as that is
set when this command runs. Run it again after a change of the setting.

Example:
  photogate pipelines allow club_uploads --organisation 1")]
    Allow {
        /// The name of the login
        login: String,
        /// The number of the organisation whose photos it may queue
        #[arg(long)]
        organisation: OrganisationId,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Lists the logins that may, or might, queue photos
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    List {
        /// Only those of this organisation, by number [default: all]
        organisation: Option<OrganisationId>,
    },
    /// Refuses the calls of a login from now on
    #[command(after_help = "Needs: PostgreSQL (--database-url).

A transaction in which the login has called already may still commit.")]
    Revoke {
        /// The pipeline's number, as in `photogate pipelines list`
        pipeline: PipelineId,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
}

impl Pipelines {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        match self {
            Self::Allow { login, organisation, actor } => {
                let caller = Caller::trusted(&actor);
                let commands = super::commands(config).await?;
                let id = match commands.allow_pipeline(&caller, &login, organisation).await {
                    Ok(id) => id,
                    Err(error) => return super::refused(error),
                };
                output.one(&json!({ "pipeline": id, "login": login }), |out| {
                    writeln!(out, "{login} may queue photos of organisation {organisation}.")
                })?;
                let made = all(config, Some(organisation)).await?;
                if !made.iter().any(|pipeline| pipeline.id == id && pipeline.can_connect) {
                    say!(
                        "It cannot call yet: it is no login that has the role photogate_pipeline. \
                         See photogate pipelines allow --help."
                    );
                }
            }
            Self::List { organisation } => {
                output.rows(&all(config, organisation).await?, &HEADER, |pipeline| {
                    vec![
                        pipeline.id.to_string(),
                        pipeline.login.clone(),
                        pipeline.organisation.to_string(),
                        pipeline.unpaid_photos_max.to_string(),
                        if pipeline.can_connect { "yes" } else { "no" }.to_owned(),
                        pipeline.created_by.clone(),
                        pipeline.revoked_at.map_or_else(
                            || "—".to_owned(),
                            |at| at.format("%Y-%m-%d %H:%M UTC").to_string(),
                        ),
                    ]
                })?;
            }
            Self::Revoke { pipeline, actor } => {
                let caller = Caller::trusted(&actor);
                let commands = super::commands(config).await?;
                let login = match commands.revoke_pipeline(&caller, pipeline).await {
                    Ok(login) => login,
                    Err(error) => return super::refused(error),
                };
                output.one(&json!({ "pipeline": pipeline, "revoked": true }), |out| {
                    writeln!(out, "Pipeline {pipeline} ({login}) queues no photos any more.")
                })?;
            }
        }
        Ok(End::Ok)
    }
}

async fn all(
    config: &Config,
    organisation: Option<OrganisationId>,
) -> anyhow::Result<Vec<Pipeline>> {
    let pool = database::connect(&config.database_url, 1).await?;
    let mut db = pool.acquire().await?;
    let mut found = Vec::new();
    loop {
        let last = found.last().map(|pipeline: &Pipeline| pipeline.id.0);
        let more = access::pipelines(&mut db, organisation, last, PAGE).await?;
        if more.is_empty() {
            return Ok(found);
        }
        found.extend(more);
    }
}
