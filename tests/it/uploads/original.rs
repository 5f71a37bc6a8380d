//! The whole photo, as it is in the store: for whom it is, and what is never sent as one.

use std::fs;

use reqwest::StatusCode;

use super::{Stage, a_stage_with};
use crate::support::site::Visitor;

/// A photo of the event with this key.
async fn catalog_photo(stage: &Stage, key: &str) -> uuid::Uuid {
    let photo = "INSERT INTO photogate.photo (photo_id, event_id, key)
                 VALUES (gen_random_uuid(), $1, $2) RETURNING photo_id";
    sqlx::query_scalar(photo)
        .bind(stage.event.0)
        .bind(key)
        .fetch_one(&mut stage.app.as_owner().await)
        .await
        .unwrap()
}

/// The whole photo is there for those who see its event, as it is in the store; and nothing that is
/// no photo is sent from this site, whatever is in the store.
#[tokio::test(flavor = "multi_thread")]
async fn the_whole_photo_is_shown_to_those_who_see_its_event_and_nothing_else_is() {
    let stage = a_stage_with(|_| ()).await;
    let odd = "Zie\"l \u{202e}Köln.jpg";
    fs::create_dir(stage.directory()).unwrap();
    let keys = [odd, "evil.jpg", "empty.jpg", "gone.jpg"]
        .map(|name| format!("event_{}/{name}", stage.event));
    let photo = stage.photo("IMG_0001.jpg");
    fs::write(stage.store.join(&keys[0]), &photo).unwrap();
    fs::write(stage.store.join(&keys[1]), "<script>alert(1)</script>").unwrap();
    fs::write(stage.store.join(&keys[2]), "").unwrap();
    let mut paths = Vec::new();
    for key in &keys {
        let id = catalog_photo(&stage, key).await;
        paths.push(format!("/photos/{id}/original"));
    }
    let anna = Visitor::logged_in(&stage.site, "anna@club.example").await;
    let eve = Visitor::logged_in(&stage.site, "eve@other.example").await;

    let answer = anna.client.get(stage.site.url(&paths[0])).send().await.unwrap();
    let head = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((answer.status(), head("content-type").as_str()), (StatusCode::OK, "image/jpeg"));
    assert_eq!(head("x-content-type-options"), "nosniff");
    assert!(head("cache-control").contains("private"));
    let name = "inline; filename=\"Ziel Kln.jpg\"; filename*=UTF-8''Zie%22l%20%E2%80%AEK";
    assert!(head("content-disposition").starts_with(name), "{}", head("content-disposition"));
    assert_eq!(answer.bytes().await.unwrap(), photo);
    for path in &paths[1..] {
        assert_eq!(anna.get(&stage.site, path).await, 404, "{path}");
    }
    for path in &paths {
        assert_eq!(eve.get(&stage.site, path).await, 404, "of another organisation");
        assert_eq!(Visitor::stranger().get(&stage.site, path).await, 303, "nobody is logged in");
    }
}

/// Whoever opens whole photos and does not read them takes the places of their own organisation.
#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_of_whole_photos_keep_nobody_else_waiting() {
    let stage = a_stage_with(|_| ()).await;
    let key = format!("event_{}/large.jpg", stage.event);
    let mut large = stage.photo("IMG_0001.jpg");
    large.resize(64 << 20, 0);
    fs::create_dir(stage.directory()).unwrap();
    fs::write(stage.store.join(&key), large).unwrap();
    let photo = catalog_photo(&stage, &key).await;
    let anna = Visitor::logged_in(&stage.site, "anna@club.example").await;
    let eve = Visitor::logged_in(&stage.site, "eve@other.example").await;
    let mut open = Vec::new();
    loop {
        let path = stage.site.url(&format!("/photos/{photo}/original"));
        let answer = anna.client.get(path).send().await.unwrap();
        if answer.status() != StatusCode::OK {
            assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
            break;
        }
        open.push(answer);
        assert!(open.len() <= 8, "they have only so many places");
    }

    assert_eq!(eve.get(&stage.site, "/events").await, 200);
    drop(open);
    stage
        .app
        .until("the places are free", async || anna.get(&stage.site, "/events").await == 200)
        .await;
}
