//! Buckets: of S3, of Google Cloud Storage, and containers of Azure Blob Storage.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use object_store::{
    ClientOptions, ObjectStore, RetryConfig, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder, list::PaginatedListStore, path::Path, prefix::PrefixStore,
};
use url::Url;

/// A bucket, and the part of it that is the store.
#[derive(Clone)]
pub(super) struct Bucket {
    /// The files of the store.
    pub files: PrefixStore<Arc<dyn ObjectStore>>,
    /// Answers lists, page by page.
    pub lists: Arc<dyn PaginatedListStore>,
    /// What all keys of the store begin with.
    pub prefix: Path,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket(…/{})", self.prefix)
    }
}

/// The builders of all providers have the same methods, and no trait for them.
macro_rules! opened {
    ($builder:ty, $url:expr, $options:expr) => {{
        let builder = <$builder>::new().with_url($url.as_str());
        let mut builder = builder.with_retry(retry()).with_client_options(limits());
        for (name, value) in $options {
            // The platform writes this one with a slash, and the client adds another.
            let value = match name.as_str() {
                "azure_authority_host" => value.trim_end_matches('/'),
                _ => value,
            };
            // Unknown names are ignored: some of these variables are for other programs.
            if let Ok(name) = name.parse() {
                builder = builder.with_config(name, value);
            }
        }
        let store = builder.build().map_err(|error| error.to_string())?;
        Self::within(store, $url)
    }};
}

impl Bucket {
    /// Without keys among the options, the login is that of the machine or of the pod. Whether it
    /// works is known only when the store is used.
    pub(super) fn open(url: &Url, options: &BTreeMap<String, String>) -> Result<Self, String> {
        match url.scheme() {
            "s3" => opened!(AmazonS3Builder, url, options),
            "gs" => opened!(GoogleCloudStorageBuilder, url, options),
            "az" | "abfs" | "abfss" => opened!(MicrosoftAzureBuilder, url, options),
            other => Err(format!("{other} is not supported")),
        }
    }

    fn within(store: impl ObjectStore + PaginatedListStore, url: &Url) -> Result<Self, String> {
        let prefix = Path::from_url_path(url.path()).map_err(|error| error.to_string())?;
        let store = Arc::new(store);
        let files: Arc<dyn ObjectStore> = store.clone();
        Ok(Self { files: PrefixStore::new(files, prefix.clone()), lists: store, prefix })
    }
}

/// Few retries here: the worker itself retries with backoff, and gives its slot to another photo
/// while it waits.
fn retry() -> RetryConfig {
    RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(10), ..RetryConfig::default() }
}

/// The environment may say otherwise, as in `AWS_TIMEOUT`.
fn limits() -> ClientOptions {
    ClientOptions::new()
        .with_timeout(Duration::from_secs(60))
        .with_connect_timeout(Duration::from_secs(5))
}
