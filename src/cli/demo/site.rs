//! The pages of the demo, and a login for each role.

use anyhow::Context;
use sqlx::{PgConnection, PgPool};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    access::{self, Role},
    config::Config,
    ids::OrganisationId,
    sandbox::THIS_PROGRAM,
    serve::{self, ServeError},
};

/// The service, answering for the demo.
pub(super) struct Site {
    address: String,
    password: String,
    stop: CancellationToken,
    running: JoinHandle<Result<(), ServeError>>,
}

/// Who logs in, and what they see first.
const PEOPLE: [(&str, Role, &str); 4] = [
    ("anna@demo-club.example", Role::Organiser, "Credits, events"),
    ("ops@photogate.example", Role::Operator, "Queues, failures, workers"),
    ("finance@photogate.example", Role::Finance, "The books, refunds, statements"),
    ("staff@photogate.example", Role::Staff, "All of it"),
];

impl Site {
    /// Answers where the settings say; if that port is taken, on another one.
    pub(super) async fn open(config: &mut Config, pool: PgPool) -> anyhow::Result<Self> {
        let listener = match serve::bind(config).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind("127.0.0.1:0").await.context("no port is free")?,
        };
        config.listen = listener.local_addr()?;
        let stop = CancellationToken::new();
        let (config, stopped) = (config.clone(), stop.clone());
        let address = format!("http://{}", config.listen);
        let running = tokio::spawn(async move {
            serve::run(THIS_PROGRAM.as_ref(), &config, pool, listener, stopped).await
        });
        let password = format!("demo-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        Ok(Self { address, password, stop, running })
    }

    /// Makes the accounts; returns lines that tell of them.
    pub(super) async fn admit(
        &self,
        db: &mut PgConnection,
        organisation: OrganisationId,
    ) -> anyhow::Result<Vec<String>> {
        let mut lines = vec![
            format!("The pages are on {}, with the password {}:", self.address, self.password),
            String::new(),
        ];
        for (email, role, sees) in PEOPLE {
            let of = (role == Role::Organiser).then_some(organisation);
            access::create_person(db, email, &self.password, role, of).await?;
            lines.push(format!("  {email:<28} {role:<10} {sees}"));
        }
        let pipeline = Some(organisation);
        let (_, token) =
            access::create_token(db, "upload pipeline", Role::Pipeline, pipeline, "demo").await?;
        lines.push(String::new());
        lines.push(format!("The API is described on {}/docs; the pipeline's token:", self.address));
        lines.push(format!("  {}", token.0));
        Ok(lines)
    }

    /// What to do with a browser, when everything else has been said.
    pub(super) fn walk(&self) -> Vec<String> {
        let Self { address, password, .. } = self;
        vec![
            format!("With a browser, on {address}, everybody with the password {password}:"),
            String::new(),
            "  anna@demo-club.example buys: Events, New event, Process Photos, below marathon/.".into(),
            "    The credits do not suffice, the queue pauses; Add Credits, and it goes on by itself.".into(),
            "  ops@photogate.example holds that event under Queues; no top-up lifts it, Lift does.".into(),
            "  finance@photogate.example follows a refund: Finance, Photos, Receipt.".into(),
        ]
    }

    /// Lets what runs end.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.running.await.context("the service broke")??;
        Ok(())
    }
}
