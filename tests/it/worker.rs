//! Workers die, sleep and are restarted; servers too. Nothing is lost, and nothing is paid for
//! twice.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{App, Process, a_free_address, metric, program};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_photos_cost_exactly_a_thousand_credits() {
    let mut app = App::new().await;
    app.config.ahead = 128;
    let (organisation, event) = app.an_event_with(1500).await;
    app.queue(event, "ok", 1000).await;

    let workers = [app.start_worker(), app.start_worker()];
    app.until_done(event).await;

    assert_eq!(app.credits(organisation).await, (500, 0, 1000));
    for worker in workers {
        worker.drain().await;
    }
}

/// A photo that nobody rings for waits until the worker looks by itself, and that is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_sleeps_while_photos_can_be_claimed_only_if_nobody_rings() {
    for rings in [true, false] {
        let app = App::new().await;
        let app = if rings { app } else { app.without_redis() };
        let (_, event) = app.an_event_with(500).await;
        let address = a_free_address();
        let mut worker = program(&app.config);
        worker
            .args(["work", "--rehearse"])
            .env("PHOTOGATE_POLL_MILLISECONDS", "1000")
            .env("PHOTOGATE_METRICS_LISTEN", address.to_string());
        let _worker = Process::start(worker);
        let claimed = || metric(address, "photogate_claimed_photos_total").unwrap_or(0);
        for round in 1..=8 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            app.queue(event, &format!("ok/{round}"), round).await;
            let all = u64::try_from(round * (round + 1) / 2).unwrap();
            app.until("they are claimed", async || claimed() == all).await;
        }
        let late = metric(address, "photogate_claims_late_total").unwrap_or(0);
        // A pause may end by itself in the moment between the commit and the wake-up.
        assert!(if rings { late < 2 } else { late > 3 }, "{late} late, rings: {rings}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_the_middle_of_a_photo_is_replaced_and_its_photos_are_charged_once() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(50).await;
    app.queue(event, "slow-400", 12).await;
    let mut victim = app.start_process();
    app.until_in_progress(event, 4).await;

    victim.kill();
    // Nobody is left. The lease of two seconds ends, and nothing is lost and nothing moves.
    let lapsed = "SELECT count(*) FROM worker WHERE lease_until < clock_timestamp()";
    app.until("the lease has ended", async || app.count(lapsed).await == 1).await;
    assert_eq!(app.credits(organisation).await.1, 4, "the credits stay reserved");
    let _heir = app.start_process();
    app.until_done(event).await;

    assert_eq!(app.credits(organisation).await, (38, 0, 12));
    assert_eq!(app.count("SELECT count(*) FROM attempt WHERE ended = 'worker_gone'").await, 4);
    assert_eq!(app.count("SELECT count(*) FROM outcome WHERE attempt = 2").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_that_takes_its_worker_down_three_times_is_quarantined_and_spares_the_others() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(50).await;
    app.queue(event, "slow-200", 6).await;
    app.queue(event, "crash", 1).await;
    app.queue(event, "slow-200/more", 6).await;

    // As a supervisor does: whoever dies is started again.
    let worker = std::cell::RefCell::new(app.start_process());
    app.until("all photos are done", async || {
        if !worker.borrow_mut().is_running() {
            worker.replace(app.start_process());
        }
        app.queues(event).await.iter().all(|queue| queue.waiting == 0 && queue.in_progress == 0)
    })
    .await;

    assert_eq!(app.credits(organisation).await, (38, 0, 12));
    assert_eq!(
        app.count(
            "SELECT count(*) FROM outcome WHERE state = 'quarantined' AND reason = 'crashed'"
        )
        .await,
        1
    );
    assert_eq!(
        app.count(
            "SELECT count(*) FROM attempt a JOIN outcome o USING (job_id) \
             WHERE o.state = 'quarantined' AND a.ended = 'worker_gone'"
        )
        .await,
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_that_photos_trouble_alone() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(50).await;
    app.queue(event, "panic", 1).await;
    app.queue(event, "ok", 5).await;
    let worker = app.start_worker();

    app.until_done(event).await;

    assert_eq!(app.credits(organisation).await, (45, 0, 5));
    assert_eq!(app.count("SELECT count(*) FROM worker").await, 1, "the worker lived on");
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_runs_and_loses_nothing() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(50).await;
    app.queue(event, "slow-300", 12).await;
    let mut process = app.start_process();
    app.until_in_progress(event, 4).await;

    process.signal(Signal::SIGTERM);
    assert!(process.wait().success());

    let queue = app.processing(event).await;
    assert!(
        queue.processed >= 2 && queue.waiting > 0,
        "what ran was finished, and no more was claimed: {queue:?}"
    );
    assert_eq!(
        app.count("SELECT count(*) FROM in_flight WHERE worker_id <> 0").await,
        0,
        "nothing is left in its hands"
    );
    assert_eq!(app.count("SELECT count(*) FROM worker WHERE gone_at IS NULL").await, 0);
    let _next = app.start_process();
    app.until_done(event).await;
    assert_eq!(app.credits(organisation).await, (38, 0, 12));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_hands_everything_back_at_once() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(50).await;
    app.queue(event, "slow-30000", 4).await;
    let mut process = app.start_process();
    app.until_in_progress(event, 4).await;

    process.signal(Signal::SIGTERM);
    tokio::time::sleep(Duration::from_millis(200)).await;
    process.signal(Signal::SIGTERM);
    assert!(process.wait().success());

    assert_eq!(
        app.count("SELECT count(*) FROM in_flight WHERE worker_id = 0 AND crashes = 0").await,
        4
    );
    assert_eq!(app.count("SELECT count(*) FROM attempt WHERE ended = 'handed_back'").await, 4);
    assert_eq!(app.credits(organisation).await, (46, 4, 0), "under the same reservations");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_slept_past_its_lease_is_refused_and_begins_anew() {
    let mut app = App::new().await;
    app.config.lease_seconds = 1;
    let (organisation, event) = app.an_event_with(50).await;
    app.queue(event, "slow-1500", 4).await;
    let sleeper = app.start_process();
    app.until_in_progress(event, 4).await;

    sleeper.signal(Signal::SIGSTOP);
    let _other = app.start_process();
    app.until("the sleeper is declared dead", async || {
        app.count("SELECT count(*) FROM worker WHERE gone_at IS NOT NULL").await == 1
    })
    .await;
    sleeper.signal(Signal::SIGCONT);
    app.until_done(event).await;
    app.queue(event, "ok", 3).await;
    app.until_done(event).await;

    assert_eq!(app.credits(organisation).await, (43, 0, 7));
    app.until("the sleeper has begun anew", async || {
        app.count("SELECT count(*) FROM worker").await >= 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_flushed_and_stopped_in_the_middle_loses_nothing() {
    let (app, mut services) = App::with_services("redis-stops").await;
    let (organisation, event) = app.an_event_with(100).await;
    app.queue(event, "slow-20", 30).await;
    let worker = app.start_worker();
    app.until_processed_more_than(event, 3).await;

    let client = redis::Client::open(services.redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();
    app.until_processed_more_than(event, 8).await;
    services.redis.stop();
    app.until_done(event).await;
    app.queue(event, "slow-20/without-redis", 5).await;
    app.until_done(event).await;
    services.redis.resume().await.unwrap();
    app.queue(event, "slow-20/with-redis", 5).await;
    app.until_done(event).await;

    assert_eq!(app.credits(organisation).await, (60, 0, 40));
    worker.drain().await;
    drop(app);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_starts_without_redis_works() {
    let mut app = App::new().await;
    app.config.redis_url = Some("redis://127.0.0.1:1".into());
    let (organisation, event) = app.an_event_with(5).await;
    app.queue(event, "ok", 3).await;

    let worker = app.start_worker();
    app.until_done(event).await;

    assert_eq!(app.credits(organisation).await, (2, 0, 3));
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_restarted_in_the_middle_loses_nothing() {
    let (app, mut services) = App::with_services("postgres-restarts").await;
    let (organisation, event) = app.an_event_with(100).await;
    app.queue(event, "slow-50", 60).await;
    let worker = app.start_worker();

    for _ in 0..2 {
        let before = app.processing(event).await.processed;
        app.until_processed_more_than(event, before + 5).await;
        services.postgres.pull_the_plug().unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        services.postgres.resume().await.unwrap();
        app.until("the pool has found it again", async || {
            sqlx::query("SELECT 1").execute(&app.pool).await.is_ok()
        })
        .await;
    }
    app.until_done(event).await;

    assert_eq!(app.credits(organisation).await, (40, 0, 60));
    worker.drain().await;
    drop(app);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_lose_nothing() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(300).await;
    app.queue(event, "slow-5", 200).await;
    let _processes = [app.start_process(), app.start_process()];
    let owner = tokio::sync::Mutex::new(app.as_owner().await);
    let cut = std::cell::Cell::new(0);
    app.until("most are done", async || {
        let gone = sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name = 'photogate'
             AND pid <> pg_backend_pid() AND query ~ 'claim|settle|adopt|heartbeat' \
                 ORDER BY random() LIMIT 1",
        )
        .fetch_all(&mut *owner.lock().await)
        .await
        .unwrap();
        cut.set(cut.get() + gone.len());
        app.processing(event).await.processed >= 150
    })
    .await;
    app.until_done(event).await;

    assert_eq!(app.credits(organisation).await, (100, 0, 200));
    assert!(cut.get() > 0, "connections were cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_trouble_keeps_its_reservation_and_comes_back() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    // Giving up is the business of the real work: see photos.rs.
    app.queue(event, "retry", 1).await;
    let worker = app.start_worker();

    app.until("it was tried three times", async || {
        app.count("SELECT count(*) FROM attempt WHERE ended = 'retry'").await >= 3
    })
    .await;

    assert_eq!(app.credits(organisation).await, (4, 1, 0));
    let queue = app.processing(event).await;
    assert_eq!((queue.in_progress, queue.waiting, queue.failed), (1, 0, 0), "{queue:?}");
    worker.drain().await;
}
