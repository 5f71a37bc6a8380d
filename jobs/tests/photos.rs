//! Tests the image work on real files: a turned photo stays the same photo, and a broken file gives
//! an error, never a crash.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, io::Cursor, path::Path};

use image::{DynamicImage, GenericImageView, ImageEncoder, ImageFormat, Rgb, RgbImage};
use img_parts::{ImageEXIF, ImageICC};
use photogate_jobs::{Bib, Cue, Eyes, Format, Photo, Picture, StartList, Turn, bibs};

/// A picture in which every pixel differs from its mirror images.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let byte = |value: u32| u8::try_from(value % 256).unwrap();
        Rgb([byte(x * 255 / width), byte(y * 255 / height), byte((x / 16 + y / 16) * 20)])
    })
}

fn jpeg(image: &RgbImage) -> Vec<u8> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let image = turbojpeg::Image {
        pixels: &image.as_raw()[..],
        width,
        pitch: 3 * width,
        height,
        format: turbojpeg::PixelFormat::RGB,
    };
    turbojpeg::compress(image, 90, turbojpeg::Subsamp::Sub2x2).unwrap().to_vec()
}

/// A TIFF structure with an orientation, pixel dimensions, a maker note, and a link to an invalid
/// thumbnail.
fn exif_of(orientation: u16, width: u32, height: u32) -> Vec<u8> {
    let mut tiff = b"II*\0\x08\0\0\0".to_vec();
    let entry = |tiff: &mut Vec<u8>, tag: u16, kind: u16, count: u32, value: u32| {
        tiff.extend(tag.to_le_bytes());
        tiff.extend(kind.to_le_bytes());
        tiff.extend(count.to_le_bytes());
        tiff.extend(value.to_le_bytes());
    };
    tiff.extend(2u16.to_le_bytes());
    entry(&mut tiff, 0x0112, 3, 1, orientation.into());
    entry(&mut tiff, 0x8769, 4, 1, 38);
    tiff.extend(92u32.to_le_bytes());
    tiff.extend(3u16.to_le_bytes());
    entry(&mut tiff, 0x927C, 7, 8, 84);
    entry(&mut tiff, 0xA002, 4, 1, width);
    entry(&mut tiff, 0xA003, 4, 1, height);
    tiff.extend(0u32.to_le_bytes());
    tiff.resize(84, 0);
    tiff.extend(b"MAKERNOT");
    tiff.extend([0; 6]);
    tiff
}

fn with_exif(bytes: Vec<u8>, tiff: Vec<u8>) -> Vec<u8> {
    let mut jpeg = img_parts::jpeg::Jpeg::from_bytes(bytes.into()).unwrap();
    jpeg.set_exif(Some(tiff.into()));
    jpeg.set_icc_profile(Some(b"a colour profile".to_vec().into()));
    jpeg.encoder().bytes().to_vec()
}

fn coefficients_decoded(bytes: &[u8]) -> Vec<u8> {
    turbojpeg::decompress(bytes, turbojpeg::PixelFormat::RGB).unwrap().pixels
}

#[test]
fn a_turn_without_loss_and_back_is_the_same_photo_to_the_pixel() {
    let original = jpeg(&picture(160, 96));
    for (there, back) in [
        (Turn::Quarter, Turn::ThreeQuarters),
        (Turn::Half, Turn::Half),
        (Turn::ThreeQuarters, Turn::Quarter),
    ] {
        let turned = Photo::open(&original).unwrap().upright(there).unwrap();
        assert!(turned.lossless);

        let again = Photo::open(&turned.bytes).unwrap().upright(back).unwrap();

        assert!(again.lossless);
        assert_eq!(coefficients_decoded(&again.bytes), coefficients_decoded(&original));
    }
}

#[test]
fn sides_that_are_no_whole_blocks_are_coded_again_and_it_is_said() {
    let original = jpeg(&picture(150, 100));

    let turned = Photo::open(&original).unwrap().upright(Turn::Quarter).unwrap();

    assert!(!turned.lossless);
    let (was, is) = (
        image::load_from_memory(&original).unwrap().rotate90(),
        image::load_from_memory(&turned.bytes).unwrap(),
    );
    assert_eq!(is.dimensions(), (100, 150));
    let difference: u64 =
        was.to_rgb8().iter().zip(is.to_rgb8().iter()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    assert!(difference < 2 * 3 * 100 * 150, "on average less than 2 of 255: {difference}");
}

#[test]
fn upright_means_upright_for_every_reader() {
    // 160x96 is turned without loss, 150x100 is encoded again. The metadata must be right in both
    // cases.
    for (width, height) in [(160, 96), (150, 100)] {
        let bytes = with_exif(jpeg(&picture(width, height)), exif_of(6, width, height));
        let photo = Photo::open(&bytes).unwrap();
        assert_eq!(photo.upright_size(), (height, width));

        let upright = photo.upright(Turn::None).unwrap();

        let again = Photo::open(&upright.bytes).unwrap();
        assert!(again.orientation.is_upright());
        assert_eq!((again.stored_width, again.stored_height), (height, width));
        let parts = img_parts::jpeg::Jpeg::from_bytes(upright.bytes.into()).unwrap();
        assert_eq!(parts.icc_profile().unwrap().as_ref(), b"a colour profile");
        let tiff = parts.exif().unwrap();
        let mut want = exif_of(1, height, width);
        want[34..38].fill(0); // no link to a thumbnail on its side
        assert_eq!(tiff.as_ref(), want);
    }
}

/// A TIFF structure with an orientation, and a thumbnail after its second directory.
fn exif_with_thumbnail(orientation: u16, thumbnail: &[u8]) -> Vec<u8> {
    let mut tiff = b"MM\0*\0\0\0\x08".to_vec();
    let entry = |tiff: &mut Vec<u8>, tag: u16, kind: u16, value: [u8; 4]| {
        tiff.extend(tag.to_be_bytes());
        tiff.extend(kind.to_be_bytes());
        tiff.extend(1u32.to_be_bytes());
        tiff.extend(value);
    };
    let short = |value: u16| [value.to_be_bytes(), [0; 2]].concat().try_into().unwrap();
    let length = u32::try_from(thumbnail.len()).unwrap();
    tiff.extend(1u16.to_be_bytes());
    entry(&mut tiff, 0x0112, 3, short(orientation));
    tiff.extend(26u32.to_be_bytes());
    tiff.extend(3u16.to_be_bytes());
    entry(&mut tiff, 0x0112, 3, short(orientation));
    entry(&mut tiff, 0x0201, 4, 68u32.to_be_bytes());
    entry(&mut tiff, 0x0202, 4, length.to_be_bytes());
    tiff.extend(0u32.to_be_bytes());
    tiff.extend(thumbnail);
    tiff
}

#[test]
fn the_thumbnail_is_turned_with_its_photo() {
    // 160x96 is turned without loss, 150x100 is encoded again. The same is true for the thumbnails.
    for (width, height) in [(160, 96), (150, 100)] {
        let small = jpeg(&picture(width, height));
        let bytes =
            with_exif(jpeg(&picture(2 * width, 2 * height)), exif_with_thumbnail(6, &small));

        let upright = Photo::open(&bytes).unwrap().upright(Turn::None).unwrap();

        let parts = img_parts::jpeg::Jpeg::from_bytes(upright.bytes.into()).unwrap();
        let mut reader = exif::Reader::new();
        let tiff = reader.continue_on_error(true).read_raw(parts.exif().unwrap().to_vec()).unwrap();
        let value = |tag| tiff.get_field(tag, exif::In::THUMBNAIL)?.value.get_uint(0);
        let start = value(exif::Tag::JPEGInterchangeFormat).unwrap() as usize;
        let length = value(exif::Tag::JPEGInterchangeFormatLength).unwrap() as usize;
        let turned = image::load_from_memory(&tiff.buf()[start..start + length]).unwrap();
        assert_eq!(turned.dimensions(), (height, width));
        let was = image::load_from_memory(&small).unwrap().rotate90().to_rgb8();
        let difference: u64 =
            was.iter().zip(turned.to_rgb8().iter()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        assert!(difference < 6 * 3 * u64::from(width * height), "much the same: {difference}");
        assert_eq!(value(exif::Tag::Orientation), Some(1));
    }
}

#[test]
fn where_only_the_tag_lies_only_the_tag_is_changed() {
    // The sides are not whole blocks, but the photo is still not encoded again.
    let pixels = jpeg(&picture(150, 100));
    let bytes = with_exif(pixels.clone(), exif_of(6, 150, 100));

    let upright = Photo::open(&bytes).unwrap().upright(Turn::ThreeQuarters).unwrap();

    assert!(upright.lossless);
    assert_eq!(upright.bytes.len(), bytes.len());
    assert!(Photo::open(&upright.bytes).unwrap().orientation.is_upright());
    assert_eq!(coefficients_decoded(&upright.bytes), coefficients_decoded(&pixels));
}

#[test]
fn all_eight_orientations_end_in_the_same_picture() {
    let upright = DynamicImage::ImageRgb8(picture(96, 64));
    let stored = [
        (1, upright.clone()),
        (2, upright.fliph()),
        (3, upright.rotate180()),
        (4, upright.flipv()),
        (5, upright.rotate90().fliph()),
        (6, upright.rotate270()),
        (7, upright.rotate270().fliph()),
        (8, upright.rotate90()),
    ];
    for (orientation, stored) in stored {
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
        encoder.set_exif_metadata(exif_of(orientation, stored.width(), stored.height())).unwrap();
        stored.write_with_encoder(encoder).unwrap();

        let photo = Photo::open(&bytes).unwrap();
        let written = photo.upright(Turn::None).unwrap();

        assert_eq!(photo.upright_size(), (96, 64), "orientation {orientation}");
        assert_eq!(
            image::load_from_memory(&written.bytes).unwrap(),
            upright,
            "orientation {orientation}"
        );
        assert!(written.lossless && Photo::open(&written.bytes).unwrap().orientation.is_upright());
    }
}

#[test]
fn a_webp_with_jpegs_exif_header_is_understood() {
    let mut bytes = Vec::new();
    DynamicImage::ImageRgb8(picture(40, 30))
        .write_to(&mut Cursor::new(&mut bytes), ImageFormat::WebP)
        .unwrap();
    let mut webp = img_parts::webp::WebP::from_bytes(bytes.into()).unwrap();
    webp.set_exif(Some([b"Exif\0\0".as_slice(), &exif_of(8, 40, 30)].concat().into()));
    let bytes = webp.encoder().bytes().to_vec();

    let photo = Photo::open(&bytes).unwrap();

    assert_eq!((photo.format, photo.upright_size()), (Format::WebP, (30, 40)));
    let upright = photo.upright(Turn::None).unwrap();
    assert_eq!((upright.format, upright.lossless), (Format::WebP, true));
    assert_eq!(image::load_from_memory(&upright.bytes).unwrap().dimensions(), (30, 40));
}

#[test]
fn a_photo_cut_short_anywhere_is_an_answer() {
    let whole = sample("marathon/IMG_0006.jpg");
    for part in 0..40 {
        let cut = &whole[..whole.len() * part / 40];
        let answer = Photo::open(cut).and_then(|photo| photo.picture().map(|_| ()));
        let code = answer.expect_err("a part is not the whole").code();
        assert!(
            ["empty", "truncated", "corrupt", "unsupported_format"].contains(&code),
            "{part}: {code}"
        );
    }
}

#[test]
fn a_photo_with_flipped_bits_is_an_answer() {
    for name in ["marathon/IMG_0006.jpg", "gala/DSC_0002.png"] {
        let whole = sample(name);
        let mut opened = 0;
        for seed in 0..60usize {
            let mut spoilt = whole.clone();
            // Half of the flips are in the headers, where they do most harm.
            for flip in 0..8 {
                let at = seed.wrapping_mul(7919).wrapping_add(flip * 104_729)
                    % if flip % 2 == 0 { 1024 } else { whole.len() };
                spoilt[at] ^= 1 << (seed % 8);
            }
            if let Ok(photo) = Photo::open(&spoilt) {
                opened += 1;
                let _ = photo.picture();
                let _ = photo.upright(Turn::Quarter);
            }
        }
        assert!(opened > 0, "no decoder saw a spoilt {name}");
    }
}

#[test]
fn exif_that_points_at_itself_ends() {
    let mut tiff = exif_of(6, 160, 96);
    tiff[30..34].copy_from_slice(&8u32.to_le_bytes()); // the details link to the first directory
    tiff[34..38].copy_from_slice(&8u32.to_le_bytes()); // and so does the thumbnail
    let bytes = with_exif(jpeg(&picture(160, 96)), tiff);

    let upright = Photo::open(&bytes).unwrap().upright(Turn::Half).unwrap();

    assert!(Photo::open(&upright.bytes).unwrap().orientation.is_upright());
}

fn eyes() -> Eyes {
    Eyes::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")).unwrap()
}

#[test]
fn the_network_sees_which_way_is_up_from_every_side() {
    let bytes = sample("marathon/IMG_0001.jpg");
    let photo = Photo::open(&bytes).unwrap();
    let mut eyes = eyes();
    for (shown, needed) in [
        (Turn::None, Turn::None),
        (Turn::Quarter, Turn::ThreeQuarters),
        (Turn::Half, Turn::Half),
        (Turn::ThreeQuarters, Turn::Quarter),
    ] {
        let view = photo.upright(shown).unwrap();
        let picture = Photo::open(&view.bytes).unwrap().picture().unwrap();

        let rotation = eyes.rotation(&picture).unwrap();

        assert_eq!((rotation.turn, rotation.abstained), (needed, false), "{rotation:?}");
        assert_eq!(rotation.cue, Some(Cue::Network));
        assert!(rotation.confidence >= 0.95, "{rotation:?}");
    }
}

#[test]
fn where_the_network_is_unsure_faces_decide() {
    // A drawn race is unlike the photos from which the network has learnt.
    let bytes = sample("races/race-11.jpg");
    let photo = Photo::open(&bytes).unwrap();
    let view = photo.upright(Turn::Quarter).unwrap();
    let picture = Photo::open(&view.bytes).unwrap().picture().unwrap();

    let rotation = eyes().rotation(&picture).unwrap();

    assert_eq!((rotation.turn, rotation.cue), (Turn::ThreeQuarters, Some(Cue::Faces)));
}

#[test]
fn a_number_on_a_photo_that_lies_sideways_is_found_where_it_is() {
    let bytes = sample("marathon/IMG_0001.jpg");
    let mut eyes = eyes();
    let mut seen = |picture: &Picture, turn: Turn| {
        let turned = picture.turned(turn);
        let likely = eyes.likely_faces(&turned).unwrap();
        let lines = eyes.lines(&turned, &likely).unwrap();
        let lines: Vec<_> = lines.into_iter().map(|line| line.before(turn, picture)).collect();
        let bib = bibs(&lines, &StartList::default()).into_iter().next().unwrap();
        (likely[0].before(turn, picture), bib)
    };
    let upright = Photo::open(&bytes).unwrap().picture().unwrap();
    let (face, bib) = seen(&upright, Turn::None);
    for turn in [Turn::Quarter, Turn::Half, Turn::ThreeQuarters] {
        let shown = upright.turned(turn).into_owned();
        let needed =
            Turn::ALL.into_iter().find(|back| (turn.degrees() + back.degrees()) % 360 == 0);

        let (face_shown, bib_shown) = seen(&shown, needed.unwrap());

        assert_eq!(bib_shown.number, "1482");
        // Where it is on the photo that lies, seen from the photo that does not.
        let [width, height] =
            [upright.width, upright.height].map(|side| f32::from(u16::try_from(side).unwrap()));
        let there = |[x, y]: [f32; 2]| match turn {
            Turn::None => [x, y],
            Turn::Quarter => [height - y, x],
            Turn::Half => [width - x, height - y],
            Turn::ThreeQuarters => [y, width - x],
        };
        let far = |a: [f32; 2], b: [f32; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
        for (mark, mark_shown) in face.landmarks.into_iter().zip(face_shown.landmarks) {
            assert!(far(there(mark), mark_shown) < 1.0, "{turn:?}");
        }
        let middle = |bib: &Bib| [bib.x + bib.width / 2.0, bib.y + bib.height / 2.0];
        assert!(far(there(middle(&bib)), middle(&bib_shown)) < 1.0, "{turn:?}");
    }
}

#[test]
fn what_looks_the_same_from_every_side_is_left_as_it_is() {
    // Every quarter turn of these rings is the same picture, so any answer would be a guess.
    let rings = RgbImage::from_fn(320, 320, |x, y| {
        let far = |side: u32| (i64::from(side) * 2 - 319).unsigned_abs();
        Rgb([if (far(x) + far(y)) / 40 % 2 == 0 { 200 } else { 60 }; 3])
    });
    let bytes = jpeg(&rings);
    let picture = Photo::open(&bytes).unwrap().picture().unwrap();

    let rotation = eyes().rotation(&picture).unwrap();

    assert!(rotation.abstained && rotation.turn == Turn::None, "{rotation:?}");
    assert_eq!(rotation.cue, None);
}

fn sample(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples").join(name)).unwrap()
}
