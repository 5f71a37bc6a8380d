//! Measures AI rotation on photos whose right turn is known: how many views are right, wrong and
//! undecided, what decided, and the CPU time.
//!
//! `cargo run --release -p photogate-jobs --example turns -- MODELS DIRECTORY…`
//!
//! Each photo is shown in all four turns. It is upright as its EXIF tag says, unless labels.json in
//! the directory says otherwise: `"correct"` begins with "IGNORE EXIF" if the tag lies, and with
//! "ambiguous" if nobody knows. It prints a line for each view, and then the sums.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement prints, and stops where it cannot go on"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use photogate_jobs::{Eyes, Photo, Turn};
use serde_json::Value;

fn main() {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let models = arguments.next().expect("usage: turns MODELS DIRECTORY…");
    let mut eyes = Eyes::open(&models).unwrap();
    eyes.warm_up().unwrap();
    let mut sums: BTreeMap<String, u32> = BTreeMap::new();
    let (mut views, mut time) = (0, Duration::ZERO);
    for directory in arguments {
        let labels = fs::read(directory.join("labels.json")).unwrap_or_else(|_| b"{}".to_vec());
        let labels: Value = serde_json::from_slice(&labels).unwrap();
        for file in photos(&directory) {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            let says = labels[&name]["correct"].as_str().unwrap_or_default();
            if says.starts_with("ambiguous") {
                continue;
            }
            let bytes = fs::read(&file).unwrap();
            let Ok(photo) = Photo::open(&bytes) else { continue };
            let tag = photo.orientation.turn.degrees();
            let lies = if says.starts_with("IGNORE EXIF") { tag } else { 0 };
            for shown in Turn::ALL {
                let Ok(view) = photo.upright(shown) else { continue };
                let picture = Photo::open(&view.bytes).unwrap().picture().unwrap();
                let before = cpu();
                let rotation = eyes.rotation(&picture).unwrap();
                let took = cpu().saturating_sub(before);
                let needed = (720 - shown.degrees() - lies) % 360;
                let verdict = match rotation.turn.degrees() {
                    _ if rotation.abstained => "undecided",
                    turn if turn == needed => "right",
                    _ => "wrong",
                };
                let cue = rotation.cue.map_or("nothing", photogate_jobs::Cue::name);
                println!(
                    "{name}\tturned {}\tneeds {needed}\tsays {}\t{verdict}\tby {cue}\t{:.3}\t{:.1} ms",
                    shown.degrees(),
                    rotation.turn.degrees(),
                    rotation.confidence,
                    1000.0 * took.as_secs_f64(),
                );
                views += 1;
                time += took;
                *sums.entry(verdict.to_owned()).or_default() += 1;
                *sums.entry(format!("{verdict} by {cue}")).or_default() += 1;
            }
        }
    }
    println!("{views} views, {:.1} ms CPU each", 1000.0 * time.as_secs_f64() / f64::from(views));
    for (what, count) in sums {
        println!("{what}: {count} ({:.1} %)", 100.0 * f64::from(count) / f64::from(views));
    }
}

/// The files of a directory, without its labels.
fn photos(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending != "json"));
    files.sort();
    files
}

/// CPU time of this thread until now; the models run on it.
fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap()
}
