//! The service that the demo starts, so that people can try the pages: its address, and a login for
//! each role.

use anyhow::Context;
use sqlx::{PgConnection, PgPool};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    access::{self, Hashed, Role},
    config::Config,
    ids::OrganisationId,
    sandbox::THIS_PROGRAM,
    serve::{self, ServeError},
};

/// A password for all accounts of a demo.
pub(super) fn new_password() -> String {
    format!("demo-{}", &uuid::Uuid::new_v4().simple().to_string()[..12])
}

/// The running service of the demo.
pub(super) struct Site {
    pub(super) address: String,
    pub(super) password: String,
    stop: CancellationToken,
    running: JoinHandle<Result<(), ServeError>>,
}

/// The accounts: e-mail address, role, and a text on what the role sees.
const PEOPLE: [(&str, Role, &str); 4] = [
    ("anna@demo-club.example", Role::Organiser, "Credits, events"),
    ("ops@photogate.example", Role::Operator, "Queues, failures, workers"),
    ("finance@photogate.example", Role::Finance, "Books, refunds, statements"),
    ("staff@photogate.example", Role::Staff, "Everything"),
];

impl Site {
    /// Starts the service at the address in the settings; if the port is in use, at a free port.
    pub(super) async fn open(
        config: &mut Config,
        pool: PgPool,
        password: String,
    ) -> anyhow::Result<Self> {
        let listener = match serve::bind(config).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind("127.0.0.1:0").await.context("no free port was found")?,
        };
        config.listen = listener.local_addr()?;
        // Whoever tries the demo needs no phone for it.
        config.second_factor_required = false;
        let stop = CancellationToken::new();
        let (config, stopped) = (config.clone(), stop.clone());
        let address = format!("http://{}", config.listen);
        let running = tokio::spawn(async move {
            serve::run(THIS_PROGRAM.as_ref(), &config, pool, listener, stopped).await
        });
        Ok(Self { address, password, stop, running })
    }

    /// Creates the accounts and a token. Returns lines to print about them.
    pub(super) async fn admit(
        &self,
        db: &mut PgConnection,
        organisation: OrganisationId,
    ) -> anyhow::Result<Vec<String>> {
        let mut lines = vec![
            format!("The pages are on {}. The password is {}:", self.address, self.password),
            "(No second factor is needed here. Elsewhere, the last three roles need one.)"
                .to_owned(),
            String::new(),
        ];
        for (email, role, sees) in PEOPLE {
            let password = Hashed::new(&self.password, email).await?;
            let of = (role == Role::Organiser).then_some(organisation);
            access::create_person(db, email, &password, role, of).await?;
            lines.push(format!("  {email:<28} {role:<10} {sees}"));
        }
        let pipeline = Some(organisation);
        let days = access::TOKEN_DAYS;
        let (name, role) = ("upload pipeline", Role::Pipeline);
        let (_, token) = access::create_token(db, name, role, pipeline, days, "demo").await?;
        lines.push(String::new());
        lines.push(format!("The API is described on {}/docs. The pipeline's token:", self.address));
        lines.push(format!("  {}", token.0));
        Ok(lines)
    }

    /// Lines that suggest what to try in a browser.
    pub(super) fn walk(&self) -> Vec<String> {
        let Self { address, password, .. } = self;
        vec![
            format!("In a browser, on {address}, with the password {password}:"),
            String::new(),
            "  anna@demo-club.example: Events, New event, Process Photos, below marathon/.".into(),
            "    There are not enough credits, so the queue pauses. Add Credits: it resumes."
                .into(),
            "  ops@photogate.example: Queues, Hold. A top-up does not end a hold; Lift does."
                .into(),
            "  finance@photogate.example: Finance, Photos, Receipt: follow a refund.".into(),
        ]
    }

    /// Stops the service, and waits until open requests are answered.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.running.await.context("the service failed")??;
        Ok(())
    }
}
