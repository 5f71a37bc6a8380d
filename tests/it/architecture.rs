//! What ARCHITECTURE.md says about where things are.

use std::{collections::BTreeSet, fs, path::PathBuf};

use crate::support::{read, root};

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
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

/// The files that say the word, comments aside, are exactly these. A rule about a word that nobody
/// says would hold whatever the code does.
fn only_in(folder: &str, word: &str, speakers: &[&str]) {
    let said_by: BTreeSet<_> = sources(folder)
        .into_iter()
        .filter(|(_, text)| {
            text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word))
        })
        .map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let speakers: BTreeSet<_> = speakers.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(said_by, speakers, "who speaks of {word} in {folder}");
}

#[test]
fn only_the_queue_knows_apalis() {
    only_in("src", "use apalis", &["dispatch.rs"]);
    only_in("src", "apalis::", &["dispatch.rs"]);
}

#[test]
fn only_the_settings_read_the_environment() {
    only_in("src", "env::var", &[]);
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

/// The code map of ARCHITECTURE.md names what is there, and nothing else.
#[test]
fn the_code_map_is_the_tree() {
    let text = read("ARCHITECTURE.md");
    let (_, map) = text.split_once("## Code map").expect("there is a code map");
    let map = map.split("```").nth(1).expect("it is a fenced block");
    let named: BTreeSet<&str> = map
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(|path| path.trim_end_matches('/'))
        .collect();

    for path in named.iter().filter(|path| path.contains('/') || path.contains('.')) {
        assert!(root().join(path).exists(), "the code map names {path}, which is not there");
    }
    let listed = std::process::Command::new("git")
        .args(["ls-files"])
        .current_dir(root())
        .output()
        .expect("git is there");
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut wanted = BTreeSet::new();
    for path in listed.lines() {
        match path.split('/').collect::<Vec<_>>()[..] {
            ["src", first, ..] => wanted.insert(format!("src/{first}")),
            [top, _, ..] => wanted.insert(top.to_owned()),
            _ => false,
        };
    }
    assert!(wanted.len() > 15, "{wanted:?}");
    for path in &wanted {
        assert!(named.contains(path.as_str()), "the code map does not name {path}");
    }
}

/// A change is written down where it is made: nobody but a command writes to the audit log.
#[test]
fn only_commands_change_what_is_audited() {
    let (commands, others): (Vec<_>, Vec<_>) = sources("src")
        .into_iter()
        .filter(|(_, text)| text.contains("audit_log::record("))
        .map(|(path, _)| path)
        .partition(|path| path.components().any(|part| part.as_os_str() == "commands"));
    assert!(commands.len() > 3, "{commands:?}");
    assert!(others.is_empty(), "these write to the audit log by themselves: {others:?}");
    only_in("src/serve/pages", "serve::api", &[]);
    only_in("src/serve/pages", "api::", &[]);
}

/// Cargo.toml says that there are none: they would not be run.
#[test]
fn no_test_is_in_a_comment_or_beside_main() {
    for (path, text) in ["src", "migrations/src", "protocol/src"].into_iter().flat_map(sources) {
        let is_test = |line: &str| {
            let line = line.trim_start();
            line.starts_with("/// ```") || line.starts_with("//! ```")
        };
        assert!(!text.lines().any(is_test), "{} has a test in a comment", path.display());
    }
    assert!(!read("src/main.rs").contains("test]"), "src/main.rs has tests");
}

/// Found: `make demo` did not start when a second package of the workspace got a program.
#[test]
fn every_cargo_run_names_what_it_runs() {
    for file in ["Makefile", "scripts/with-postgres", "README.md", "CONTRIBUTING.md"] {
        for line in read(file).lines().filter(|line| line.contains("cargo run")) {
            assert!(line.contains(" -p ") || line.contains(" --example "), "{file}: {line}");
        }
    }
}
