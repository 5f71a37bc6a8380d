//! Fuzzes the file of a start list. The result must be an error, or valid bib numbers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    if let Ok(numbers) = photogate::catalog::start_list::parse(file, 1000) {
        assert!(!numbers.is_empty() && numbers.len() <= 1000);
        for number in numbers {
            assert!((1..=10).contains(&number.len()), "{number:?}");
            assert!(
                number.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()),
                "{number:?}"
            );
        }
    }
});
