//! Fuzzes the head of a photo's file: format, size, scans and EXIF orientation.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(photo) = photogate_jobs::Photo::open(bytes) {
        let (width, height) = photo.upright_size();
        assert!(width > 0 && height > 0);
        assert!(u64::from(width) * u64::from(height) <= photogate_jobs::PIXELS_MAX);
    }
});
