//! Photos are looked at behind a wall: whatever happens to a photo, happens to that photo.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use img_parts::png::{Png, PngChunk};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use photogate::{
    catalog::search::{self, SelfieError},
    config::Config,
    ids::{Operation, OrganisationId},
    sandbox::Pool,
};

use rand::{Rng, SeedableRng};

use crate::{
    photos::{PROGRAM, samples, work_on},
    support::{App, place, root},
};

const SOMEBODY: OrganisationId = OrganisationId(1);

/// The models in a place of their own, by which the processes of one test are told from all others.
fn models(name: &str) -> PathBuf {
    let link = place(name);
    // From the run before.
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(root().join("models"), &link).unwrap();
    link
}

/// Which processes look at photos with these models, and what the kernel says of each.
fn lookers(models: &Path) -> Vec<(Pid, String)> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let command = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            let ours = command.contains("--look\0") && command.contains(models.to_str()?);
            let status = fs::read_to_string(entry.path().join("status")).ok().filter(|_| ours)?;
            Some((Pid::from_raw(pid), status))
        })
        .collect()
}

fn pids(models: &Path) -> Vec<Pid> {
    lookers(models).into_iter().map(|(pid, _)| pid).collect()
}

/// Children that look at photos, one for each slot.
async fn a_pool(config: &Config) -> Pool {
    Pool::open(Path::new(PROGRAM), config).await.unwrap()
}

/// A photo of the samples.
fn sample(name: &str) -> Vec<u8> {
    fs::read(root().join("samples").join(name)).unwrap()
}

/// CPU of a process since it started, in hundredths of a second.
fn cpu(pid: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit(") ").next().unwrap_or_default();
    after.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_at_photos_is_locked_in() {
    let config = Config { models_dir: models("locked-in"), slots: 2, ..Config::default() };
    let pool = a_pool(&config).await;

    let lookers = lookers(&config.models_dir);

    assert_eq!(lookers.len(), 2, "one for each slot, warm");
    for (pid, status) in lookers {
        assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"), "{status}");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let memory = limits.lines().find(|line| line.starts_with("Max data size")).unwrap();
        assert!(memory.contains(&(1536u64 << 20).to_string()), "{memory}");
        let files = limits.lines().find(|line| line.starts_with("Max file size")).unwrap();
        assert_eq!(files.split_whitespace().nth(3), Some("0"), "{files}");
        assert!(!status.contains("Uid:\t0"), "nobody, also if the worker is root: {status}");
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert_eq!(environment, b"ORT_DISABLE_TELEMETRY=1\0", "no secret of ours");
        // Found: a database of ONNX Runtime, which the next child read.
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let open: Vec<_> = open.filter_map(|fd| fs::read_link(fd.path()).ok()).collect();
        let pipes = open.iter().filter(|what| what.to_string_lossy().starts_with("pipe:"));
        assert_eq!((open.len(), pipes.count()), (3, 3), "only its pipes: {open:?}");
    }
    drop(pool);
}

/// A photo may take over who looks at it: they see no photo of anybody else.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_seen_a_photo_of_one_organisation_sees_none_of_another() {
    let models = models("one-organisation");
    let config =
        Config { slots: 1, idle_children: 1, models_dir: models.clone(), ..Config::default() };
    let pool = Pool::open(Path::new(PROGRAM), &config).await.unwrap();
    let look = async |pool: &Pool, organisation| {
        let selfie = sample("gala/DSC_0001.jpg");
        search::selfie(pool, OrganisationId(organisation), selfie).await.unwrap();
        // Whoever was replaced may take a moment to end.
        pids(&models).into_iter().max().unwrap()
    };
    let mut seen_by = Vec::new();
    for organisation in [1, 1, 2, 2, 1] {
        seen_by.push(look(&pool, organisation).await);
    }

    let changes: Vec<_> = seen_by.windows(2).map(|two| two[0] != two[1]).collect();
    assert_eq!(changes, [false, true, false, true], "{seen_by:?}");

    // If there is room, they wait for the next photo of their organisation.
    drop(pool);
    let pool =
        Pool::open(Path::new(PROGRAM), &Config { idle_children: 2, ..config }).await.unwrap();
    let mut newest = Vec::new();
    for organisation in [1, 2, 1, 2] {
        newest.push(look(&pool, organisation).await);
    }
    assert!(
        newest[0] != newest[1] && newest[1..].iter().all(|pid| *pid == newest[1]),
        "{newest:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_that_kills_who_looks_at_it_is_quarantined_and_refunded_and_the_worker_goes_on() {
    let mut app = App::new().await;
    samples(&app);
    app.config.models_dir = models("killed");
    app.config.slots = 1;
    let (organisation, event) = app.an_event_with(10).await;
    let hostile = Arc::new(AtomicBool::new(true));
    // Kills whoever looks at a photo: what a bug in a decoder would do to them.
    let killer = {
        let (models, hostile) = (app.config.models_dir.clone(), hostile.clone());
        std::thread::spawn(move || {
            // Whoever is locked in and has computed since, looks at a photo: saying that it is
            // ready takes nothing.
            let mut ready = HashMap::new();
            while hostile.load(Ordering::Relaxed) {
                for (pid, status) in lookers(&models) {
                    if status.contains("Seccomp:\t2") {
                        let used = cpu(pid);
                        if used >= *ready.entry(pid).or_insert(used) + 2 {
                            let _ = kill(pid, Signal::SIGKILL);
                        }
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    };

    let found = work_on(&app, event, Operation::PhotoProcessing, &["marathon/IMG_0003.jpg"]).await;

    assert_eq!(found[0].reason.as_deref(), Some("crashed"));
    assert!(app.count("SELECT count(*) FROM attempt WHERE ended = 'crash'").await >= 2);
    assert_eq!(app.credits(organisation).await, (10, 0, 0), "refunded");
    hostile.store(false, Ordering::Relaxed);
    killer.join().unwrap();
    let found = work_on(&app, event, Operation::PhotoProcessing, &["marathon/IMG_0001.jpg"]).await;
    let after = found.iter().find(|found| found.key.ends_with("1.jpg")).unwrap();
    assert_eq!((after.reason.as_deref(), after.faces), (None, 1));
    assert_eq!(app.credits(organisation).await, (9, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_answer_in_time_is_killed_and_replaced() {
    let config =
        Config { models_dir: models("frozen"), slots: 1, photo_seconds: 2, ..Config::default() };
    let pool = a_pool(&config).await;
    let [(frozen, _)] = lookers(&config.models_dir)[..] else { panic!("one slot") };
    kill(frozen, Signal::SIGSTOP).unwrap();

    let answer = search::selfie(&pool, SOMEBODY, sample("gala/DSC_0001.jpg")).await;

    assert!(
        matches!(&answer, Err(SelfieError::Crashed(why)) if why.contains("longer than 2 s")),
        "{answer:?}"
    );
    let again = search::selfie(&pool, SOMEBODY, sample("gala/DSC_0001.jpg")).await;
    assert!(again.is_ok(), "another one looks: {:?}", again.err());
    let now = pids(&config.models_dir);
    assert!(now.len() == 1 && now[0] != frozen, "the frozen one is gone: {frozen}, {now:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_memory_than_is_allowed_ends_one_process_and_nothing_else() {
    let config = Config {
        models_dir: models("memory"),
        slots: 1,
        photo_memory_megabytes: 512,
        ..Config::default()
    };
    let pool = a_pool(&config).await;
    // 110 megapixels of 4 bytes, in a file of 100 KB.
    let mut large = Vec::new();
    image::RgbaImage::new(11_000, 10_000)
        .write_to(&mut std::io::Cursor::new(&mut large), image::ImageFormat::Png)
        .unwrap();

    let answer = search::selfie(&pool, SOMEBODY, large).await;

    match &answer {
        Err(SelfieError::Crashed(_)) => {}
        Err(SelfieError::Photo(error)) => assert_eq!(error.code(), "too_much_memory"),
        other => panic!("{:?}", other.as_ref().map(|_| "looked at")),
    }
    let next = search::selfie(&pool, SOMEBODY, sample("gala/DSC_0001.jpg")).await;
    assert!(next.is_ok(), "the next photo is looked at: {:?}", next.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_photos_get_an_answer_and_break_nobody() {
    let config = Config { models_dir: models("broken"), slots: 2, ..Config::default() };
    let pool = a_pool(&config).await;
    let before = pids(&config.models_dir);
    let whole = ["gala/DSC_0001.jpg", "gala/DSC_0002.png"].map(sample);
    let mut webp = Vec::new();
    image::load_from_memory(&whole[0])
        .unwrap()
        .thumbnail(200, 200)
        .to_rgb8()
        .write_to(&mut std::io::Cursor::new(&mut webp), image::ImageFormat::WebP)
        .unwrap();
    // The same ones each time.
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    let mut answered = 0;
    for photo in whole.iter().chain([&webp]) {
        for number in 0..60 {
            let mut broken = photo.clone();
            let mut below = |most: usize| random.random_range(0..most.max(1));
            if number % 3 == 0 {
                broken.truncate(below(photo.len()));
            }
            for _ in 0..number {
                if !broken.is_empty() {
                    // Mostly in the head, where the lengths are.
                    let near = if below(2) == 0 { broken.len().min(1024) } else { broken.len() };
                    let at = below(near);
                    broken[at] = u8::try_from(below(256)).unwrap();
                }
            }

            let answer = search::selfie(&pool, SOMEBODY, broken).await;

            assert!(
                !matches!(&answer, Err(SelfieError::Crashed(_) | SelfieError::Pool(_))),
                "{number}: {:?}",
                answer.map(|_| "looked at")
            );
            answered += 1;
        }
    }
    assert_eq!(answered, 180);
    let after = pids(&config.models_dir);
    assert_eq!(after, before, "nobody was replaced");
}

/// Bytes at a place are these.
fn with(photo: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut changed = photo.to_vec();
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    changed
}

/// Says that it is 65,500 pixels wide and high. With the right checksum: a wrong one would be
/// refused before its size is.
fn a_huge_png(photo: Vec<u8>) -> Vec<u8> {
    let mut png = Png::from_bytes(photo.into()).unwrap();
    let header = &mut png.chunks_mut()[0];
    let size = [0, 0, 0xFF, 0xDC, 0, 0, 0xFF, 0xDC];
    *header = PngChunk::new(header.kind(), with(header.contents(), 0, &size).into());
    png.encoder().bytes().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_and_what_is_no_photo_are_refused_with_a_code_and_take_no_memory() {
    let config = Config { models_dir: models("bombs"), slots: 1, ..Config::default() };
    let pool = a_pool(&config).await;
    let before = pids(&config.models_dir);
    let [jpeg, png] = ["gala/DSC_0001.jpg", "gala/DSC_0002.png"].map(sample);
    let frame = jpeg.windows(2).position(|two| matches!(two, [0xFF, 0xC0..=0xC2])).unwrap();
    let huge = [0xFF, 0xDC, 0xFF, 0xDC];
    let scan = jpeg.windows(2).position(|two| two == [0xFF, 0xDA]).unwrap();
    let mut scans = jpeg[..scan].to_vec();
    for _ in 0..5000 {
        scans.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 0]);
    }
    let mut looping = b"II*\0\x08\0\0\0\x01\0\x00\x01\x03\0\x01\0\0\0\x05\0\0\0".to_vec();
    looping.extend(8u32.to_le_bytes());
    let webp = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\0\0\0\0";
    let none = "unsupported_format";
    let hostile = [
        ("a JPEG of 4,289 megapixels", "too_many_pixels", with(&jpeg, frame + 5, &huge)),
        ("a JPEG of 5,000 scans", "too_many_scans", scans),
        ("a PNG of 4,289 megapixels", "too_many_pixels", a_huge_png(png)),
        (
            "a GIF of 4,295 megapixels",
            "too_many_pixels",
            [
                &b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff"[..],
                b",\0\0\0\0\xff\xff\xff\xff\0\x02\x01\0\0;",
            ]
            .concat(),
        ),
        ("a WebP of 281 terapixels", "corrupt", webp.to_vec()),
        ("a TIFF that points at itself", "corrupt", looping),
        ("nothing", "empty", Vec::new()),
        ("a letter", none, b"x".to_vec()),
        ("a page", none, b"<!doctype html><img src=x onerror=alert(1)>".to_vec()),
        ("an archive", none, [&b"PK\x03\x04"[..], &[0; 4000]].concat()),
        ("a HEIC", none, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec()),
        ("zeros", none, vec![0; 1 << 20]),
    ];
    for (name, code, photo) in hostile {
        let answer = search::selfie(&pool, SOMEBODY, photo).await;

        let Err(SelfieError::Photo(error)) = answer else {
            panic!("{name}: {:?}", answer.map(|_| "looked at"));
        };
        assert_eq!(error.code(), code, "{name}: {error}");
    }
    let after = pids(&config.models_dir);
    assert_eq!(after, before, "nobody was replaced");
    let status = fs::read_to_string(format!("/proc/{}/status", after[0])).unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let most: u64 = most.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(most < 256 << 10, "{most} kB, models included");
}
