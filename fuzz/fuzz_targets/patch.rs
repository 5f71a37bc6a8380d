//! EXIF put right after a turn: whatever it is, this ends.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| photogate_jobs::patch(&mut bytes.to_vec()));
