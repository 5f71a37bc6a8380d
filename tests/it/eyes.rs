//! What is seen, on races that are drawn: how much of it is right, as a threshold, on photos that
//! nobody ran in.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use photogate_jobs::{Eyes, Photo, StartList, Turn, bibs};
use serde::Deserialize;

use crate::support::root;

#[derive(Deserialize)]
struct Label {
    bibs: BTreeSet<String>,
    /// Half hidden: neither right nor wrong.
    partial: BTreeSet<String>,
    people: usize,
}

#[test]
fn on_drawn_races_nearly_all_numbers_and_faces_are_found_and_nothing_is_turned_wrongly() {
    let races = root().join("samples/races");
    let labels: BTreeMap<String, Label> =
        serde_json::from_slice(&fs::read(races.join("labels.json")).unwrap()).unwrap();
    assert_eq!(labels.len(), 24, "races that are drawn");
    let mut eyes = Eyes::open(&root().join("models")).unwrap();
    let (mut right, mut wrong, mut missed) = (0usize, Vec::new(), Vec::new());
    let (mut people, mut faces_found, mut turned_right, mut views) = (0, 0, 0, 0);
    for (name, label) in &labels {
        let bytes = fs::read(races.join(name)).unwrap();
        let photo = Photo::open(&bytes).unwrap();
        let picture = photo.picture().unwrap();
        let likely = eyes.likely_faces(&picture).unwrap();
        people += label.people;
        let sure = likely.iter().filter(|face| face.is_sure()).count();
        faces_found += sure.min(label.people);
        let lines = eyes.lines(&picture, &likely).unwrap();
        let read: BTreeSet<_> =
            bibs(&lines, &StartList::default()).into_iter().map(|bib| bib.number).collect();
        right += label.bibs.intersection(&read).count();
        missed.extend(label.bibs.difference(&read).map(|number| format!("{name}: {number}")));
        let extra = read.difference(&label.bibs);
        let extra = extra.filter(|number| !label.partial.iter().any(|part| part.contains(*number)));
        wrong.extend(extra.map(|number| format!("{name}: {number}")));
        for turn in Turn::ALL {
            let view = photo.upright(turn).unwrap();
            let picture = Photo::open(&view.bytes).unwrap().picture().unwrap();
            let rotation = eyes.rotation(&picture).unwrap();
            let back = (360 - turn.degrees()) % 360;
            assert!(
                rotation.abstained || rotation.turn.degrees() == back,
                "{name} turned by {}: {rotation:?}",
                turn.degrees()
            );
            views += 1;
            turned_right += usize::from(!rotation.abstained);
        }
    }
    // F1 of at least 0.95: 2 * right / (2 * right + wrong + missed), in whole numbers.
    assert!(
        40 * right >= 19 * (2 * right + wrong.len() + missed.len()),
        "{right} right, wrong {wrong:?}, missed {missed:?}"
    );
    assert!(100 * faces_found >= 95 * people, "{faces_found} faces of {people}");
    assert!(100 * turned_right >= 95 * views, "{turned_right} of {views} views decided");
}
