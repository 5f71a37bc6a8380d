//! docker-compose.yml and Dockerfile, as far as they can be checked without an engine.

use std::{fs, path::Path};

use serde_yaml_ng::Value;

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))
        .unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn compose() -> Value {
    serde_yaml_ng::from_str(&read("docker-compose.yml")).unwrap()
}

#[test]
fn compose_brings_up_postgres_redis_a_migration_and_workers() {
    let compose = compose();
    let services = compose["services"].as_mapping().unwrap();

    let mut names: Vec<_> = services.keys().filter_map(Value::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["migrate", "postgres", "redis", "service", "worker"]);
    assert_eq!(
        compose["services"]["worker"]["depends_on"]["migrate"]["condition"],
        "service_completed_successfully"
    );
    assert_eq!(
        compose["services"]["migrate"]["depends_on"]["postgres"]["condition"],
        "service_healthy"
    );
    for (name, service) in services {
        let made = service.get("build").is_some();
        let image = service.get("image").and_then(Value::as_str);
        assert!(
            made || image.is_some_and(|image| image.contains(':') && !image.ends_with(":latest")),
            "{name:?} names no pinned image"
        );
        for dependency in service
            .get("depends_on")
            .and_then(Value::as_mapping)
            .into_iter()
            .flat_map(|all| all.keys())
        {
            assert!(services.contains_key(dependency), "{name:?} depends on {dependency:?}");
        }
    }
}

#[test]
fn compose_passes_settings_that_exist_and_mounts_files_that_are_there() {
    let known = serde_json::to_value(photogate::config::Config::default()).unwrap();
    let compose = compose();
    for (name, service) in compose["services"].as_mapping().unwrap() {
        let environment =
            service.get("environment").and_then(Value::as_mapping).into_iter().flatten();
        for setting in
            environment.filter_map(|(setting, _)| setting.as_str()?.strip_prefix("PHOTOGATE_"))
        {
            assert!(
                known.get(setting.to_lowercase()).is_some()
                    || ["WORKER_PASSWORD", "SERVICE_PASSWORD"].contains(&setting),
                "{name:?} sets {setting}"
            );
        }
        let mounts = service
            .get("volumes")
            .and_then(Value::as_sequence)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        for (from, _) in mounts.filter_map(|mount| mount.split_once(':')) {
            let there = if let Some(path) = from.strip_prefix("./") {
                Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists()
            } else {
                compose["volumes"].as_mapping().is_some_and(|volumes| volumes.contains_key(from))
            };
            assert!(there, "{name:?} mounts {from}");
        }
    }
}

#[test]
fn the_dockerfile_copies_what_is_there_and_runs_what_is_built() {
    let dockerfile = read("Dockerfile");
    let copies = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--from"));
    for source in copies.flat_map(|line| {
        line.split_whitespace().rev().skip(1).map(str::to_owned).collect::<Vec<_>>()
    }) {
        assert!(
            Path::new(env!("CARGO_MANIFEST_DIR")).join(&source).exists(),
            "the Dockerfile copies {source}"
        );
    }
    // Cargo wants to see every target that Cargo.toml names, and the build reads these.
    for needed in [
        "src",
        "jobs",
        "tests",
        "benches",
        "migrations",
        "scripts",
        ".sqlx",
        ".cargo",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        let copied = dockerfile.lines().any(|line| {
            line.starts_with("COPY ")
                && line.split_whitespace().any(|word| word.trim_end_matches('/') == needed)
        });
        assert!(copied, "the Dockerfile does not copy {needed}");
    }
    for stage in dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")) {
        assert!(stage.contains(':'), "{stage} is not pinned");
    }
    assert!(dockerfile.contains("USER photogate"), "it does not run as root");
    assert!(dockerfile.contains("ENTRYPOINT [\"photogate\"]"));
}
