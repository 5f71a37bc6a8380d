//! Fuzzes what is decided from lines of text. A child process, or the database, may say anything;
//! the numbers must be such that the database takes them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use photogate_jobs::{Known, Line, Numbering, StartList, bibs, reconsider};

fuzz_target!(|bytes: &[u8]| {
    photogate_jobs::spell(bytes);
    let Ok(lines) = serde_json::from_slice::<Vec<Line>>(bytes) else { return };
    let list = || StartList::new(["12", "1482", "A77", "2019"].map(String::from));
    let sure: Vec<String> = (1400..1430).map(|number| number.to_string()).collect();
    let numbering = Numbering::learn(sure.iter().map(String::as_str));
    let known = Known { numbering, ..Known::default() };
    let listed = Known { start_list: list(), ..Known::default() };
    let decided = [
        bibs(&lines, &StartList::default()),
        bibs(&lines, &list()),
        reconsider(1, &lines, &[], &known),
        reconsider(1, &lines, &[], &listed),
    ];
    for bib in decided.iter().flatten() {
        for number in [Some(&bib.number), bib.was.as_ref()].into_iter().flatten() {
            assert!((1..=10).contains(&number.len()), "{number:?}");
            assert!(
                number.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()),
                "{number:?}"
            );
        }
        assert!((0.0..=1.0).contains(&bib.score), "{bib:?}");
        assert_ne!(Some(&bib.number), bib.was.as_ref());
    }
});
