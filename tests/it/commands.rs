//! What a command promises, whoever asks for it.

use photogate::{
    access::Caller,
    commands::{Commands, EventChange},
    notify::wake::Wake,
};

use crate::support::App;

/// Somebody switches face search on while another, who read that it is off, switches it off: the
/// later change counts.
#[tokio::test(flavor = "multi_thread")]
async fn switching_face_search_off_counts_although_it_was_off_when_it_was_read() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(0).await;
    let mut other = app.as_owner().await;
    sqlx::raw_sql("BEGIN; UPDATE event SET face_search = false").execute(&mut other).await.unwrap();

    let commands = Commands::new(app.pool.clone(), Wake::silent());
    let switching = tokio::spawn(async move {
        let off = EventChange { face_search: Some(false), ..EventChange::default() };
        commands.change_event(&Caller::trusted("anna"), event, &off).await
    });
    app.until_somebody_waits_for_a_lock().await;
    sqlx::raw_sql(
        "UPDATE event SET face_search = true, face_consent_by = 'anna', \
         face_consent_at = now(); COMMIT",
    )
    .execute(&mut other)
    .await
    .unwrap();

    let (changed, _) = switching.await.unwrap().unwrap();
    assert!(!changed.face_search);
    assert_eq!(app.count("SELECT count(*) FROM event WHERE face_search").await, 0);
}

#[tokio::test]
async fn settings_are_changed_together_or_not_at_all() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(0).await;
    let commands = Commands::new(app.pool.clone(), Wake::silent());
    let anna = Caller::trusted("anna");
    let off = EventChange { face_search: Some(false), ..EventChange::default() };
    commands.change_event(&anna, event, &off).await.unwrap();
    // The embeddings of before are still being deleted: face search cannot be switched on yet.
    app.owner_runs("UPDATE event SET forgets = 'embeddings'").await;

    let all = EventChange {
        name: Some("Another".into()),
        face_search: Some(true),
        face_consent: true,
        start_list: Some(b"1\n2\n".to_vec()),
        ..EventChange::default()
    };
    let refused = commands.change_event(&anna, event, &all).await.unwrap_err();

    assert!(refused.to_string().contains("still being deleted"), "{refused}");
    assert_eq!(app.count("SELECT count(*) FROM start_list").await, 0);
    assert_eq!(app.count("SELECT count(*) FROM event WHERE name = 'Another'").await, 0);
    assert_eq!(app.count("SELECT count(*) FROM audit_log").await, 1, "only what was done");
    app.owner_runs("UPDATE event SET forgets = NULL").await;
    commands.change_event(&anna, event, &all).await.unwrap();
    assert_eq!(app.count("SELECT cardinality(numbers)::bigint FROM start_list").await, 2);
}
