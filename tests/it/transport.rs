//! Encrypted connections to Redis: the certificate is checked, and what does not fit is told.

use std::{
    fs::File,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::support::{App, Process, a_free_address, place, program};

/// A Redis that speaks TLS, with a certificate of an authority of its own.
struct TlsRedis {
    server: Child,
    plain: SocketAddr,
    tls: SocketAddr,
}

impl TlsRedis {
    fn start(dir: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, key).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["localhost".into()]).unwrap();
        let certificate = server.signed_by(&key, &authority).unwrap();
        std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
        std::fs::write(dir.join("server.pem"), certificate.pem()).unwrap();
        std::fs::write(dir.join("server.key"), key.serialize_pem()).unwrap();
        let (plain, tls) = (a_free_address(), a_free_address());
        let server = Command::new("redis-server")
            .args(["--port", &plain.port().to_string()])
            .args(["--tls-port", &tls.port().to_string(), "--tls-auth-clients", "no"])
            .args(["--save", "", "--tls-cert-file", "server.pem", "--tls-key-file", "server.key"])
            .current_dir(dir)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { server, plain, tls }
    }

    fn url(&self) -> String {
        format!("rediss://localhost:{}", self.tls.port())
    }

    /// How many listen to a channel.
    async fn listeners(&self) -> usize {
        let client = redis::Client::open(format!("redis://{}", self.plain)).unwrap();
        let Ok(mut db) = client.get_multiplexed_async_connection().await else { return 0 };
        let channels: Vec<String> =
            redis::cmd("PUBSUB").arg("CHANNELS").query_async(&mut db).await.unwrap();
        channels.len()
    }
}

impl Drop for TlsRedis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_heard_over_tls_if_its_certificate_fits_and_otherwise_it_is_told() {
    let mut app = App::new().await;
    let dir = place("transport");
    std::fs::create_dir_all(&dir).unwrap();
    let redis = TlsRedis::start(&dir);
    app.config.redis_url = Some(redis.url());
    let work = |authority: &str, log: &str| {
        let mut work = program(&app.config);
        work.args(["work", "--rehearse"]).env("SSL_CERT_FILE", dir.join(authority));
        let log = File::create(dir.join(log)).unwrap();
        work.stdout(log.try_clone().unwrap()).stderr(log);
        Process::start(work)
    };

    let known = work("ca.pem", "known.log");
    app.until("it listens", async || redis.listeners().await > 0).await;
    drop(known);

    // The server's own certificate is no authority.
    let unknown = work("server.pem", "unknown.log");
    let said = || std::fs::read_to_string(dir.join("unknown.log")).unwrap();
    app.until("it is told", async || said().contains("Redis cannot be heard")).await;
    assert_eq!(redis.listeners().await, 0);
    drop(unknown);
}
