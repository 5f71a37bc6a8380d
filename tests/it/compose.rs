//! docker-compose.yml and Dockerfile, as far as they can be checked without an engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use photogate::{catalog::photo_store::IN_MEMORY_MIB, sandbox::TURNED_MIB};
use serde_yaml_ng::Value;

use crate::support::{place, read, root};

/// They are in the environment only, and no names in the file of the settings.
const OF_THE_ENVIRONMENT: [&str; 4] =
    ["WORKER_PASSWORD", "SERVICE_PASSWORD", "STRIPE_SECRETS", "ARCHIVE_KEY"];

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
            "{name:?} names no version of its image"
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
                    || OF_THE_ENVIRONMENT.contains(&setting),
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
    let ignored = read(".dockerignore");
    let ignored: Vec<&str> = ignored.lines().filter(|line| !line.starts_with('#')).collect();
    for (stage, needed) in [("models", what_the_models_need()), ("build", what_the_build_reads())] {
        let copied = what_a_stage_copies(&dockerfile, stage);
        for source in &copied {
            let path = root().join(source);
            assert!(path.exists(), "the Dockerfile copies {source}, which is not there");
            for file in files_in(&path) {
                let file = within(&file);
                let by = ignored.iter().find(|pattern| ignores(pattern, &file));
                assert_eq!(by, None, ".dockerignore has {file}, which {stage} copies");
            }
        }
        for (needed, by) in needed {
            let is_copied = copied.iter().any(|copied| Path::new(&needed).starts_with(copied));
            assert!(is_copied, "{stage} does not copy {needed}, needed by {by}");
        }
    }
    let is_run = dockerfile.lines().any(|line| line.trim().starts_with("scripts/touch-changed "));
    assert!(is_run, "it is run, not only copied");

    let stages = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM "));
    let mut names = vec!["scratch"];
    for stage in stages {
        let (from, name) = stage.split_once(" AS ").unwrap_or((stage, ""));
        assert!(from.contains(':') || names.contains(&from), "{stage} names no version");
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

fn what_a_stage_copies(dockerfile: &str, stage: &str) -> BTreeSet<String> {
    let (_, stage) = dockerfile.split_once(&format!(" AS {stage}\n")).expect("there is the stage");
    let lines = stage.split("\nFROM ").next().unwrap().lines();
    let copies = lines.filter_map(|line| line.strip_prefix("COPY "));
    copies
        .filter(|line| !line.starts_with("--from"))
        .flat_map(|line| line.split_whitespace().rev().skip(1))
        .map(|source| source.trim_end_matches('/').to_owned())
        .collect()
}

/// Whether a line of .dockerignore names a file or a directory that it is in.
fn ignores(pattern: &str, file: &str) -> bool {
    fn fits(pattern: &[&str], path: &[&str]) -> bool {
        match (pattern, path) {
            // What is in a directory that is named is not taken either.
            ([], _) => true,
            (["**", rest @ ..], path) => {
                (0..=path.len()).any(|skipped| fits(rest, &path[skipped..]))
            }
            ([_, ..], []) => false,
            ([name, rest @ ..], [first, inside @ ..]) => {
                let is_same = match name.split_once('*') {
                    Some((start, end)) => first.starts_with(start) && first.ends_with(end),
                    None => name == first,
                };
                is_same && fits(rest, inside)
            }
        }
    }
    let pattern: Vec<&str> = pattern.trim_matches('/').split('/').collect();
    let file: Vec<&str> = file.split('/').collect();
    fits(&pattern, &file)
}

#[test]
fn what_is_ignored_is_told_as_docker_tells_it() {
    for (pattern, file) in [
        ("src/catalog", "src/catalog/key.rs"),
        ("**/key.rs", "src/catalog/key.rs"),
        ("**/catalog", "src/catalog/key.rs"),
        (".env.*", ".env.photogate"),
        ("/src", "src/lib.rs"),
        ("src/*.rs", "src/lib.rs"),
    ] {
        assert!(ignores(pattern, file), "{pattern} {file}");
    }
    for (pattern, file) in
        [("src/cat", "src/catalog/key.rs"), ("key.rs", "src/key.rs"), ("**/x", "src/lib.rs")]
    {
        assert!(!ignores(pattern, file), "{pattern} {file}");
    }
}

/// What `scripts/models` names of the repository.
fn what_the_models_need() -> BTreeMap<String, String> {
    let script = read("scripts/models") + &read("scripts/prepare_models.py");
    let words = script.split(|c: char| c.is_whitespace() || "\"'()$;,".contains(c));
    let named = words.filter(|word| root().join(word).is_file() && word.contains('/'));
    let mut needed: BTreeMap<_, _> =
        named.map(|word| (word.to_owned(), "scripts/models".to_owned())).collect();
    assert!(needed.contains_key("scripts/models.sha256") && needed.len() > 1, "{needed:?}");
    needed.insert("scripts/models".into(), "the Dockerfile".into());
    needed
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

/// The files of a directory, or the one file. What programs have left there does not count.
fn files_in(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| !path.ends_with("__pycache__")).flat_map(|path| files_in(&path)).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    if !folder.is_dir() {
        return Vec::new();
    }
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    files_in(folder).into_iter().filter(is_rust).collect()
}

/// The time of 2000-01-01 that `scripts/touch-changed` gives to what has not changed.
fn is_old(path: &Path) -> bool {
    let year_2001 = SystemTime::UNIX_EPOCH + Duration::from_secs(978_307_200);
    fs::metadata(path).unwrap().modified().unwrap() < year_2001
}

/// Found: an image could lack a migration, because Cargo did not see that a file had come.
#[test]
fn cargo_sees_what_has_changed_since_the_last_build() {
    let place = place("touch-changed");
    let _ = fs::remove_dir_all(&place);
    for directory in ["src", "migrations", ".sqlx", "target"] {
        fs::create_dir_all(place.join(directory)).unwrap();
    }
    let write = |file: &str, text: &str| fs::write(place.join(file), text).unwrap();
    let run = |arguments: &[&str]| {
        let script = root().join("scripts/touch-changed");
        let ran = Command::new(script).args(arguments).current_dir(&place).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    };
    // One build, and what counts as new then.
    let new = || {
        run(&["target/list"]);
        let all =
            ["src/lib.rs", "src/a.rs", "migrations", "migrations/1.sql", ".sqlx", ".sqlx/q.json"];
        let new: Vec<_> = all.into_iter().filter(|path| !is_old(&place.join(path))).collect();
        run(&["--keep", "target/list"]);
        new.join(" ")
    };
    for file in ["src/lib.rs", "src/a.rs", "migrations/1.sql", ".sqlx/q.json"] {
        write(file, "one");
    }

    let everything = "src/lib.rs src/a.rs migrations migrations/1.sql .sqlx .sqlx/q.json";
    assert_eq!(new(), everything, "nothing is known yet");
    assert_eq!(new(), "");
    write("src/a.rs", "two");
    assert_eq!(new(), "src/a.rs");
    write("migrations/2.sql", "one");
    assert_eq!(new(), "migrations");
    fs::remove_file(place.join("migrations/2.sql")).unwrap();
    assert_eq!(new(), "migrations", "one has gone");
    write(".sqlx/q.json", "two");
    assert_eq!(new(), "src/lib.rs .sqlx .sqlx/q.json", "queries were checked against it");
    run(&["target/list"]);
    assert_eq!(new(), everything, "the build before has failed");
}

/// `sqlx::migrate!` reads a directory. Without this line, a file that comes changes nothing.
#[test]
fn a_migration_that_comes_is_compiled() {
    let script = read("migrations/build.rs");
    assert!(script.contains("println!(\"cargo:rerun-if-changed=.\")"), "{script}");
}

/// What a worker or a service may take at the same time, in MiB: the children that look at photos, those
/// that are kept warm, photos that were fetched and turned, and the process itself.
#[test]
fn containers_have_the_memory_that_they_may_take() {
    let compose = compose();
    for name in ["worker", "service"] {
        let service = &compose["services"][name];
        let set = |setting: &str| -> u64 {
            let value = service["environment"][setting].as_str();
            let value = value.unwrap_or_else(|| panic!("{name} sets no {setting}"));
            let default = value.split_once(":-").and_then(|(_, most)| most.strip_suffix('}'));
            default.unwrap_or(value).parse().unwrap()
        };
        let children = set("PHOTOGATE_SLOTS")
            * photogate::config::Config::default().photo_memory_megabytes
            + set("PHOTOGATE_IDLE_CHILDREN") * 150;
        let photos = u64::from(IN_MEMORY_MIB) + u64::from(TURNED_MIB);
        let limit = service["mem_limit"].as_str().unwrap();
        let gigabytes = limit.split_once(":-").and_then(|(_, limit)| limit.strip_suffix("g}"));
        let limit = gigabytes.unwrap().parse::<u64>().unwrap() * 1024;
        let needed = children + photos + 256;
        assert!(needed <= limit, "{name} may take {needed} MiB, and has {limit}");
    }
}

/// Variables of the store's provider, and settings that Compose does not make, come from one file.
#[test]
fn every_setting_can_be_given_to_the_containers() {
    let made = ["LOG_FORMAT", "METRICS_LISTEN", "SLOTS", "IDLE_CHILDREN", "STORE_URL", "LISTEN"];
    let made: BTreeSet<_> = made.into_iter().chain(["BEHIND_HTTPS"]).collect();
    let compose = compose();
    for (name, service) in services(&compose).filter(|(_, one)| one.get("platform").is_some()) {
        let file = &service["env_file"][0];
        assert_eq!((&file["path"], &file["required"]), (&".env.photogate".into(), &false.into()));
        for (variable, value) in service["environment"].as_mapping().unwrap() {
            let variable = variable.as_str().unwrap();
            let Some(setting) = variable.strip_prefix("PHOTOGATE_") else {
                // An empty one would win over the file.
                let known = ["DATABASE_URL", "REDIS_URL", "PGPASSWORD"];
                assert!(known.contains(&variable), "{name} sets {variable}");
                continue;
            };
            assert!(
                made.contains(setting) || OF_THE_ENVIRONMENT.contains(&setting),
                "{name} sets {setting}"
            );
            assert!(!value.as_str().unwrap().contains(":-}"), "{name} sets {setting} to nothing");
        }
    }
    for file in [".gitignore", ".dockerignore"] {
        for secret in [".env.photogate", ".env.photogate.service"] {
            let takes = read(file).lines().any(|line| ignores(line, secret));
            assert!(takes, "{file} has not {secret}");
        }
    }
}

/// Found: with the secret of Stripe's reports, a worker could report a payment.
#[test]
fn workers_do_not_get_the_secrets_with_which_credit_is_made() {
    let compose = compose();
    let gets = |name: &str| {
        let files = compose["services"][name]["env_file"].as_sequence().unwrap();
        files.iter().any(|file| file["path"] == ".env.photogate.service")
    };

    assert_eq!(["worker", "service", "migrate"].map(gets), [false, true, true]);
    let told = read("docs/operations.md");
    for secret in ["PHOTOGATE_STRIPE_SECRETS", "PHOTOGATE_ARCHIVE_KEY"] {
        // What stands here wins over the files.
        assert_eq!(compose["services"]["worker"]["environment"][secret], "");
        assert!(told.contains(&format!("`{secret}`")), "{secret}");
    }
}
