//! What ARCHITECTURE.md says about where things are.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty());
    found
}

fn only_in(folder: &str, word: &str, allowed: &[&str]) {
    for (path, text) in sources(folder) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let said =
            text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
        assert!(!said || allowed.contains(&name.as_str()), "{} speaks of {word}", path.display());
    }
}

#[test]
fn only_the_queue_knows_apalis() {
    only_in("src", "use apalis", &["dispatch.rs"]);
    only_in("src", "apalis::", &["dispatch.rs"]);
}

#[test]
fn only_the_settings_read_the_environment() {
    only_in("src", "env::var", &["config.rs"]);
    only_in("src", "Env::", &["config.rs"]);
}

#[test]
fn the_image_work_is_pure() {
    for word in
        ["tokio", "sqlx", "axum", "redis", "std::env", "Instant::", "SystemTime", "std::net"]
    {
        only_in("jobs/src", word, &[]);
    }
}

#[test]
fn no_file_is_too_long_to_read() {
    for (path, text) in sources("src").into_iter().chain(sources("jobs/src")) {
        assert!(
            text.lines().count() <= 500,
            "{} has {} lines",
            path.display(),
            text.lines().count()
        );
    }
}
