//! What the tests say in a word. Each test has a database of its own; when it is done, its books
//! are audited.

pub mod browser;
pub mod bucket;
pub mod emulators;
pub mod postmaster;
pub mod process;
pub mod receiver;
pub mod site;
pub mod steps;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use photogate::{
    access::Caller,
    catalog::{events, organisations, photos},
    commands::{CommandError, Commands, EventChange},
    config::Config,
    database,
    ids::{EventId, HoldId, Operation, OrganisationId, PhotoId, WorkerId},
    ledger::{
        credits::{self, Balance, Credits},
        hash_chain,
        reconcile::{self, Scope},
        top_up::{self, Credited, TopUp, TopUpKind},
    },
    notify::wake::Wake,
    queue::{
        claim::{self, Incarnation, Reservation},
        enqueue::{self, Run},
        holds,
        status::{self, Queue, State},
    },
    rig::services::Services,
    worker::{
        self, Stop, Worker,
        in_hand::InHand,
        rehearsal::Rehearsal,
        settle::{Settler, Settling},
        verdict::Verdict,
        work::Work,
    },
};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use process::{Process, Server, photogate, program, stderr, stdout};

/// How long a test waits for what must happen by itself. Generous: a busy machine is no broken
/// promise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The servers that all tests share; they stop when the test process ends.
static SHARED: tokio::sync::OnceCell<Services> = tokio::sync::OnceCell::const_new();
static MAKING: Mutex<()> = Mutex::const_new(());
static NEXT: AtomicUsize = AtomicUsize::new(1);

async fn shared() -> &'static Services {
    SHARED
        .get_or_init(|| async {
            let services = Services::start(&place("shared")).await.expect("the services start");
            run(&services.postgres.url("postgres"), "CREATE DATABASE photogate_template").await;
            database::migrate(&services.postgres.url("photogate_template"))
                .await
                .expect("the migrations run");
            services
        })
        .await
}

/// On the same server, and not photogate's.
pub async fn a_database_of_somebody_else() -> String {
    shared().await.postgres.url("postgres")
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file in the repository.
pub fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// An address of this machine at which nobody listens.
pub fn a_free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound")
}

/// The value of a metric that a process shows at this address.
pub fn metric(address: SocketAddr, name: &str) -> Option<u64> {
    let mut answer = String::new();
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
    stream.read_to_string(&mut answer).ok()?;
    answer.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// A directory for a test's own files.
pub fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

async fn run(url: &str, sql: &'static str) {
    let mut db = PgConnection::connect(url).await.expect("the server answers");
    sqlx::raw_sql(sql).execute(&mut db).await.expect("the server does as it is told");
}

/// Checks that the statement is refused for want of a privilege.
///
/// A CHECK, a trigger or a missing row may refuse too: only the code says that it was the
/// privilege.
pub async fn refused_for_want_of_privilege(db: &mut PgConnection, statement: &str) {
    let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned()))
        .execute(db)
        .await
        .expect_err(statement);
    assert_eq!(code_of(&refused).as_deref(), Some("42501"), "{statement}: {refused}");
}

/// The SQLSTATE of what the database refused.
pub fn code_of(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// A photogate of the test's own.
pub struct App {
    pub config: Config,
    /// As the application role.
    pub pool: PgPool,
    /// As the owner of the server.
    pub owner: String,
    /// Checked at the end; a test that breaks the books on purpose says so.
    pub audited: bool,
    keys: AtomicUsize,
}

impl App {
    /// A fresh database, and a Redis shared with the other tests.
    pub async fn new() -> Self {
        let services = shared().await;
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        {
            let _one_at_a_time = MAKING.lock().await;
            let mut db = PgConnection::connect(&services.postgres.url("postgres"))
                .await
                .expect("the server answers");
            let create = format!("CREATE DATABASE {name} TEMPLATE photogate_template");
            sqlx::raw_sql(sqlx::AssertSqlSafe(create))
                .execute(&mut db)
                .await
                .expect("a database is made");
        }
        Self::on(services.postgres.url(&name), Some(services.redis.url())).await
    }

    /// On a server of its own, for tests that pull its plug.
    pub async fn with_services(name: &str) -> (Self, Services) {
        let services = Services::start(&place(name)).await.expect("the services start");
        run(&services.postgres.url("postgres"), "CREATE DATABASE photogate").await;
        let url = services.postgres.url("photogate");
        database::migrate(&url).await.expect("the migrations run");
        (Self::on(url, Some(services.redis.url())).await, services)
    }

    /// The books' clock stands still, at this instant.
    pub async fn let_the_clock_jump(&self, instant: &str) {
        let set = format!(
            "CREATE OR REPLACE FUNCTION photogate.clock() RETURNS timestamptz LANGUAGE sql \
             VOLATILE AS $$ SELECT timestamptz '{instant}' $$"
        );
        let mut owner = self.as_owner().await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(set)).execute(&mut owner).await.expect("it is set");
    }

    /// The same, and a person says that this is right.
    pub async fn set_the_clock(&self, instant: &str) {
        self.let_the_clock_jump(instant).await;
        let caller = Caller::trusted("anna");
        self.commands().confirm_clock(&caller).await.expect("it is confirmed");
    }

    async fn on(owner: String, redis_url: Option<String>) -> Self {
        let pool = database::connect(&owner, 24).await.expect("the database is ready");
        let photos = place(&format!(
            "photos-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        let config = Config {
            database_url: owner.clone(),
            redis_url,
            store_url: url::Url::from_directory_path(&photos).expect("an absolute path").into(),
            models_dir: root().join("models"),
            slots: 2,
            ahead: 2,
            lease_seconds: 2,
            poll_milliseconds: 200,
            retries_max: 2,
            retry_base_milliseconds: 50,
            // Whoever tests it sets it.
            second_factor_required: false,
            ..Config::default()
        };
        Self { config, pool, owner, audited: true, keys: AtomicUsize::new(1) }
    }

    /// The same, with connections of its own that begin now.
    pub async fn reconnected(mut self) -> Self {
        self.pool = database::connect(&self.owner, 4).await.expect("the database is ready");
        self
    }

    /// The same without Redis: everybody polls.
    pub fn without_redis(mut self) -> Self {
        self.config.redis_url = None;
        self
    }

    pub async fn db(&self) -> sqlx::pool::PoolConnection<sqlx::Postgres> {
        self.pool.acquire().await.expect("a connection")
    }

    /// A connection as the owner of the server, who may do what nobody else may.
    pub async fn as_owner(&self) -> PgConnection {
        let mut db = PgConnection::connect(&self.owner).await.expect("the server answers");
        sqlx::raw_sql("SET search_path = photogate").execute(&mut db).await.expect("it is set");
        db
    }

    /// Runs statements as the owner of the server.
    pub async fn owner_runs(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&mut self.as_owner().await).await.expect(sql);
    }

    /// Changes rows behind the gate's back: no trigger sees it, and no foreign key.
    pub async fn tamper(&self, sql: &'static str) {
        let mut owner = self.as_owner().await;
        let blind = "SET session_replication_role = replica";
        sqlx::raw_sql(blind).execute(&mut owner).await.expect("the triggers look away");
        let changed = sqlx::raw_sql(sql).execute(&mut owner).await.expect(sql);
        assert!(changed.rows_affected() > 0, "it changes nothing: {sql}");
    }

    /// An organisation with these credits, and an event of it.
    pub async fn an_event_with(&self, credits: i64) -> (OrganisationId, EventId) {
        let organisation = self.an_organisation_with(credits).await;
        (organisation, self.an_event_of(organisation).await)
    }

    /// An organisation with these credits, and an event of it with face search, but no bib search.
    pub async fn a_gala_with(&self, credits: i64) -> (OrganisationId, EventId) {
        let organisation = self.an_organisation_with(credits).await;
        let event = events::create(
            &mut *self.db().await,
            organisation,
            "Gala",
            false,
            true,
            "anna@club.example",
        )
        .await
        .expect("it is created");
        (organisation, event)
    }

    pub async fn an_organisation_with(&self, credits: i64) -> OrganisationId {
        let organisation = organisations::create(&mut *self.db().await, "Club", "Europe/Berlin")
            .await
            .expect("it is created");
        let price = "0.05 EUR".parse().expect("a price");
        organisations::set_price(&mut *self.db().await, organisation, Some(&price))
            .await
            .expect("it is set");
        if credits > 0 {
            self.top_up(organisation, credits).await;
        }
        organisation
    }

    pub async fn an_event_of(&self, organisation: OrganisationId) -> EventId {
        events::create(
            &mut *self.db().await,
            organisation,
            "Marathon",
            true,
            false,
            "anna@club.example",
        )
        .await
        .expect("it is created")
    }

    pub async fn top_up(&self, organisation: OrganisationId, amount: i64) -> Credited {
        let key = format!("test-{}", self.keys.fetch_add(1, Ordering::Relaxed));
        self.top_up_with(organisation, amount, &key).await.expect("it is credited")
    }

    pub async fn top_up_with(
        &self,
        organisation: OrganisationId,
        amount: i64,
        key: &str,
    ) -> Result<Credited, top_up::TopUpError> {
        let kind = if amount > 0 { TopUpKind::Purchase } else { TopUpKind::Adjustment };
        let top_up = TopUp {
            organisation,
            kind,
            amount: Credits(amount),
            actor: "anna@club.example",
            note: "",
            idempotency_key: key,
        };
        let credited = top_up::top_up(&mut *self.db().await, top_up).await?;
        self.wake_workers().await;
        Ok(credited)
    }

    /// Queues `rehearsal/{act}/1` to `n` for Photo Processing.
    pub async fn queue(&self, event: EventId, act: &str, n: usize) -> Run {
        let keys: Vec<_> = (1..=n).map(|i| format!("rehearsal/{act}/{i}")).collect();
        self.queue_keys(event, Operation::PhotoProcessing, &keys).await
    }

    pub async fn queue_keys(&self, event: EventId, operation: Operation, keys: &[String]) -> Run {
        let run = enqueue::enqueue(
            &mut *self.db().await,
            event,
            operation,
            &enqueue::jobs(keys).expect("they are keys"),
            "pipeline@club.example",
        )
        .await
        .expect("they are queued");
        if run.woke {
            self.wake_workers().await;
        }
        run
    }

    async fn wake_workers(&self) {
        Wake::open(self.config.redis_url.as_deref()).expect("an address").waiting().send().await;
    }

    /// A person retries failed photos.
    pub async fn retry(
        &self,
        event: EventId,
        photos: &[PhotoId],
    ) -> photogate::queue::retry::Retry {
        photogate::queue::retry::retry(
            &mut *self.db().await,
            event,
            Operation::PhotoProcessing,
            photos,
            false,
            "anna",
        )
        .await
        .expect("they are retried")
    }

    /// A worker's incarnation without a process: the test claims and settles by hand.
    pub async fn a_worker(&self) -> Hand<'_> {
        let name = format!("hand-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let lease = Duration::from_secs(3600);
        let me =
            claim::register(&mut *self.db().await, &name, 1, lease).await.expect("it registers");
        let books = Settling {
            pool: self.pool.clone(),
            me,
            lease,
            now: CancellationToken::new(),
            trouble: Arc::default(),
            in_hand: InHand::default(),
        };
        let (settler, _) = Settler::start(books, Wake::silent(), Arc::default());
        Hand { app: self, me, settler }
    }

    /// Locks an event's queues, as a hold does until it has committed; the caller rolls back.
    pub async fn another_holds_the_queue_of(&self, event: EventId) -> PgConnection {
        let mut db = self.as_owner().await;
        sqlx::raw_sql("BEGIN").execute(&mut db).await.expect("it begins");
        sqlx::query("SELECT FROM queue WHERE event_id = $1 FOR NO KEY UPDATE")
            .bind(event.0)
            .execute(&mut db)
            .await
            .expect("nobody else holds it");
        db
    }

    /// As if it had been silent for too long.
    pub async fn let_the_lease_run_out(&self, worker: WorkerId) {
        let late = "UPDATE worker SET lease_until = clock_timestamp() - interval '1 ms' \
                    WHERE worker_id = $1";
        let mut owner = self.as_owner().await;
        sqlx::query(late).bind(worker.0).execute(&mut owner).await.expect("it runs out");
        // The others have been there for long enough to declare it dead.
        self.owner_runs(
            "UPDATE photogate.worker SET beats_since = started_at - interval '1 minute'",
        )
        .await;
    }

    /// The writes that people and programs can ask for.
    pub fn commands(&self) -> Commands {
        Commands::new(self.pool.clone(), Wake::silent())
    }

    /// Switches an event's face search. Returns how many embeddings were deleted.
    pub async fn set_face_search(&self, event: EventId, on: bool) -> Result<u64, CommandError> {
        let change =
            EventChange { face_search: Some(on), face_consent: on, ..EventChange::default() };
        let changed = self.commands().change_event(&Caller::trusted("anna"), event, &change).await;
        changed.map(|(_, forgotten)| forgotten)
    }

    /// A real worker within this process, that rehearses.
    pub fn start_worker(&self) -> Running {
        self.start_worker_on(Rehearsal)
    }

    /// A real worker within this process. Every worker of the tests that is no process of its own
    /// starts here.
    pub fn start_worker_on(&self, work: impl Work) -> Running {
        let worker = Worker::new(&self.config, self.pool.clone(), work).expect("it opens");
        let stop = Stop::default();
        let told = stop.clone();
        let task = tokio::spawn(async move { worker.run(told).await.expect("it works") });
        Running { stop, task }
    }

    /// A real worker process, that rehearses.
    pub fn start_process(&self) -> Process {
        Process::work(&self.config, &["--rehearse"])
    }

    pub async fn balance(&self, organisation: OrganisationId) -> Balance {
        credits::balance(&mut *self.db().await, organisation)
            .await
            .expect("it is asked")
            .expect("it exists")
    }

    /// (available, reserved, spent)
    pub async fn credits(&self, organisation: OrganisationId) -> (i64, i64, i64) {
        let balance = self.balance(organisation).await;
        (balance.available.0, balance.reserved.0, balance.spent.0)
    }

    pub async fn queues(&self, event: EventId) -> Vec<Queue> {
        status::of_event(&mut *self.db().await, event).await.expect("it is asked")
    }

    /// The photo-processing queue.
    pub async fn processing(&self, event: EventId) -> Queue {
        self.queues(event)
            .await
            .into_iter()
            .find(|queue| queue.operation == Operation::PhotoProcessing)
            .expect("there is one")
    }

    /// The queue is paused for want of credit, and the database says so.
    pub async fn is_out_of_credit(&self, event: EventId) -> bool {
        let queue = self.processing(event).await;
        queue.state == State::NoCredits && queue.since.is_some()
    }

    /// The first of its photos, by key.
    pub async fn is_deleted(&self, event: EventId) -> bool {
        events::find(&mut *self.db().await, event).await.expect("it answers").is_none()
    }

    pub async fn photo_of(&self, event: EventId) -> PhotoId {
        let filter = photos::Filter { most: 1, ..photos::Filter::default() };
        photos::list(&mut *self.db().await, event, filter).await.expect("they are listed")[0].id
    }

    pub async fn hold(&self, event: EventId, owner: &str) -> HoldId {
        holds::hold(&mut *self.db().await, event, Operation::PhotoProcessing, owner, "", None)
            .await
            .expect("it is held")
            .hold
    }

    /// One number, asked of the database as its owner.
    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.as_owner().await).await.expect("a number")
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub fn says(&self, arguments: &[&str]) -> String {
        let output = photogate(&self.config, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// Waits until an event's photos have come to an end.
    pub async fn until_done(&self, event: EventId) {
        self.until("all photos are done", async || {
            self.queues(event)
                .await
                .iter()
                .all(|queue| queue.waiting + queue.following + queue.in_progress == 0)
        })
        .await;
    }

    /// Waits until so many of an event's photos are in progress.
    pub async fn until_in_progress(&self, event: EventId, photos: i64) {
        self.until("a worker is at work", async || {
            self.processing(event).await.in_progress == photos
        })
        .await;
    }

    /// Waits until more than so many of an event's photos are processed.
    pub async fn until_processed_more_than(&self, event: EventId, photos: i64) {
        self.until("some photos are processed", async || {
            self.processing(event).await.processed > photos
        })
        .await;
    }

    /// Waits until a queue is paused for want of credit.
    pub async fn until_out_of_credit(&self, event: EventId) {
        self.until("the queue is paused", async || self.is_out_of_credit(event).await).await;
    }

    /// Waits until a session waits for a lock that another one has.
    pub async fn until_somebody_waits_for_a_lock(&self) {
        self.until_waiting(1).await;
    }

    /// Waits until so many sessions wait for locks that others have.
    pub async fn until_waiting(&self, sessions: i64) {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND wait_event_type = 'Lock'";
        let there = async || self.count(waiting).await >= sessions;
        self.until("sessions wait for a lock", there).await;
    }

    /// Waits until the service at this address takes requests.
    pub async fn until_ready(&self, address: SocketAddr) {
        let ready = format!("http://{address}/readyz");
        self.until("the service is ready", async || {
            reqwest::get(&ready).await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    }

    pub async fn until(&self, what: &str, there: impl AsyncFn() -> bool) {
        let began = tokio::time::Instant::now();
        while !there().await {
            assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

impl Drop for App {
    /// Every test is a test of the books.
    fn drop(&mut self) {
        if !self.audited || std::thread::panicking() {
            return;
        }
        let url = self.owner.clone();
        let audit = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let pool = database::connect(&url, 1).await.expect("the database is ready");
                let mut db = pool.acquire().await.expect("a connection");
                let checks = reconcile::reconcile(&mut db, Scope::Full)
                    .await
                    .expect("the books can be read");
                let chains = hash_chain::verify(&mut db, None, |_| ())
                    .await
                    .expect("the chains can be read");
                let broken: Vec<_> = chains.into_iter().filter_map(|one| one.broken).collect();
                assert!(broken.is_empty(), "the chains do not hold: {broken:#?}");
                checks
            })
        });
        let broken: Vec<_> = audit
            .join()
            .expect("the audit ends")
            .into_iter()
            .filter(|check| check.violations != 0)
            .collect();
        assert!(broken.is_empty(), "the books do not balance: {broken:#?}");
    }
}

/// A worker by hand.
pub struct Hand<'a> {
    app: &'a App,
    pub me: Incarnation,
    settler: Settler,
}

impl Hand<'_> {
    /// Claims, as a worker does: a first claim may only find and mark a queue that is empty.
    pub async fn claim(&self, most: usize) -> Vec<Reservation> {
        let claimed = self.try_claim(most).await.expect("it claims");
        if claimed.is_empty() {
            return self.try_claim(most).await.expect("it claims");
        }
        claimed
    }

    /// Claims the one photo that must be there.
    pub async fn claim_one(&self) -> Reservation {
        let mut claimed = self.claim(1).await;
        claimed.pop().expect("a photo can be claimed")
    }

    pub async fn try_claim(&self, most: usize) -> Result<Vec<Reservation>, claim::GateError> {
        claim::claim(&mut *self.app.db().await, self.me, most, OrganisationId(0), false).await
    }

    pub async fn adopt(&self, most: usize) -> Vec<Reservation> {
        claim::adopt(&mut *self.app.db().await, self.me, most, most, worker::CRASHES_MAX)
            .await
            .expect("it adopts")
    }

    /// As soon as the dead may be declared dead: a server that has just started gives everybody
    /// time.
    pub async fn adopt_from_the_dead(&self, most: usize) -> Vec<Reservation> {
        let began = tokio::time::Instant::now();
        loop {
            let adopted = self.adopt(most).await;
            if !adopted.is_empty() {
                return adopted;
            }
            assert!(began.elapsed() < PATIENCE, "there was nothing to adopt");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn succeed(&self, reservation: Reservation) -> bool {
        self.settler
            .settle(
                reservation,
                Verdict::Processed(photogate::catalog::findings::Findings::Nothing),
            )
            .await
    }

    pub async fn succeed_all(&self, reservations: impl IntoIterator<Item = Reservation>) {
        for reservation in reservations {
            assert!(self.succeed(reservation).await, "a photo in hand is settled");
        }
    }

    pub async fn fail_all(&self, reservations: impl IntoIterator<Item = Reservation>) {
        for reservation in reservations {
            assert!(self.fail(reservation).await, "a photo in hand is settled");
        }
    }

    /// An automatic retry: the photo is due again after so long.
    pub async fn put_off(&self, reservation: Reservation, after: Duration) -> bool {
        let (reason, detail) = ("photo_missing", String::new());
        let retry = Verdict::Retry { reason, detail, after, outage: false };
        self.settler.settle(reservation, retry).await
    }

    pub async fn fail(&self, reservation: Reservation) -> bool {
        self.settler
            .settle(
                reservation,
                Verdict::Failed { reason: "corrupt", detail: "as the test wants it".into() },
            )
            .await
    }

    pub async fn give_back(&self, reservation: Reservation, verdict: Verdict) -> bool {
        self.settler.settle(reservation, verdict).await
    }
}

/// A worker within this process.
pub struct Running {
    pub stop: Stop,
    task: JoinHandle<()>,
}

impl Running {
    /// Drains it, and waits until it has left.
    pub async fn drain(self) {
        self.stop.drain.cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("it leaves in time")
            .expect("it leaves in peace");
    }
}
