//! A PostgreSQL that others manage: nobody who migrates is a superuser, and connections are encrypted,
//! with an authority of their own.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};

use photogate::{config::Config, rig::services::Services};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sqlx::{Connection, PgConnection};

use crate::support::{Server, a_free_address, place, program, read, root, stderr};

/// A certificate for `localhost`, and the authority that signed it.
pub fn certify(directory: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = CertifiedIssuer::self_signed(authority, key).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".into()]).unwrap();
    let certificate = server.signed_by(&key, &authority).unwrap();
    fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
    fs::write(directory.join("server.pem"), certificate.pem()).unwrap();
    fs::write(directory.join("server.key"), key.serialize_pem()).unwrap();
}

/// A server of its own, with nothing in it, as a provider hands it over.
struct Managed {
    services: Services,
    _tls: Server,
    port: u16,
    authority: String,
}

impl Managed {
    async fn start(name: &str, first: &'static str) -> Self {
        let services = Services::start(&place(name)).await.expect("the services start");
        let directory = place(&format!("{name}-certificates"));
        fs::create_dir_all(&directory).unwrap();
        certify(&directory);
        let url = services.postgres.url("postgres");
        let parameters: BTreeMap<_, _> =
            url::Url::parse(&url).unwrap().query_pairs().into_owned().collect();
        let port = a_free_address().port();
        let mut tls = Command::new("python3");
        tls.arg(root().join("tests/it/support/tls.py"))
            .arg(port.to_string())
            .arg(&directory)
            .arg(format!("{}/.s.PGSQL.5432", parameters["host"]));
        let tls = Server::start(&mut tls, port);
        let authority = directory.join("ca.pem").display().to_string();
        let managed = Self { services, _tls: tls, port, authority };
        for statement in first.split(';') {
            managed.as_provider("postgres", statement).await;
        }
        managed
    }

    async fn as_provider(&self, database: &str, sql: &str) {
        let mut db = PgConnection::connect(&self.services.postgres.url(database)).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut db).await.unwrap();
    }

    /// Runs a command with this login, and with an address as the chart makes it.
    fn run(&self, login: &str, host: &str, authority: &str, arguments: &[&str]) -> Output {
        let port = self.port;
        let tls = format!("sslmode=verify-full&sslrootcert={authority}");
        let database_url = format!("postgres://{login}@{host}:{port}/photogate?{tls}");
        program(&Config { database_url, ..Config::default() })
            .args(arguments)
            .env("PHOTOGATE_WORKER_PASSWORD", "one")
            .env("PHOTOGATE_SERVICE_PASSWORD", "two")
            .env("PGPASSWORD", "two")
            .output()
            .unwrap()
    }
}

const MIGRATE: [&str; 5] = ["migrate", "--worker-login", "worker", "--service-login", "service"];

fn is_done(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
}

/// As the first login of RDS, Cloud SQL and others: it may make roles, and has its database.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_no_superuser_migrates_over_tls() {
    let first = "CREATE ROLE boss LOGIN CREATEROLE; CREATE DATABASE photogate OWNER boss";
    let managed = Managed::start("managed", first).await;
    let authority = managed.authority.clone();

    let other = authority.replace("ca.pem", "server.pem");
    for (host, authority, said) in
        [("127.0.0.1", &authority, "certificate"), ("localhost", &other, "certificate")]
    {
        let refused = managed.run("boss", host, authority, &MIGRATE);
        assert!(!refused.status.success(), "{host} {authority}");
        assert!(stderr(&refused).contains(said), "{}", stderr(&refused));
    }
    is_done(&managed.run("boss", "localhost", &authority, &MIGRATE));
    is_done(&managed.run("boss", "localhost", &authority, &MIGRATE));

    let club = ["organisations", "create", "Athletics Club", "--price", "0.05 EUR"];
    is_done(&managed.run("service", "localhost", &authority, &club));
    let refused = managed.run("worker", "localhost", &authority, &club);
    assert!(!refused.status.success(), "a worker makes no organisations");
    is_done(&managed.run("service", "localhost", &authority, &["reconcile"]));
}

/// Somebody else has run migrations/roles.sql, as docs/operations.md says.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_may_make_neither_roles_nor_schemas_migrates() {
    let first = "CREATE ROLE deployer LOGIN; CREATE DATABASE photogate";
    let managed = Managed::start("managed-roles", first).await;
    let authority = managed.authority.clone();

    let refused = managed.run("deployer", "localhost", &authority, &["migrate"]);
    assert!(stderr(&refused).contains("migrations/roles.sql"), "{}", stderr(&refused));
    managed.as_provider("photogate", &read("migrations/roles.sql")).await;
    let grant = "GRANT photogate_owner, photogate_worker, photogate_app, photogate_organisation TO deployer";
    assert!(read("docs/operations.md").contains(grant), "the document says so");
    managed.as_provider("photogate", grant).await;
    is_done(&managed.run("deployer", "localhost", &authority, &["migrate"]));
    is_done(&managed.run("deployer", "localhost", &authority, &["migrate"]));

    managed
        .as_provider("photogate", "CREATE ROLE service LOGIN; GRANT photogate_app TO service")
        .await;
    is_done(&managed.run("service", "localhost", &authority, &["reconcile"]));
}
