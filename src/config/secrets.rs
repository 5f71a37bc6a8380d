//! What of the settings may be shown.

use super::Config;

impl Config {
    /// Returns the settings without passwords, so that they can be shown.
    #[must_use]
    pub fn redacted(mut self) -> Self {
        self.database_url = redact(&self.database_url);
        self.redis_url = self.redis_url.as_deref().map(redact);
        self.smtp_url = self.smtp_url.as_deref().map(redact);
        self.worker_password = None;
        self.service_password = None;
        self.archive_key = None;
        self.stripe_secrets.clear();
        self.store_options.clear();
        self
    }

    /// Returns every secret among the settings, to take them out of messages of others. The longest
    /// come first: one may be part of another.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let addresses = [Some(&self.database_url), self.redis_url.as_ref(), self.smtp_url.as_ref()];
        let mut secrets: Vec<String> = addresses
            .into_iter()
            .flatten()
            .flat_map(|address| in_address(address))
            .chain(self.stripe_secrets.iter().cloned())
            .chain(self.worker_password.clone())
            .chain(self.service_password.clone())
            .chain(self.archive_key.clone())
            .chain(
                self.store_options
                    .iter()
                    .filter(|(name, _)| is_secret(name))
                    .map(|(_, value)| value.clone()),
            )
            .filter(|secret| secret.len() >= SECRET_MIN)
            .collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }

    /// Returns the names of the settings that have another value than their default.
    pub(crate) fn changed(&self) -> Vec<String> {
        let values = |config: &Self| serde_json::to_value(config).unwrap_or_default();
        let (own, defaults) = (values(self), values(&Self::default()));
        let own = own.as_object().into_iter().flatten();
        own.filter(|(name, value)| defaults.get(name) != Some(value))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

/// Shorter ones protect nothing, and are parts of ordinary words.
const SECRET_MIN: usize = 4;

/// True if a parameter or variable of this name has a secret as its value.
fn is_secret(name: &str) -> bool {
    ["pass", "key", "secret", "token"].iter().any(|word| name.contains(word))
}

/// What is wrong with a setting, without the line of the file and the value, which may be a password.
pub(super) fn without_values(error: &figment::Error) -> String {
    let text = error.to_string();
    let is_quoted = |line: &&str| {
        line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|')
    };
    let told: Vec<_> = text.lines().filter(|line| !is_quoted(line)).map(str::trim).collect();
    let told = told.join(", ").trim_end_matches(", ").to_owned();
    let is_shown = |name: &String| !is_secret(name) && !name.contains("_url");
    match (told.find("found "), told.find(", expected")) {
        (Some(from), Some(to)) if !error.path.first().is_some_and(is_shown) && from < to => {
            format!("{}{}", &told[..from], &told[to + 2..])
        }
        _ => told,
    }
}

/// The secrets in an address, as they are written there and as they are meant.
fn in_address(address: &str) -> Vec<String> {
    let Ok(url) = url::Url::parse(address) else { return Vec::new() };
    let password = url.password().unwrap_or_default();
    let meant = percent_encoding::percent_decode_str(password).decode_utf8_lossy();
    let pairs = url.query_pairs().filter(|(name, _)| is_secret(name));
    // The file of a key is no secret.
    let pairs = pairs.filter(|(name, _)| name != "sslkey").map(|(_, value)| value.into_owned());
    [password.to_owned(), meant.into_owned()].into_iter().chain(pairs).collect()
}

fn redact(address: &str) -> String {
    let Ok(mut url) = url::Url::parse(address) else { return "(not an address)".into() };
    if url.password().is_some() {
        let _ = url.set_password(Some("***"));
    }
    let pairs: Vec<_> = url
        .query_pairs()
        .map(|(name, value)| {
            (name.to_string(), if is_secret(&name) { "***".into() } else { value.to_string() })
        })
        .collect();
    if !pairs.is_empty() {
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let config = Config {
            database_url: "postgres://anna:geheim@db/photogate?sslmode=require&password=geheim"
                .into(),
            redis_url: Some("redis://:geheim@cache".into()),
            smtp_url: Some("smtps://anna:geheim@mail.example.org".into()),
            stripe_secrets: vec!["whsec_geheim".into()],
            ..Config::default()
        };

        let shown = format!("{:?}", config.redacted());

        assert!(!shown.contains("geheim"), "{shown}");
    }

    #[test]
    fn a_wrong_setting_is_told_without_its_value() {
        use figment::{
            Figment,
            providers::{Format, Serialized, Toml},
        };
        let told = |toml: &str| {
            let read = Figment::from(Serialized::defaults(Config::default()))
                .merge(Toml::string(toml))
                .extract::<Config>();
            without_values(&read.unwrap_err())
        };

        let unclosed = told("slots = 2\nsmtp_url = \"smtps://anna:geheim@mail.example.org\n");
        assert!(!unclosed.contains("geheim") && unclosed.contains("line 2"), "{unclosed}");
        let no_list = told("stripe_secrets = \"whsec_geheim\"\n");
        assert!(!no_list.contains("geheim") && no_list.contains("stripe_secrets"), "{no_list}");
        let no_number = told("slots = \"many\"\n");
        assert!(no_number.contains("\"many\"") && no_number.contains("slots"), "{no_number}");
    }

    #[test]
    fn secrets_are_known_as_they_are_written_and_as_they_are_meant() {
        let config = Config {
            database_url: "postgres://anna:ge%40heim@db/photogate?password=other".into(),
            store_options: [("aws_secret_access_key", "deep"), ("aws_region", "eu")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..Config::default()
        };

        assert_eq!(config.secrets(), ["ge%40heim", "ge@heim", "other", "deep"]);
        assert_eq!(config.changed(), ["database_url"]);
    }
}
