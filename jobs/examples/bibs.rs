//! Measures bib numbers on photos whose numbers are known: how many are right, wrong and missed, how
//! many of the sure ones are right, and the CPU time. It does so once without a start list, and once
//! with lists on which the photos' numbers are, among random ones.
//!
//! `cargo run --release -p photogate-jobs --example bibs -- MODELS LABELS DIRECTORY…`
//!
//! LABELS is a JSON object: file name to `{"bibs": […], "partial": […]}`. A partial number is half
//! hidden: neither right nor wrong. DIRECTORY has some or all of these files.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement prints, and stops where it cannot go on"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use photogate_jobs::{Eyes, Line, Photo, SURE, StartList, bibs};
use serde_json::Value;

/// The lists have so many of 100 numbers of each length: that many runners of 100 places.
const LISTED_PERCENT: [u64; 3] = [2, 10, 40];
/// Each list is drawn so often.
const LISTS: u64 = 5;

struct Seen {
    name: String,
    right: BTreeSet<String>,
    partial: BTreeSet<String>,
    lines: Vec<Line>,
}

#[derive(Default)]
struct Sums {
    right: usize,
    wrong: usize,
    missed: usize,
    sure: usize,
    sure_right: usize,
}

fn main() {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let usage = "usage: bibs MODELS LABELS DIRECTORY…";
    let mut eyes = Eyes::open(&arguments.next().expect(usage)).unwrap();
    eyes.warm_up().unwrap();
    let labels = fs::read(arguments.next().expect(usage)).unwrap();
    let labels: BTreeMap<String, Value> = serde_json::from_slice(&labels).unwrap();
    for directory in arguments {
        let (mut seen, before) = (Vec::new(), cpu());
        for (name, label) in &labels {
            let Ok(bytes) = fs::read(directory.join(name)) else { continue };
            let picture = Photo::open(&bytes).unwrap().picture().unwrap();
            let likely = eyes.likely_faces(&picture).unwrap();
            let lines = eyes.lines(&picture, &likely).unwrap();
            let numbers = |of: &str| {
                let all = label[of].as_array().into_iter().flatten();
                all.map(|number| number.as_str().unwrap().to_uppercase()).collect()
            };
            let (right, partial) = (numbers("bibs"), numbers("partial"));
            seen.push(Seen { name: name.clone(), right, partial, lines });
        }
        let took = 1000.0 * cpu().saturating_sub(before).as_secs_f64();
        let photos = u32::try_from(seen.len()).unwrap();
        let place = directory.display();
        println!("{place}: {photos} photos, {:.0} ms CPU each", took / f64::from(photos.max(1)));
        show("no list", &[judge(&seen, &StartList::default())]);
        for percent in LISTED_PERCENT {
            let sums: Vec<_> =
                (0..LISTS).map(|seed| judge(&seen, &list(&labels, percent, seed))).collect();
            show(&format!("{percent} of 100 numbers listed"), &sums);
        }
    }
}

/// Prints the sums of one setting.
fn show(what: &str, sums: &[Sums]) {
    let of = |one: fn(&Sums) -> usize| sums.iter().map(one).sum::<usize>();
    let (right, wrong, missed) = (of(|s| s.right), of(|s| s.wrong), of(|s| s.missed));
    let share = |part: usize, of: usize| {
        let number = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        number(part) / number(of.max(1))
    };
    println!(
        "  {what}: right {right}, wrong {wrong}, missed {missed}, F1 {:.3}; sure and right {} of {}",
        share(2 * right, 2 * right + wrong + missed),
        of(|s| s.sure_right),
        of(|s| s.sure),
    );
}

fn judge(seen: &[Seen], list: &StartList) -> Sums {
    let mut sums = Sums::default();
    for photo in seen {
        let found = bibs(&photo.lines, list);
        let read: BTreeSet<_> = found.iter().map(|bib| bib.number.clone()).collect();
        sums.right += photo.right.intersection(&read).count();
        sums.missed += photo.right.difference(&read).count();
        let is_part = |number: &str| photo.partial.iter().any(|part| part.contains(number));
        let is_wrong = |number: &str| !photo.right.contains(number) && !is_part(number);
        sums.wrong += read.iter().filter(|number| is_wrong(number)).count();
        for bib in found.iter().filter(|bib| bib.score >= SURE) {
            sums.sure += 1;
            sums.sure_right += usize::from(!is_wrong(&bib.number));
        }
        if list.is_empty() && read != photo.right {
            println!("  {}: {:?}, read {found:?}", photo.name, photo.right);
        }
    }
    sums
}

/// A start list: all numbers of the labels, and random ones, so that `percent` of all numbers of
/// each length are on it.
fn list(labels: &BTreeMap<String, Value>, percent: u64, seed: u64) -> StartList {
    let all = labels.values().flat_map(|label| [&label["bibs"], &label["partial"]]);
    let mut numbers: BTreeSet<String> = all
        .flat_map(|some| some.as_array().into_iter().flatten())
        .map(|number| number.as_str().unwrap().to_uppercase())
        .collect();
    for (first, end) in [(10, 100), (100, 1000), (1000, 10_000), (10_000, 100_000)] {
        for number in first..end {
            // A hash (splitmix64) in place of a random number: the same lists each time.
            let mut hash: u64 = number ^ (seed << 32);
            hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
            hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            if (hash ^ (hash >> 31)) % 100 < percent {
                numbers.insert(number.to_string());
            }
        }
    }
    StartList::new(numbers)
}

/// CPU time of this thread until now; the models run on it.
fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap()
}
