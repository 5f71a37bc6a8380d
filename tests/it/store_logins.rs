//! Logins at a bucket by role: nobody gives photogate a key. The platform sets variables of its own and
//! puts a token into a file, or a server of the machine hands out what a role may do.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command},
    time::{Duration, Instant},
};

use crate::{
    managed::certify,
    support::{App, PATIENCE, a_free_address, place, program, root, stderr},
};

/// `support/cloud.py`.
struct Cloud {
    server: Child,
    plain: u16,
    tls: u16,
    directory: PathBuf,
}

impl Cloud {
    fn start() -> Self {
        let directory = place("cloud");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("pod-token"), "token-of-the-pod").unwrap();
        certify(&directory);
        let (plain, tls) = (a_free_address().port(), a_free_address().port());
        let server = Command::new("python3")
            .arg(root().join("tests/it/support/cloud.py"))
            .args([plain.to_string(), tls.to_string()])
            .arg(&directory)
            .spawn()
            .unwrap();
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", plain)).is_err() {
            assert!(began.elapsed() < PATIENCE, "cloud.py does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { server, plain, tls, directory }
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_and_machines_log_in_by_their_role() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(0).await;
    let cloud = Cloud::start();
    let server = format!("http://127.0.0.1:{}", cloud.plain);
    let token = cloud.directory.join("pod-token").display().to_string();
    let sts = format!("https://localhost:{}", cloud.tls);
    let authority = cloud.directory.join("ca.pem").display().to_string();
    let credentials = format!("{server}/v1/credentials");
    let host = format!("127.0.0.1:{}", cloud.plain);
    let bucket =
        [("AWS_ENDPOINT", &*server), ("AWS_ALLOW_HTTP", "true"), ("AWS_REGION", "eu-central-1")];
    let queued = |url: &str, variables: &[(&str, &str)]| {
        let mut enqueue = program(&app.config);
        enqueue.args(["enqueue", &event.to_string(), "--prefix", "photos/"]);
        enqueue.env("PHOTOGATE_STORE_URL", url).envs(variables.iter().copied());
        enqueue.output().unwrap()
    };
    let web = [
        // As a pod has them with IRSA, the roles of service accounts.
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/photogate"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &*token),
        ("AWS_ENDPOINT_URL_STS", &*sts),
        ("SSL_CERT_FILE", &*authority),
    ];
    // As a pod has them with EKS Pod Identity.
    let pod = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*credentials),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &*token),
    ];
    // A machine of EC2 has nothing: its server is at an address that everybody knows.
    let instance = [("AWS_METADATA_ENDPOINT", &*server)];
    // As a pod has them with the workload identity of Azure, whose host ends with a slash.
    let azure_host = format!("{server}/");
    let azure = [
        ("AZURE_CLIENT_ID", "client"),
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_FEDERATED_TOKEN_FILE", &*token),
        ("AZURE_AUTHORITY_HOST", &*azure_host),
        ("AZURE_STORAGE_ENDPOINT", &*server),
        ("AZURE_ALLOW_HTTP", "true"),
    ];
    let google = [
        ("GCE_METADATA_HOST", &*host),
        ("GOOGLE_BASE_URL", &*server),
        ("GOOGLE_ALLOW_HTTP", "true"),
    ];

    let refused = queued("s3://athletics", &[&bucket[..], &web[..2]].concat());
    assert!(!refused.status.success(), "the token service is not asked without TLS");
    for (url, variables) in [
        ("s3://athletics", [&bucket[..], &web].concat()),
        ("s3://athletics", [&bucket[..], &pod].concat()),
        ("s3://athletics", [&bucket[..], &instance].concat()),
        ("abfs://photos@athletics.dfs.core.windows.net", azure.to_vec()),
        ("gs://athletics", google.to_vec()),
    ] {
        let output = queued(url, &variables);
        assert!(output.status.success(), "{url} {variables:?}: {}", stderr(&output));
    }

    let keys: Vec<String> =
        sqlx::query_scalar("SELECT key FROM photo").fetch_all(&mut *app.db().await).await.unwrap();
    let keys: BTreeSet<_> = keys.iter().map(String::as_str).collect();
    let wanted =
        ["azure", "google", "instance", "pod", "web"].map(|who| format!("photos/{who}.jpg"));
    assert_eq!(keys, wanted.iter().map(String::as_str).collect());
}
