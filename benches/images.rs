//! Measures the image work: the CPU time of each stage on your own photos, and of decoding and
//! turning a photo of 12 megapixels.
//!
//! `scripts/bench-images` runs it and compares it with other programs. Usage: `images PHOTOS
//! TWELVE`. PHOTOS is a directory of photos. TWELVE is the file to which the photo of 12 megapixels
//! is written.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops where it cannot go on"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use image::{DynamicImage, RgbImage, codecs::jpeg::JpegEncoder, imageops::FilterType};
use img_parts::ImageEXIF;
use nix::time::{ClockId, clock_gettime};
use photogate_jobs::{Eyes, Photo, StartList, Turn, bibs};

/// Number of times that every photo is processed.
const ROUNDS: u32 = 3;

/// EXIF data that has only an orientation: 6, on its side.
const ON_ITS_SIDE: &[u8] = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";

/// CPU time of this thread until now.
fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap()
}

/// CPU time of one call, in milliseconds: the median of eleven calls.
fn middle(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<_> = (0..11)
        .map(|_| {
            let before = cpu();
            work();
            cpu().saturating_sub(before)
        })
        .collect();
    times.sort();
    milliseconds(times[5])
}

/// A time in milliseconds, rounded to a hundredth.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}

/// The most memory that this process had resident until now, in megabytes.
fn most_memory() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

fn main() {
    let arguments: Vec<PathBuf> = std::env::args_os()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .map(PathBuf::from)
        .collect();
    let [photos, twelve] = &arguments[..] else { panic!("usage: images PHOTOS TWELVE") };
    let photos = read(photos);
    let mut figures = stages(&photos);
    figures.insert("memory_one_slot_mb", most_memory().round());

    let bytes = large(&photos[0]);
    fs::write(twelve, &bytes).unwrap();
    one_large_photo(&bytes, &mut figures);
    println!("{}", serde_json::to_string(&figures).unwrap());
}

/// The photos of a directory.
fn read(photos: &Path) -> Vec<Vec<u8>> {
    let mut files: Vec<_> =
        fs::read_dir(photos).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension != "json"));
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Measures each stage on these photos.
fn stages(photos: &[Vec<u8>]) -> BTreeMap<&'static str, f64> {
    let mut eyes = Eyes::open("models".as_ref()).unwrap();
    eyes.warm_up().unwrap();
    let mut stages: BTreeMap<&'static str, Duration> = BTreeMap::new();
    for bytes in photos.iter().cycle().take(photos.len() * ROUNDS as usize) {
        let mut last = cpu();
        let mut lap = |stage| {
            let now = cpu();
            *stages.entry(stage).or_default() +=
                now.saturating_sub(std::mem::replace(&mut last, now));
        };
        let picture = Photo::open(bytes).unwrap().picture().unwrap();
        lap("stage_decode_cpu_ms");
        let faces = eyes.faces(&picture).unwrap();
        lap("stage_faces_cpu_ms");
        bibs(&eyes.lines(&picture, &faces).unwrap(), &StartList::default());
        lap("stage_bibs_cpu_ms");
        for face in &faces {
            eyes.embedding(&picture, face).unwrap();
        }
        lap("stage_embeddings_cpu_ms");
        eyes.rotation(&picture).unwrap();
        lap("stage_rotation_cpu_ms");
    }
    let looks = u32::try_from(photos.len()).unwrap() * ROUNDS;
    let mut figures: BTreeMap<_, _> =
        stages.iter().map(|(stage, time)| (*stage, milliseconds(*time / looks))).collect();
    let processing = ["stage_decode_cpu_ms", "stage_faces_cpu_ms", "stage_bibs_cpu_ms"];
    figures.insert("processing_cpu_ms", processing.map(|stage| figures[stage]).iter().sum());
    figures
}

/// Enlarges a photo to 12 megapixels. Both sides are whole blocks, so it can be turned without
/// loss.
fn large(photo: &[u8]) -> Vec<u8> {
    let first = image::load_from_memory(photo).unwrap();
    let large: RgbImage = first.resize_exact(4032, 3024, FilterType::Triangle).to_rgb8();
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90)
        .encode_image(&DynamicImage::ImageRgb8(large))
        .unwrap();
    bytes
}

/// Measures decoding and turning one large photo.
fn one_large_photo(bytes: &[u8], figures: &mut BTreeMap<&'static str, f64>) {
    let photo = Photo::open(bytes).unwrap();
    figures.insert("decode_cpu_ms", middle(|| drop(photo.picture().unwrap())));
    figures.insert(
        "rotate_cpu_ms",
        middle(|| assert!(photo.upright(Turn::Quarter).unwrap().lossless)),
    );
    // The pixels are upright and the EXIF tag is wrong, so only the tag is changed.
    let mut tagged = img_parts::jpeg::Jpeg::from_bytes(bytes.to_vec().into()).unwrap();
    tagged.set_exif(Some(ON_ITS_SIDE.to_vec().into()));
    let tagged = tagged.encoder().bytes();
    let photo = Photo::open(&tagged).unwrap();
    figures.insert(
        "retag_cpu_ms",
        middle(|| assert!(photo.upright(Turn::ThreeQuarters).unwrap().lossless)),
    );
    figures.insert("entropy_floor_cpu_ms", middle(|| decode_smallest(bytes)));
}

/// Decodes at an eighth of the size: hardly more than reading the compressed bytes.
fn decode_smallest(bytes: &[u8]) {
    let mut floor = turbojpeg::Decompressor::new().unwrap();
    let eighth = turbojpeg::ScalingFactor::ONE_EIGHTH;
    floor.set_scaling_factor(eighth).unwrap();
    let size = floor.read_header(bytes).unwrap().scaled(eighth);
    let mut image = turbojpeg::Image {
        pixels: vec![0; 3 * size.width * size.height],
        width: size.width,
        pitch: 3 * size.width,
        height: size.height,
        format: turbojpeg::PixelFormat::RGB,
    };
    floor.decompress(bytes, image.as_deref_mut()).unwrap();
}
