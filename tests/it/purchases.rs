//! Purchases above an organisation's limit of the month: they wait for staff, and are charged once.

use futures::future::join_all;
use photogate::{access::Role, catalog::organisations, ids::OrganisationId};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    App,
    site::{Site, Visitor, answered},
};

/// An organisation that buys up to 10 credits a month by itself.
struct Shop {
    app: App,
    site: Site,
    organisation: OrganisationId,
    buyer: String,
    staff: String,
}

impl Shop {
    async fn open() -> Self {
        let app = App::new().await;
        let organisation = app.an_organisation_with(0).await;
        let site = Site::of(&app).await;
        let buyer = app.a_token(Role::Organiser, Some(organisation)).await;
        let staff = app.a_token(Role::Staff, None).await;
        let limit = json!({ "purchase_limit": 10 });
        let path = format!("/v1/organisations/{organisation}");
        let request = site.ask(Method::PATCH, &path, &staff).json(&limit);
        assert_eq!(answered(request).await.1["purchase_limit"], 10);
        Self { app, site, organisation, buyer, staff }
    }

    async fn buy(&self, credits: i64, key: &str) -> (StatusCode, Value) {
        let path = format!("/v1/organisations/{}/purchases", self.organisation);
        let request = self.site.ask(Method::POST, &path, &self.buyer);
        let body = json!({ "credits": credits, "note": "for the marathon" });
        answered(request.header("Idempotency-Key", key).json(&body)).await
    }

    /// Asks for more than the limit, and returns the number of the request.
    async fn ask(&self, key: &str) -> i64 {
        let (status, request) = self.buy(100, key).await;
        assert_eq!((status.as_u16(), &request["state"]), (202, &json!("pending")), "{request}");
        request["id"].as_i64().unwrap()
    }

    async fn decide(&self, request: i64, how: &str, token: &str) -> (u16, Value) {
        let path = format!("/v1/purchase-requests/{request}/{how}");
        let (status, answer) = answered(self.site.ask(Method::POST, &path, token)).await;
        (status.as_u16(), answer)
    }

    async fn audited(&self, action: &str) -> i64 {
        let (_, log) = self.site.get("/v1/audit-log?limit=200", &self.staff).await;
        let entries = log["items"].as_array().unwrap().iter();
        i64::try_from(entries.filter(|entry| entry["action"] == action).count()).unwrap()
    }
}

/// Found: an organiser bought 1,000,000,000 credits, twice.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_above_the_limit_waits_and_is_charged_once() {
    let shop = Shop::open().await;
    assert_eq!(shop.buy(10, "within").await.0, StatusCode::CREATED);

    let id = shop.ask("above").await;

    assert_eq!(shop.ask("above").await, id, "the same purchase again is the same request");
    assert_eq!(shop.buy(99, "above").await.1["code"], "idempotency_key_reused");
    assert_eq!(shop.app.credits(shop.organisation).await, (10, 0, 0));
    assert_eq!(shop.buy(10, "within").await.0, StatusCode::OK, "it was within when it was made");
    assert_eq!(shop.decide(id, "approve", &shop.buyer).await.0, 403);

    let approvals = (0..4).map(|_| shop.decide(id, "approve", &shop.staff));
    for (status, request) in join_all(approvals).await {
        assert_eq!((status, &request["state"]), (200, &json!("approved")), "{request}");
    }

    assert_eq!(shop.app.credits(shop.organisation).await, (110, 0, 0));
    assert_eq!(shop.buy(100, "above").await.1["state"], "approved", "it buys nothing more");
    assert_eq!(shop.decide(id, "refuse", &shop.staff).await.1["code"], "purchase_decided");
    assert_eq!(shop.app.credits(shop.organisation).await, (110, 0, 0));
    let entries = ["purchase.ask", "purchase.approve", "purchase.refuse", "credits.top_up"];
    let mut counts = Vec::new();
    for action in entries {
        counts.push(shop.audited(action).await);
    }
    assert_eq!(counts, [1, 1, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_purchases_at_the_same_time_do_not_both_fit_below_the_limit() {
    let shop = Shop::open().await;

    let (one, two) = tokio::join!(shop.buy(6, "one"), shop.buy(6, "two"));

    let mut statuses = [one.0.as_u16(), two.0.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 202]);
    assert_eq!(shop.app.credits(shop.organisation).await, (6, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_and_a_refusal_at_the_same_time_are_one_decision() {
    let shop = Shop::open().await;
    for n in 0..10 {
        let id = shop.ask(&format!("purchase {n}")).await;

        let (approved, refused) = tokio::join!(
            shop.decide(id, "approve", &shop.staff),
            shop.decide(id, "refuse", &shop.buyer)
        );

        let mut statuses = [approved.0, refused.0];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "{} {}", approved.1, refused.1);
    }
    let approved = shop.audited("purchase.approve").await;
    assert_eq!(shop.audited("purchase.refuse").await, 10 - approved);
    assert_eq!(shop.app.credits(shop.organisation).await.0, 100 * approved);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_decides_expires() {
    let shop = Shop::open().await;
    let id = shop.ask("above").await;
    shop.app.owner_runs("UPDATE photogate.purchase_request SET expires_at = now()").await;
    let (status, late) = shop.decide(id, "approve", &shop.staff).await;
    assert_eq!((status, &late["code"]), (409, &json!("purchase_decided")), "it is over by then");

    let worker = shop.app.start_worker();
    let expired = "SELECT count(*) FROM purchase_request WHERE state = 'expired'";
    shop.app.until("it is expired", async || shop.app.count(expired).await == 1).await;
    worker.drain().await;

    assert_eq!(shop.buy(100, "above").await.1["decided_by"], "System");
    assert_eq!(shop.audited("purchase.expire").await, 1);
    assert_eq!(shop.app.credits(shop.organisation).await, (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_at_the_price_that_the_buyer_saw_or_fails() {
    let shop = Shop::open().await;
    let id = shop.ask("above").await;
    let dearer = "0.09 EUR".parse().unwrap();
    let db = &mut *shop.app.db().await;
    organisations::set_price(db, shop.organisation, Some(&dearer)).await.unwrap();

    let (status, no) = shop.decide(id, "approve", &shop.staff).await;

    assert_eq!((status, &no["code"]), (409, &json!("purchase_changed")), "{no}");
    assert_eq!(shop.app.credits(shop.organisation).await, (0, 0, 0));
    assert_eq!(shop.decide(id, "refuse", &shop.staff).await.1["state"], "refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_organisation_sees_and_decides_no_request() {
    let shop = Shop::open().await;
    let id = shop.ask("above").await;
    let elsewhere = shop.app.an_organisation_with(0).await;
    let eve = shop.app.a_token(Role::Organiser, Some(elsewhere)).await;

    assert_eq!(shop.decide(id, "refuse", &eve).await.0, 404);
    let (_, seen) = shop.site.get("/v1/purchase-requests", &eve).await;
    assert_eq!(seen["items"], json!([]));
    let asked = format!("/v1/purchase-requests?organisation={}", shop.organisation);
    assert_eq!(shop.site.get(&asked, &eve).await.0, 404);
    assert_eq!(shop.site.get(&asked, &shop.buyer).await.1["items"][0]["id"], id);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_requests_wait_and_no_more() {
    let shop = Shop::open().await;
    for n in 0..10 {
        shop.ask(&n.to_string()).await;
    }

    let (status, no) = shop.buy(100, "eleven").await;

    assert_eq!((status.as_u16(), &no["code"]), (409, &json!("limit_reached")));
    assert_eq!(shop.buy(1, "small").await.0, StatusCode::CREATED, "what is within goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_ask_and_approve_on_pages() {
    let shop = Shop::open().await;
    let (app, site) = (&shop.app, &shop.site);
    app.a_person("anna@club.example", Role::Organiser, Some(shop.organisation)).await;
    app.a_person("staff@photogate.example", Role::Staff, None).await;
    let anna = Visitor::logged_in(site, "anna@club.example").await;
    let page = anna.text(site, "/credits/add?organisation=1&credits=500&once=x").await;
    assert!(page.contains("Ask for approval") && page.contains("25.00 EUR"), "{page}");
    let form = [("organisation", "1"), ("credits", "500"), ("once", "x"), ("price", "0.05 EUR")];
    assert_eq!(anna.post(site, "/credits/add", &form).await, 303);
    assert!(anna.text(site, "/purchases").await.contains("Withdraw"));
    assert_eq!(anna.get(site, "/purchases/1/approve").await, 403);

    let staff = Visitor::logged_in(site, "staff@photogate.example").await;
    let page = staff.text(site, "/purchases/1/approve").await;
    assert!(page.contains("500") && page.contains("anna@club.example"), "{page}");
    assert_eq!(staff.post(site, "/purchases/1/approve", &[]).await, 303);

    assert_eq!(app.credits(shop.organisation).await, (500, 0, 0));
    assert!(anna.text(site, "/purchases").await.contains("approved"));
}
