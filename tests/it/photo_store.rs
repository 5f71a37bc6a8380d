//! The store: a directory, and a real S3 endpoint.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
};

use photogate::catalog::{
    key::Key,
    photo_store::{Kept, PhotoStore, StoreError},
};
use sha2::{Digest, Sha256};

use crate::support::{a_free_address, place, root};

fn a_store_in(directory: &Path) -> PhotoStore {
    let url = url::Url::from_directory_path(directory).unwrap();
    PhotoStore::open(url.as_str(), &BTreeMap::new()).unwrap()
}

#[tokio::test]
async fn a_directory_is_a_store() {
    let directory = place("a-store");
    // It may be left from an earlier run, and this one looks at what is new.
    let _ = fs::remove_dir_all(&directory);

    behaves_as_a_store(&a_store_in(&directory)).await;
}

#[tokio::test]
async fn a_link_does_not_lead_out_of_the_store() {
    let directory = place("a-store-with-a-link");
    fs::create_dir_all(&directory).unwrap();
    let _ = fs::remove_file(directory.join("link.jpg"));
    std::os::unix::fs::symlink("/etc/passwd", directory.join("link.jpg")).unwrap();
    let store = a_store_in(&directory);

    let refused = store.get(&Key::parse("link.jpg").unwrap(), 1 << 20).await;

    assert!(matches!(refused, Err(StoreError::Outside(_))), "{refused:?}");
}

#[tokio::test]
async fn an_s3_bucket_is_a_store() {
    let s3 = S3::start();

    behaves_as_a_store(&PhotoStore::open("s3://photos/club-1", &s3.options()).unwrap()).await;
}

#[tokio::test]
async fn a_bucket_that_is_down_is_trouble_not_absence() {
    let options = S3 { server: None, port: 1 }.options();
    let store = PhotoStore::open("s3://photos", &options).unwrap();

    let trouble = store.get(&Key::parse("a.jpg").unwrap(), 1 << 20).await;

    assert!(matches!(trouble, Err(StoreError::Trouble(_))), "{trouble:?}");
}

#[test]
fn an_address_that_is_none_says_what_to_write() {
    let refused = PhotoStore::open("ftp://photos", &BTreeMap::new()).unwrap_err();

    assert!(refused.to_string().contains("s3://bucket/prefix"), "{refused}");
}

async fn behaves_as_a_store(store: &PhotoStore) {
    let key = Key::parse("2026/Köln Marathon/IMG 0001.JPG").unwrap();

    store.put(&key, b"first".to_vec()).await.unwrap();
    store.put(&key, b"second".to_vec()).await.unwrap();

    assert_eq!(&store.get(&key, 100).await.unwrap()[..], b"second");
    assert!(matches!(store.get(&key, 3).await, Err(StoreError::TooLarge { bytes: 6, .. })));
    keeps_what_it_has(store).await;
    has_directories(store).await;
    assert!(matches!(
        store.get(&Key::parse("nowhere.jpg").unwrap(), 100).await,
        Err(StoreError::Missing(_))
    ));
}

/// A file that is there is not replaced, whoever writes at the same time.
async fn keeps_what_it_has(store: &PhotoStore) {
    let keep = async |name: &str, bytes: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let hash: [u8; 32] = Sha256::digest(bytes).into();
        let key = Key::parse(name).unwrap();
        store.keep(&key, file, bytes.len() as u64, &hash).await.unwrap()
    };
    assert_eq!(keep("kept/a.jpg", b"mine").await, Kept::New);
    assert_eq!(keep("kept/a.jpg", b"mine").await, Kept::Same);
    assert_eq!(keep("kept/a.jpg", b"your").await, Kept::Other);
    assert_eq!(keep("kept/a.jpg", b"a").await, Kept::Other);
    let key = Key::parse("kept/a.jpg").unwrap();
    assert_eq!(&store.get(&key, 100).await.unwrap()[..], b"mine");
    assert_eq!(store.size(&key).await.unwrap(), Some(4));
    assert_eq!(store.size(&Key::parse("kept/b.jpg").unwrap()).await.unwrap(), None);

    let (one, other) = tokio::join!(keep("kept/race.jpg", b"one"), keep("kept/race.jpg", b"two"));
    let new = [one, other].into_iter().filter(|kept| *kept == Kept::New).count();
    assert_eq!(new, 1, "{one:?} {other:?}");
}

async fn has_directories(store: &PhotoStore) {
    for name in
        ["way/0.jpg", "way/b/1.jpg", "way/a ö/1.jpg", "way/a ö/c/2.jpg", "way/c/1.txt", "way/z.jpg"]
    {
        store.put(&Key::parse(name).unwrap(), b"x".to_vec()).await.unwrap();
    }
    let inside = async |of: &str, after: &str, most| {
        let found = store.directories(of, after, most).await.unwrap();
        (found.paths.join(" | "), found.next.unwrap_or_default())
    };
    assert_eq!(inside("way/", "", 9).await, ("way/a ö/ | way/b/ | way/c/".into(), String::new()));
    assert_eq!(inside("way/", "", 2).await, ("way/a ö/ | way/b/".into(), "way/b/".into()));
    assert_eq!(inside("way/", "way/b/", 2).await, ("way/c/".into(), String::new()));
    assert_eq!(inside("nowhere/", "", 9).await, (String::new(), String::new()));
    assert!(inside("", "", 9).await.0.ends_with("kept/ | way/"), "its own prefix is not shown");
    let below = store.below("way/a ö/", 9).await.unwrap();
    assert_eq!((below.keys.len(), below.more), (2, false));
    let listed = store.list("way/a ö/", 9).await.unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
    let below = store.below("way/", 2).await.unwrap();
    assert_eq!((below.keys.len(), below.more), (2, true));
}

/// moto, as `scripts/test` installs it.
struct S3 {
    server: Option<Child>,
    port: u16,
}

impl S3 {
    fn start() -> Self {
        let port = a_free_address().port();
        let program = root().join(".photogate/moto/bin/moto_server");
        let server = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{} does not start ({error}): run the tests with scripts/test",
                    program.display()
                )
            });
        let s3 = Self { server: Some(server), port };
        let made = Command::new(program.with_file_name("python"))
            .args(["-c", MAKE_BUCKET, &s3.endpoint()])
            .status()
            .expect("python runs");
        assert!(made.success(), "the bucket was made");
        s3
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn options(&self) -> BTreeMap<String, String> {
        [
            ("aws_endpoint", self.endpoint().as_str()),
            ("aws_access_key_id", "test"),
            ("aws_secret_access_key", "test"),
            ("aws_region", "us-east-1"),
            ("aws_allow_http", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Waits for the server, too.
const MAKE_BUCKET: &str = "
import boto3, botocore, sys
config = botocore.config.Config(retries={'max_attempts': 60, 'mode': 'standard'}, connect_timeout=2)
s3 = boto3.client('s3', endpoint_url=sys.argv[1], region_name='us-east-1', \
    aws_access_key_id='test', aws_secret_access_key='test', config=config)
import time
for _ in range(200):
    try:
        s3.create_bucket(Bucket='photos')
        break
    except Exception:
        time.sleep(0.1)
else:
    sys.exit(1)
";
