//! The store: a directory, and buckets of S3, Google Cloud and Azure, each at a real server.

use std::{collections::BTreeMap, fs, io::Write, path::Path, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use photogate::catalog::{
    key::Key,
    photo_store::{Kept, PhotoStore, StoreError},
};
use sha2::{Digest, Sha256};

use crate::support::{
    emulators::{Azurite, Gcs, S3},
    place,
};

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

/// However many photos are fetched ahead of their slots, those that have come take 512 MiB of memory
/// together.
#[tokio::test(flavor = "multi_thread")]
async fn photos_that_are_fetched_ahead_are_bounded_in_bytes() {
    let directory = place("a-store-of-large-photos");
    fs::create_dir_all(&directory).unwrap();
    let store = a_store_in(&directory);
    let mut fetches = FuturesUnordered::new();
    for n in 0..4 {
        let name = format!("{n}.jpg");
        // It takes no room on the disk.
        fs::File::create(directory.join(&name)).unwrap().set_len(200 << 20).unwrap();
        let store = store.clone();
        let key = Key::parse(&name).unwrap();
        fetches.push(tokio::spawn(async move { store.get(&key, 1 << 30).await.unwrap() }));
    }

    let first = fetches.next().await.unwrap().unwrap();
    let second = fetches.next().await.unwrap().unwrap();
    let third = tokio::time::timeout(Duration::from_millis(500), fetches.next()).await;
    assert!(third.is_err(), "600 MiB are in memory");
    drop(first);
    let third = fetches.next().await.unwrap().unwrap();
    drop(second);
    drop(third);
    assert_eq!(fetches.next().await.unwrap().unwrap().len(), 200 << 20);
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
async fn a_bucket_of_google_is_a_store() {
    let gcs = Gcs::start().await;

    behaves_as_a_store(&PhotoStore::open("gs://photos/club-1", &gcs.options()).unwrap()).await;
}

/// The account is named in the address, or in the environment.
#[tokio::test]
async fn a_container_of_azure_is_a_store() {
    let azure = Azurite::start();
    let store = PhotoStore::open("az://photos/club-1", &azure.options()).unwrap();

    behaves_as_a_store(&store).await;
    let host = "abfss://photos@devstoreaccount1.dfs.core.windows.net/club-1";
    let same = PhotoStore::open(host, &azure.options()).unwrap();
    let key = Key::parse("kept/a.jpg").unwrap();
    assert_eq!(&same.get(&key, 100).await.unwrap()[..], b"mine");
}

#[tokio::test]
async fn a_bucket_that_is_down_is_trouble_not_absence() {
    for (url, options) in [
        ("s3://photos", S3::at(1).options()),
        ("gs://photos", Gcs::at(1).options()),
        ("az://photos", Azurite::at(1).options()),
    ] {
        let store = PhotoStore::open(url, &options).unwrap();

        let trouble = store.get(&Key::parse("a.jpg").unwrap(), 1 << 20).await;

        assert!(matches!(trouble, Err(StoreError::Trouble(_))), "{url} {trouble:?}");
    }
}

#[test]
fn an_address_that_is_none_says_what_to_write() {
    for (url, said) in [
        ("ftp://photos", "s3://bucket/prefix"),
        // Nothing says at which account of Azure the container is.
        ("az://photos", "abfs://container@account.dfs.core.windows.net"),
    ] {
        let refused = PhotoStore::open(url, &BTreeMap::new()).unwrap_err();

        assert!(refused.to_string().contains(said), "{refused}");
    }
}

async fn behaves_as_a_store(store: &PhotoStore) {
    let key = Key::parse("2026/Köln Marathon/IMG 0001.JPG").unwrap();

    store.put(&key, b"first".to_vec()).await.unwrap();
    store.put(&key, b"second".to_vec()).await.unwrap();

    assert_eq!(&store.get(&key, 100).await.unwrap()[..], b"second");
    assert!(matches!(store.get(&key, 3).await, Err(StoreError::TooLarge { bytes: 6, .. })));
    keeps_what_it_has(store).await;
    has_directories(store).await;
    deletes(store).await;
    assert_eq!(store.probe(tokio::time::Instant::now()).await, Ok(()));
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

async fn deletes(store: &PhotoStore) {
    for name in ["gone/a.jpg", "gone/b/c.jpg", "gone.jpg"] {
        store.put(&Key::parse(name).unwrap(), b"x".to_vec()).await.unwrap();
    }
    store.delete_below(&Key::parse("gone").unwrap()).await.unwrap();
    assert_eq!(store.list("gone/", 9).await.unwrap(), []);
    let beside = Key::parse("gone.jpg").unwrap();
    assert_eq!(store.size(&beside).await.unwrap(), Some(1), "what is beside the directory stays");
    store.delete(&beside).await.unwrap();
    store.delete(&beside).await.unwrap();
    assert_eq!(store.missing(std::slice::from_ref(&beside)).await.unwrap(), [&beside]);
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
