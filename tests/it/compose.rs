//! docker-compose.yml and Dockerfile, as far as they can be checked without an engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_yaml_ng::Value;

use crate::support::{read, root};

fn compose() -> Value {
    let mut compose: Value = serde_yaml_ng::from_str(&read("docker-compose.yml")).unwrap();
    // What is merged has merged something itself.
    for _ in 0..3 {
        compose.apply_merge().unwrap();
    }
    compose
}

fn services(compose: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let services = compose["services"].as_mapping().unwrap();
    services.iter().map(|(name, service)| (name.as_str().unwrap(), service))
}

/// What nobody can try without an engine is in `make containers`.
#[test]
fn no_container_is_root_can_write_to_its_image_or_take_all_memory() {
    let compose = compose();
    for (name, service) in services(&compose) {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"][0], "ALL", "{name}");
        assert_eq!(service["cap_add"], Value::Null, "{name}");
        assert_eq!(service["security_opt"][0], "no-new-privileges:true", "{name}");
        assert!(service["mem_limit"].is_string() && service["pids_limit"].is_number(), "{name}");
        let ours = service["image"].as_str().unwrap().contains("photogate");
        assert!(ours || service["user"].is_string(), "{name} runs as root");
        let ends = name == "migrate";
        assert!(ends || service["healthcheck"]["test"].is_sequence(), "{name} has no health check");
        assert!(service["ports"].as_sequence().is_none_or(|ports| {
            ports.iter().all(|port| port.as_str().unwrap().starts_with("${LISTEN:-127.0.0.1:"))
        }));
    }
    for name in ["worker", "service"] {
        let environment = &compose["services"][name]["environment"];
        assert_eq!(environment["PHOTOGATE_LOG_FORMAT"], "json");
        assert!(environment["PHOTOGATE_METRICS_LISTEN"].is_string());
    }
    for file in [".gitignore", ".dockerignore"] {
        let ignored = read(file);
        assert!(ignored.lines().any(|line| line.trim_start_matches('/') == ".env"), "{file}");
    }
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
        let image = service["image"].as_str().unwrap();
        let made = image == compose["services"]["migrate"]["image"].as_str().unwrap();
        assert!(
            made || image.contains(':') && !image.ends_with(":latest"),
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
    let (mut settings, mut places) = (0, 0);
    for (name, service) in compose["services"].as_mapping().unwrap() {
        let environment = service.get("environment").into_iter();
        let environment =
            environment.flat_map(|all| all.as_mapping().expect("the environment has names"));
        for setting in
            environment.filter_map(|(setting, _)| setting.as_str()?.strip_prefix("PHOTOGATE_"))
        {
            assert!(
                known.get(setting.to_lowercase()).is_some()
                    || ["WORKER_PASSWORD", "SERVICE_PASSWORD"].contains(&setting),
                "{name:?} sets {setting}"
            );
            settings += 1;
        }
        let mounts = service
            .get("volumes")
            .and_then(Value::as_sequence)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        for (from, _) in mounts.filter_map(|mount| mount.split_once(':')) {
            let there = if let Some(path) = from.strip_prefix("./") {
                root().join(path).exists()
            } else {
                compose["volumes"].as_mapping().is_some_and(|volumes| volumes.contains_key(from))
            };
            assert!(there, "{name:?} mounts {from}");
            places += 1;
        }
    }
    assert!(settings > 5 && places > 2, "{settings} settings and {places} mounts were looked at");
}

#[test]
fn the_dockerfile_copies_everything_the_build_reads() {
    let dockerfile = read("Dockerfile");
    let (_, stage) = dockerfile.split_once(" AS build\n").expect("a stage that builds");
    let copied: BTreeSet<_> = stage
        .split("\nFROM ")
        .next()
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--from"))
        .flat_map(|line| line.split_whitespace().rev().skip(1))
        .map(|source| source.trim_end_matches('/').to_owned())
        .collect();
    let ignored = read(".dockerignore");
    for line in ignored.lines().filter(|line| !line.starts_with('#')) {
        let is_needed = copied.iter().any(|source| Path::new(source).starts_with(line));
        assert!(!is_needed, ".dockerignore has {line}, which the build reads");
    }
    for source in &copied {
        assert!(root().join(source).exists(), "the Dockerfile copies {source}, which is not there");
    }

    for (needed, by) in what_the_build_reads() {
        let is_copied = copied.iter().any(|copied| Path::new(&needed).starts_with(copied));
        assert!(is_copied, "the Dockerfile does not copy {needed}, needed by {by}");
    }

    let stages = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM "));
    let mut names = vec!["scratch"];
    for stage in stages {
        let (from, name) = stage.split_once(" AS ").unwrap_or((stage, ""));
        assert!(from.contains(':') || names.contains(&from), "{stage} is not pinned");
        names.push(name);
    }
    // Only by its number can an orchestrator tell that it is not root.
    let (uid, gid) = ("useradd --uid 10001", "groupadd --gid 10001");
    assert!(dockerfile.contains(uid) && dockerfile.contains(gid), "the owner of photos stays");
    assert!(dockerfile.contains("USER 10001:10001"), "it does not run as root");
    assert!(dockerfile.contains("ENTRYPOINT [\"photogate\"]"));
}

/// Photos that are copied into the volume belong to root, and so does the directory then: what
/// photogate writes below it must have a place of its own already.
#[test]
fn the_image_has_a_place_for_what_workers_write() {
    let dockerfile = read("Dockerfile");
    let made = dockerfile
        .lines()
        .find(|line| line.contains("install -d -o photogate"))
        .expect("the Dockerfile makes the directories that photogate writes to");
    let compose = compose();
    for service in ["worker", "service"] {
        let mounts = compose["services"][service]["volumes"].as_sequence().unwrap();
        let (_, photos) = mounts
            .iter()
            .filter_map(|mount| mount.as_str()?.split_once(':'))
            .find(|(volume, _)| *volume == "photos")
            .expect("photos are in a volume");
        let derived =
            format!("{photos}/{}", photogate::catalog::key::DERIVED.trim_end_matches('/'));
        assert!(made.split_whitespace().any(|word| word == derived), "{derived} is not made");
    }
}

/// Files and folders of the top level that a build reads, each with what names it.
fn what_the_build_reads() -> BTreeMap<String, String> {
    let mut needed: BTreeMap<String, String> = ["Cargo.toml", "Cargo.lock", ".cargo", ".sqlx"]
        .map(|name| (name.to_owned(), "every build".to_owned()))
        .into();
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--locked", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 1);
    // Cargo looks for every target of every member, whatever is built.
    for target in packages.iter().flat_map(|package| package["targets"].as_array().unwrap()) {
        let source = Path::new(target["src_path"].as_str().unwrap());
        needed.insert(within(source), format!("target {}", target["name"]));
    }
    for package in packages {
        let home = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
        for file in rust_files(&home.join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            // What only tests include is not read by the image's build.
            let text = text.split("#[cfg(test)]").next().unwrap();
            for (macro_name, from) in [
                ("include_str!(\"", file.parent().unwrap()),
                ("include_bytes!(\"", file.parent().unwrap()),
                ("migrate!(\"", home),
            ] {
                for included in text.split(macro_name).skip(1) {
                    let path = from.join(included.split('"').next().unwrap());
                    let needs = within(&path.canonicalize().unwrap());
                    needed.insert(needs, file.display().to_string());
                }
            }
        }
    }
    needed
}

fn within(path: &Path) -> String {
    let home = root().canonicalize().unwrap();
    let inside = path.strip_prefix(home).expect("the build reads what is in the repository");
    inside.to_string_lossy().into_owned()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}
