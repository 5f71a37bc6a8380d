//! Logins at a bucket by role: nobody gives photogate a key. The platform sets variables of its own and
//! puts a token into a file, or a server of the machine hands out what a role may do.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use photogate::catalog::photo_store::PhotoStore;

use crate::{
    managed::certify,
    support::{App, PATIENCE, Server, a_free_address, place, program, root, stderr},
};

/// `support/cloud.py`.
struct Cloud {
    _server: Server,
    plain: u16,
    tls: u16,
    directory: PathBuf,
}

impl Cloud {
    /// What it gives out is right for so many seconds.
    fn start(name: &str, seconds: u32) -> Self {
        let directory = place(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("pod-token"), "token-of-the-pod").unwrap();
        certify(&directory);
        let (plain, tls) = (a_free_address().port(), a_free_address().port());
        let mut server = Command::new("python3");
        server
            .arg(root().join("tests/it/support/cloud.py"))
            .args([plain.to_string(), tls.to_string()])
            .arg(&directory)
            .arg(seconds.to_string());
        Self { _server: Server::start(&mut server, plain), plain, tls, directory }
    }

    /// From now on, nothing that was given out is right, nor is the token that the pod had.
    async fn rotate(&self) {
        fs::write(self.directory.join("pod-token"), "another-token-of-the-pod").unwrap();
        let rotated = reqwest::get(format!("http://127.0.0.1:{}/rotate", self.plain)).await;
        assert!(rotated.unwrap().status().is_success());
    }
}

/// A process runs for months, and what a role gives it lasts an hour.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_by_role_is_renewed_with_the_token_of_that_day() {
    let cloud = Cloud::start("cloud-that-rotates", 1);
    let server = format!("http://127.0.0.1:{}", cloud.plain);
    let token = cloud.directory.join("pod-token").display().to_string();
    let credentials = format!("{server}/v1/credentials");
    let bucket =
        [("aws_endpoint", &*server), ("aws_allow_http", "true"), ("aws_region", "eu-central-1")];
    let pod = [
        ("aws_container_credentials_full_uri", &*credentials),
        ("aws_container_authorization_token_file", &*token),
    ];
    let instance = [("aws_metadata_endpoint", &*server)];
    let azure = [
        ("azure_client_id", "client"),
        ("azure_tenant_id", "tenant"),
        ("azure_federated_token_file", &*token),
        ("azure_authority_host", &*server),
        ("azure_storage_endpoint", &*server),
        ("azure_allow_http", "true"),
    ];
    let stores = [
        ("pod", "s3://athletics", [&bucket[..], &pod].concat()),
        ("instance", "s3://athletics", [&bucket[..], &instance].concat()),
        ("azure", "abfs://photos@athletics.dfs.core.windows.net", azure.to_vec()),
    ];
    let stores = stores.map(|(name, url, options)| {
        let options = options.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        (name, PhotoStore::open(url, &options.collect()).unwrap())
    });
    for (name, store) in &stores {
        let listed = store.list("photos/", 9).await.unwrap();
        assert_eq!(listed[0].key, format!("photos/{name}.jpg"));
    }

    cloud.rotate().await;

    for (name, store) in &stores {
        let began = Instant::now();
        // What came a tenth of a second ago is used once more.
        while let Err(refused) = store.list("photos/", 9).await {
            assert!(began.elapsed() < PATIENCE, "{name}: {refused}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_and_machines_log_in_by_their_role() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(0).await;
    let cloud = Cloud::start("cloud", 3600);
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
