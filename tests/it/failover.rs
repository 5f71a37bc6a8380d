//! A failover is not a restart: a standby has started long before it is promoted, and it may not
//! have what was acknowledged last.

use photogate::{
    ledger::reconcile::{self, Scope},
    queue::claim,
};

use crate::support::App;

#[tokio::test(flavor = "multi_thread")]
async fn a_living_worker_keeps_its_photos_when_a_standby_is_promoted() {
    let (app, mut services) = App::with_services("failover").await;
    services.postgres.stand_by().await.unwrap();
    let (organisation, event) = app.an_event_with(20).await;
    app.queue(event, "slow-8000", 4).await;
    let worker = app.start_worker();
    app.until_in_progress(event, 4).await;
    // Somebody else who would adopt.
    let other = app.start_worker();
    // For longer than a lease.
    services.postgres.pull_the_plug().unwrap();
    tokio::time::sleep(app.config.lease() * 2).await;
    services.postgres.promote().unwrap();
    // A drill of a million photos has sixty failovers, and filled a disk of 40 GB.
    let of_servers = std::fs::read_dir(services.place()).unwrap().flatten();
    let of_servers = of_servers.filter(|entry| entry.path().join("PG_VERSION").exists());
    assert_eq!(of_servers.count(), 1, "the data of the server that was lost is deleted");

    app.until_done(event).await;
    worker.drain().await;
    other.drain().await;

    let crashes = "SELECT count(*) FROM attempt WHERE ended IN ('worker_gone', 'crash')";
    assert_eq!(app.count(crashes).await, 0);
    assert_eq!(app.credits(organisation).await, (16, 0, 4));
    // It looks at the books, so it ends before the server does.
    drop(app);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_that_the_standby_did_not_have_comes_back_by_itself() {
    let (app, mut services) = App::with_services("failover-lost").await;
    services.postgres.stand_by().await.unwrap();
    let (organisation, event) = app.an_event_with(20).await;
    app.queue(event, "slow-1500", 2).await;
    let worker = app.start_worker();
    app.until("the standby has the claim", async || {
        let sent =
            "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()";
        app.processing(event).await.in_progress > 0 && app.count(sent).await == 1
    })
    .await;
    services.postgres.cut_the_stream().await.unwrap();
    app.until_done(event).await;
    assert_eq!(app.credits(organisation).await, (18, 0, 2));
    services.postgres.fail_over().unwrap();

    app.until("the settlements are lost", async || {
        app.count("SELECT count(*) FROM outcome").await < 2
    })
    .await;
    app.until_done(event).await;
    worker.drain().await;

    assert_eq!(app.credits(organisation).await, (18, 0, 2));
    let crashes = "SELECT count(*) FROM attempt WHERE ended IN ('worker_gone', 'crash')";
    assert_eq!(app.count(crashes).await, 0);
    let checks = reconcile::reconcile(&mut *app.db().await, Scope::Full).await.unwrap();
    assert!(checks.iter().all(|check| check.violations == 0), "{checks:?}");
    drop(app);
}

/// Who was away itself does not declare others dead: they had no time to extend their leases.
#[tokio::test]
async fn a_worker_whose_own_heartbeats_had_a_gap_declares_nobody_dead() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 1).await;
    let (silent, heir) = (app.a_worker().await, app.a_worker().await);
    let claimed = silent.claim_one().await;
    app.let_the_lease_run_out(silent.me.worker).await;
    // As after an outage of the database: the heir's lease has nearly run out as well.
    app.owner_runs(
        "UPDATE photogate.worker SET lease_until = clock_timestamp() + interval '1 s'
         WHERE lease_until > clock_timestamp()",
    )
    .await;
    let beat = "SELECT heartbeat($1, '5 min')";
    sqlx::query(beat).bind(heir.me.key()).execute(&mut *app.db().await).await.unwrap();

    assert!(heir.adopt(9).await.is_empty(), "the silent worker gets time");
    sqlx::query(beat).bind(silent.me.key()).execute(&mut *app.db().await).await.unwrap();
    assert!(silent.succeed(claimed).await);
    assert_eq!(app.count("SELECT count(*) FROM worker WHERE gone_at IS NOT NULL").await, 0);
}

#[tokio::test]
async fn what_a_worker_does_not_know_of_is_handed_back_unless_it_is_gone() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(2).await;
    app.queue(event, "ok", 2).await;
    let hand = app.a_worker().await;
    let claimed = hand.claim(2).await;

    let mut db = app.db().await;
    let known = [claimed[0].job().0];
    assert_eq!(claim::hand_back_unknown(&mut db, hand.me, &known).await.unwrap(), 1);
    claim::retire(&mut db, hand.me).await.unwrap();
    assert_eq!(claim::hand_back_unknown(&mut db, hand.me, &[]).await.unwrap(), 0);
    assert_eq!(app.count("SELECT count(*) FROM in_flight WHERE worker_id = 0").await, 2);
}
