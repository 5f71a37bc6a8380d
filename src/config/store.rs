//! What the environment says of the store.

use std::collections::BTreeMap;

use figment::providers::Env;

/// What the variables of those who provide buckets begin with: S3, Google Cloud, Azure.
const PROVIDERS: [&str; 3] = ["aws_", "google_", "azure_"];

/// The variables for the store, with names in lower case. Which of them count is known where the
/// store is opened. So a login by role comes as its platform sets it: `AWS_ROLE_ARN` and
/// `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_CONTAINER_CREDENTIALS_FULL_URI`, `AZURE_FEDERATED_TOKEN_FILE`.
pub(super) fn options(environment: &Env) -> BTreeMap<String, String> {
    environment
        .iter()
        .map(|(name, value)| (name.as_str().to_ascii_lowercase(), value))
        .filter(|(name, _)| PROVIDERS.iter().any(|provider| name.starts_with(provider)))
        // Docker Compose passes variables that are not set as empty.
        .filter(|(_, value)| !value.is_empty())
        .collect()
}
