//! A connection pooler gives sessions to others, and drops their settings. photogate works behind
//! one, or says at the start why not.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use photogate::{config::Config, database};
use url::Url;

use crate::support::{App, Process, a_free_address, photogate, place, stderr};

/// A real PgBouncer in transaction mode, between this test and the shared server.
struct PgBouncer {
    process: Child,
    url: String,
}

impl PgBouncer {
    /// Everybody is this login. Three sessions are for all. `settings`: lines of its settings file.
    async fn start(app: &App, login: &str, settings: &str) -> Self {
        let server = Url::parse(&app.owner).unwrap();
        let sockets = server.query_pairs().find(|(name, _)| name == "host").unwrap().1.into_owned();
        let address = a_free_address();
        let file = place(&format!("pgbouncer-{}.ini", address.port()));
        let text = format!(
            "[databases]\n* = host={sockets} port=5432 user={login}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 3\n{settings}\n",
            address.port()
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program());
        if nix::unistd::geteuid().is_root() {
            // PgBouncer refuses to run as root.
            command.args(["-u", "postgres"]);
        }
        let process = command.arg(file).stderr(Stdio::null()).spawn().unwrap();
        let url = format!("postgres://{login}@{address}{}?sslmode=disable", server.path());
        let pooler = Self { process, url };
        app.until("PgBouncer listens", async || {
            tokio::net::TcpStream::connect(address).await.is_ok()
        })
        .await;
        pooler
    }

    fn refuses(&self, app: &App, command: &str, why: &str) {
        let config = Config { database_url: self.url.clone(), ..app.config.clone() };
        let ended = photogate(&config, &command.split(' ').collect::<Vec<_>>());
        let said = stderr(&ended);
        assert!(!ended.status.success(), "{command}: {said}");
        let told: Vec<_> = said.lines().filter(|line| line.contains(why)).collect();
        assert_eq!(told.len(), 1, "{command}, {why}: {said}");
        assert!(told[0].contains("PostgreSQL itself"), "it says what to do: {said}");
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// On the PATH, or where Debian puts it: only root's PATH leads there.
fn program() -> PathBuf {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|path| path.join("pgbouncer"))
        .find(|program| program.is_file())
        .expect("PgBouncer is installed: run scripts/setup browser")
}

/// Since 1.21, PgBouncer knows prepared statements in transaction mode.
fn knows_prepared_statements() -> bool {
    let said = Command::new(program()).arg("--version").output().unwrap().stdout;
    let said = String::from_utf8(said).unwrap();
    let mut numbers = said.trim_start_matches("PgBouncer ").split('.');
    let (major, minor) = (numbers.next().unwrap(), numbers.next().unwrap());
    (major.parse::<u32>().unwrap(), minor.parse::<u32>().unwrap()) >= (1, 21)
}

/// What the documentation says that PgBouncer needs.
const IGNORES: &str = "ignore_startup_parameters = extra_float_digits, options";

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_does_not_do_is_told_in_one_line_and_nothing_starts() {
    let app = App::new().await;
    let starts = ["work --rehearse", "serve", "credits balance 1"];
    // As it is after its installation, and as many others need it.
    for settings in ["", "ignore_startup_parameters = extra_float_digits"] {
        let pooler = PgBouncer::start(&app, "postgres", settings).await;
        for command in starts {
            pooler.refuses(&app, command, "refuses photogate's settings");
        }
        pooler.refuses(&app, "migrate", "such as PgBouncer");
    }
    // A login without settings would be another role, in another schema.
    let pooler = PgBouncer::start(&app, "postgres", IGNORES).await;
    for command in starts {
        pooler.refuses(&app, command, "this login has no such settings");
    }
    pooler.refuses(&app, "migrate", "such as PgBouncer");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_that_knows_prepared_statements_all_is_as_ever() {
    let app = App::new().await;
    let logins = [("pooled_worker", "photogate_worker"), ("pooled_service", "photogate_app")];
    for (login, role) in logins {
        database::make_login(&app.owner, login, Some("a password"), role).await.unwrap();
    }
    let forgets = if knows_prepared_statements() { "\nmax_prepared_statements = 0" } else { "" };
    let pooler = PgBouncer::start(&app, "pooled_worker", &format!("{IGNORES}{forgets}")).await;
    pooler.refuses(&app, "work --rehearse", "forgets prepared statements");
    let knows = format!("{IGNORES}\nmax_prepared_statements = 200");
    if !knows_prepared_statements() {
        eprintln!("PgBouncer is older than 1.21: what works behind a newer one was not tried");
        return;
    }

    let (organisation, event) = app.an_event_with(20).await;
    app.queue(event, "slow-20", 40).await;
    let poolers = [
        PgBouncer::start(&app, "pooled_worker", &knows).await,
        PgBouncer::start(&app, "pooled_service", &knows).await,
    ];
    let [working, serving] = poolers
        .each_ref()
        .map(|pooler| Config { database_url: pooler.url.clone(), ..app.config.clone() });
    // The login of a worker is no login of the service, here either.
    poolers[0].refuses(&app, "credits balance 1", "this login has no such settings");
    // Six connections and more each, for three sessions.
    let mut workers = [(); 3].map(|()| Process::work(&working, &["--rehearse"]));
    app.until("the credits are used up", async || app.credits(organisation).await == (0, 0, 20))
        .await;
    let number = organisation.to_string();
    let top_up = ["credits", "top-up", &number, "30", "--key", "order-1"];
    for _ in 0..2 {
        let added = photogate(&serving, &top_up);
        assert!(added.status.success(), "{}", stderr(&added));
    }
    app.until_done(event).await;
    for worker in &mut workers {
        worker.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(worker.wait().success());
    }
    assert_eq!(app.credits(organisation).await, (10, 0, 40));
}
