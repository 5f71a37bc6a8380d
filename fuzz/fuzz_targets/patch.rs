//! Fuzzes the correction of EXIF data after a turn. It must end for any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| photogate_jobs::patch(&mut bytes.to_vec()));
