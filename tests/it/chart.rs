//! deploy/chart, as far as it speaks of photogate. `scripts/chart` renders it, and checks what Kubernetes
//! says of it.

use std::collections::BTreeSet;

use object_store::{aws::AmazonS3ConfigKey, azure::AzureConfigKey, gcp::GoogleConfigKey};
use photogate::config::Config;
use serde_json::Value;

use crate::support::{program, read, root, stdout};

fn names(of: &Value) -> BTreeSet<&str> {
    of.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Of the settings that are no values below `settings`, the chart makes these of its other values.
const OF_OTHER_VALUES: [&str; 6] =
    ["database_url", "redis_url", "store_url", "smtp_url", "listen", "metrics_listen"];
/// A service in a cluster is behind a proxy: over plain HTTP, nobody could log in.
const FIXED: [&str; 1] = ["behind_https"];
/// They are in the environment only, and no names in the file of the settings.
const OF_THE_ENVIRONMENT: [&str; 4] =
    ["WORKER_PASSWORD", "SERVICE_PASSWORD", "STRIPE_SECRETS", "ARCHIVE_KEY"];

#[test]
fn every_setting_can_be_set_and_no_other() {
    let schema: Value = serde_json::from_str(&read("deploy/chart/values.schema.json")).unwrap();
    let settings = names(&schema["$defs"]["settings"]["properties"]);
    let known = serde_json::to_value(Config::default()).unwrap();

    let others: BTreeSet<_> = OF_OTHER_VALUES.into_iter().chain(FIXED).collect();
    assert!(settings.is_disjoint(&others), "a setting has two places");
    assert_eq!(settings.union(&others).copied().collect::<BTreeSet<_>>(), names(&known));
    assert_eq!(schema["$defs"]["settings"]["additionalProperties"], false);
}

/// A variable with a name that is no setting would change nothing, and nobody would notice.
#[test]
fn its_templates_set_settings_that_exist() {
    let known = serde_json::to_value(Config::default()).unwrap();
    let (mut found, mut all) = (BTreeSet::new(), String::new());
    for file in std::fs::read_dir(root().join("deploy/chart/templates")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for after in text.split("PHOTOGATE_").skip(1) {
            let name: String =
                after.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
            // The name of the setting is put in its place.
            if !name.is_empty() {
                found.insert(name);
            }
        }
        all += &text;
    }
    for name in &found {
        let is_known = known.get(name.to_lowercase()).is_some();
        assert!(is_known || OF_THE_ENVIRONMENT.contains(&&**name), "the chart sets {name}");
    }
    for name in OF_OTHER_VALUES.iter().chain(&FIXED) {
        let variable = match *name {
            "database_url" => "\n- name: DATABASE_URL\n",
            "redis_url" => "\"variable\" \"REDIS_URL\"",
            other => &format!("PHOTOGATE_{}", other.to_uppercase()),
        };
        assert!(all.contains(variable), "the chart does not set {name}");
    }
}

/// A flag that the program does not know ends every migration.
#[test]
fn its_migration_has_arguments_that_exist() {
    let help = program(&Config::default()).args(["migrate", "--help"]).output().unwrap();
    let help = stdout(&help);
    let job = read("deploy/chart/templates/migration.yaml");
    let flags = job.lines().filter_map(|line| line.trim().strip_prefix("- --"));
    let flags: Vec<_> = flags.collect();
    assert_eq!(flags.len(), 5, "{flags:?}");
    for flag in flags {
        assert!(help.contains(&format!("--{flag}")), "{flag} is none of: {help}");
    }
}

/// What may stand in the values as it is: a name that the store's client does not know would change nothing.
#[test]
fn the_variables_of_the_store_that_are_no_secrets_are_known_to_its_client() {
    let helpers = read("deploy/chart/templates/_helpers.tpl");
    let (_, open) = helpers.split_once("define \"photogate.openVariables\"").unwrap();
    let open = open.split("\n{{- end -}}").next().unwrap();
    let mut seen = 0;
    for part in open.split("range list").skip(2) {
        let (names, provider) = part.split_once("}}\n- ").unwrap();
        let providers = match provider.split('_').next().unwrap() {
            "{{ $provider }}" => vec!["aws", "google", "azure"],
            one => vec![one],
        };
        for name in names.split('"').skip(1).step_by(2) {
            for provider in &providers {
                let variable = format!("{provider}_{name}").to_lowercase();
                let is_known = match &*provider.to_lowercase() {
                    "aws" => variable.parse::<AmazonS3ConfigKey>().is_ok(),
                    "google" => variable.parse::<GoogleConfigKey>().is_ok(),
                    _ => variable.parse::<AzureConfigKey>().is_ok(),
                };
                assert!(is_known, "{variable}");
                seen += 1;
            }
        }
    }
    assert!(seen > 80, "{seen} variables");
}

#[test]
fn it_is_for_this_version_and_the_user_of_the_image() {
    let chart: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(&read("deploy/chart/Chart.yaml")).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let helpers = read("deploy/chart/templates/_helpers.tpl");
    let user = helpers.lines().find_map(|line| line.trim().strip_prefix("runAsUser: ")).unwrap();
    assert!(read("Dockerfile").contains(&format!("--uid {user} ")), "the image has another user");
}

/// KEDA and the alerts read the metric that the service shows.
#[test]
fn workers_are_scaled_on_a_metric_that_exists() {
    let metric = "photogate_funded_backlog_photos";
    let workers = read("deploy/chart/templates/workers.yaml");
    assert_eq!(workers.matches(metric).count(), 2);
    assert!(read("src/telemetry/metrics.rs").contains(&format!("gauge!(\"{metric}\").set")));
}
