//! Payments: a purchase becomes credits once, when the payment provider says that it was paid.

use chrono::Utc;
use futures::future::join_all;
use hmac::{Hmac, Mac};
use photogate::{
    access::Role,
    catalog::organisations,
    ids::OrganisationId,
    ledger::auto_top_up::{self, Bought, State},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::{
    App,
    site::{Site, Visitor, answered},
};

const SECRET: &str = "whsec_test";
const COMPLETED: &str = "checkout.session.completed";
const SUCCEEDED: &str = "checkout.session.async_payment_succeeded";
const FAILED: &str = "checkout.session.async_payment_failed";
const EXPIRED: &str = "checkout.session.expired";

/// A service with a payment provider, and an organisation that buys.
struct Shop {
    app: App,
    site: Site,
    organisation: OrganisationId,
    buyer: String,
    staff: String,
}

fn with_provider(app: &mut App) {
    app.config.stripe_secrets = vec!["whsec_new".into(), SECRET.into()];
    let address = "https://pay.example.org/?ref={purchase}&cents={amount_minor}&in={currency}";
    app.config.payment_url = Some(address.into());
}

impl Shop {
    async fn open() -> Self {
        let mut app = App::new().await;
        with_provider(&mut app);
        let site = Site::of(&app).await;
        app.until_ready(site.address).await;
        let organisation = app.an_organisation_with(0).await;
        let buyer = app.a_token(Role::Organiser, Some(organisation)).await;
        let staff = app.a_token(Role::Staff, None).await;
        Self { app, site, organisation, buyer, staff }
    }

    async fn buy(&self, credits: i64, key: &str) -> (u16, Value) {
        let path = format!("/v1/organisations/{}/purchases", self.organisation);
        let request = self.site.ask(Method::POST, &path, &self.buyer);
        let request = request.header("Idempotency-Key", key);
        let (status, answer) = answered(request.json(&json!({ "credits": credits }))).await;
        (status.as_u16(), answer)
    }

    /// Buys so many credits, which must wait for their payment. Returns the number of the purchase.
    async fn buy_unpaid(&self, credits: i64, key: &str) -> i64 {
        let (status, asked) = self.buy(credits, key).await;
        assert_eq!((status, &asked["state"]), (202, &json!("unpaid")), "{asked}");
        asked["id"].as_i64().unwrap()
    }

    async fn decide(&self, request: i64, how: &str) -> (u16, Value) {
        let path = format!("/v1/purchase-requests/{request}/{how}");
        let (status, answer) = answered(self.site.ask(Method::POST, &path, &self.staff)).await;
        (status.as_u16(), answer)
    }

    async fn purchase(&self, request: i64) -> Value {
        let (_, all) = self.site.get("/v1/purchase-requests?limit=200", &self.staff).await;
        let all = all["items"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["id"] == request).unwrap()
    }

    /// Sends a signed report. Returns what became of it, and the reason.
    async fn report(&self, kind: &str, session: &str, purchase: i64, cents: i64) -> String {
        self.report_in("eur", kind, session, &format!("photogate-{purchase}"), cents).await
    }

    async fn report_in(
        &self,
        currency: &str,
        kind: &str,
        session: &str,
        purchase: &str,
        amount: i64,
    ) -> String {
        let event = event(currency, kind, session, purchase, amount);
        let (status, answer) = self.send(&event, &signed(&event, SECRET, 0)).await;
        assert_eq!(status, StatusCode::OK, "it need not be sent again: {answer}");
        let reason = answer["reason"].as_str().unwrap_or_default();
        format!("{} {reason}", answer["outcome"].as_str().unwrap()).trim_end().to_owned()
    }

    async fn send(&self, body: &str, signature: &str) -> (StatusCode, Value) {
        let request = self.site.client.post(self.site.url("/v1/payments/stripe"));
        answered(request.header("Stripe-Signature", signature).body(body.to_owned())).await
    }

    async fn credits(&self) -> i64 {
        self.app.credits(self.organisation).await.0
    }

    async fn set_price(&self, price: &str) {
        let price = price.parse().unwrap();
        let db = &mut *self.app.db().await;
        organisations::set_price(db, self.organisation, Some(&price)).await.unwrap();
    }

    async fn audited(&self, action: &str) -> usize {
        let (_, log) = self.site.get("/v1/audit-log?limit=200", &self.staff).await;
        let entries = log["items"].as_array().unwrap().iter();
        entries.filter(|entry| entry["action"] == action).count()
    }
}

fn event(currency: &str, kind: &str, session: &str, purchase: &str, amount: i64) -> String {
    let event = json!({
        "id": format!("evt_{session}"), "object": "event", "type": kind,
        "data": { "object": {
            "id": session, "object": "checkout.session", "client_reference_id": purchase,
            "amount_total": amount, "currency": currency, "payment_status": "paid",
            "metadata": {},
        } },
    });
    event.to_string()
}

/// The header for a body that was signed so many seconds ago.
fn signed(body: &str, secret: &str, seconds_ago: i64) -> String {
    let at = Utc::now().timestamp() - seconds_ago;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{at}.{body}").as_bytes());
    format!("t={at},v1={}", hex::encode(mac.finalize().into_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_becomes_credits_once_when_it_was_paid_however_often_that_is_reported() {
    let shop = Shop::open().await;
    let event = shop.app.an_event_of(shop.organisation).await;
    shop.app.queue(event, "ok", 3).await;
    let worker = shop.app.start_worker();
    shop.app.until_out_of_credit(event).await;
    let id = shop.buy_unpaid(10, "one").await;
    assert_eq!(shop.buy_unpaid(10, "one").await, id, "the same purchase");
    let asked = shop.purchase(id).await;
    assert_eq!(
        asked["pay_at"],
        format!("https://pay.example.org/?ref=photogate-{id}&cents=50&in=EUR")
    );
    assert_eq!((&asked["amount"], &asked["waits_for"]), (&json!("0.50"), &json!("payment")));
    assert_eq!(shop.app.credits(shop.organisation).await, (0, 0, 0));

    let reports = (0..6).map(|n| {
        let kind = if n % 2 == 0 { COMPLETED } else { SUCCEEDED };
        shop.report(kind, "cs_1", id, 50)
    });
    let mut outcomes = join_all(reports).await;
    outcomes.sort();

    assert_eq!(outcomes, ["credited", "known", "known", "known", "known", "known"]);
    assert_eq!(shop.report(COMPLETED, "cs_1", id, 50).await, "known");
    shop.app.until_done(event).await;
    worker.drain().await;
    assert_eq!(shop.app.credits(shop.organisation).await, (7, 0, 3));
    let paid = shop.purchase(id).await;
    assert_eq!((&paid["state"], &paid["decided_by"]), (&json!("paid"), &json!("stripe")));
    assert_eq!((&paid["waits_for"], &paid["pay_at"]), (&Value::Null, &Value::Null));
    assert_eq!(shop.buy(10, "one").await.1["state"], "paid", "it buys nothing more");
    assert_eq!((shop.audited("purchase.ask").await, shop.audited("purchase.pay").await), (1, 1));
    let booked = "SELECT count(*) FROM top_up WHERE kind = 'purchase' AND actor LIKE 'token%'";
    assert_eq!(shop.app.count(booked).await, 1, "the buyer bought it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_staff_approve_waits_for_its_payment_whoever_approves_it() {
    let shop = Shop::open().await;
    shop.app.says(&["organisations", "limit", "1", "10"]);
    let (status, asked) = shop.buy(100, "large").await;
    assert_eq!((status, &asked["state"], &asked["pay_at"]), (202, &json!("pending"), &Value::Null));
    let id = asked["id"].as_i64().unwrap();
    assert_eq!(shop.report(COMPLETED, "cs_early", id, 500).await, "kept not_approved");

    // The command line has no such setting: that there is a provider stands in the database.
    let said = shop.app.says(&["purchases", "approve", &id.to_string()]);
    assert!(said.contains("waits for payment"), "{said}");

    let (status, again) = shop.decide(id, "approve").await;
    assert_eq!(
        (status, &again["state"], &again["approved_by"]),
        (200, &json!("unpaid"), &json!("cli"))
    );
    assert_eq!(shop.credits().await, 0);
    let listed = shop.app.says(&["purchases", "list"]);
    assert!(listed.contains(&format!("ref=photogate-{id}")), "{listed}");
    assert_eq!(shop.report(SUCCEEDED, "cs_1", id, 500).await, "credited");
    assert_eq!(shop.credits().await, 100);
    assert_eq!(shop.decide(id, "approve").await.0, 200, "it was approved before");
    assert_eq!(shop.decide(id, "refuse").await.1["code"], "purchase_decided");
    assert_eq!(
        (shop.audited("purchase.approve").await, shop.audited("purchase.pay").await),
        (1, 1)
    );
    let told: Vec<String> = sqlx::query_scalar(
        "SELECT concat_ws(' ', type, data ->> 'state') FROM new_change
         WHERE organisation_id > 0 AND subject LIKE 'purchases/%' ORDER BY change_id",
    )
    .fetch_all(&mut shop.app.as_owner().await)
    .await
    .unwrap();
    assert_eq!(
        told,
        ["purchase.asked pending", "purchase.decided unpaid", "purchase.decided paid"],
        "as the feed tells it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_automatic_top_up_waits_for_its_payment_asks_once_and_stops_if_it_fails() {
    let shop = Shop::open().await;
    let (app, organisation) = (&shop.app, shop.organisation);
    let on = ["credits", "auto-top-up", "1", "--below", "5", "--credits", "10"];
    app.says(&[&on[..], &["--monthly-max", "100"]].concat());
    let look = async || auto_top_up::buy(&mut *app.db().await, organisation).await.unwrap();
    let standing = async || {
        let found = auto_top_up::read(&mut *app.db().await, organisation).await.unwrap().unwrap();
        (found.state, found.reason.map(|reason| json!(reason)))
    };

    assert_eq!(look().await, Bought { bought: true, resumed: false });
    assert!(!look().await.bought);

    assert_eq!(standing().await, (State::Waits, Some(json!("payment"))));
    let due = auto_top_up::next_due(&mut *app.db().await, OrganisationId(0)).await.unwrap();
    assert_eq!((due, shop.credits().await), (None, 0));
    assert_eq!(shop.report(COMPLETED, "cs_1", 1, 50).await, "credited");
    assert_eq!((standing().await, shop.credits().await), ((State::On, None), 10));

    app.top_up(organisation, -9).await;
    assert!(look().await.bought);
    assert_eq!(shop.report(FAILED, "cs_2", 2, 50).await, "ended");
    assert_eq!(standing().await, (State::Stopped, Some(json!("failed"))));
    assert!(!look().await.bought);
    assert_eq!(shop.audited("auto_top_up.stop").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_the_purchase_costs_is_kept_for_finance_and_never_credited() {
    let shop = Shop::open().await;
    let id = shop.buy_unpaid(10, "one").await;
    let name = format!("photogate-{id}");
    for (nth, (currency, purchase, amount, why)) in [
        ("eur", name.as_str(), 49, "wrong_amount"),
        ("eur", &name, 51, "wrong_amount"),
        ("eur", &name, -50, "wrong_amount"),
        ("usd", &name, 50, "wrong_amount"),
        ("eur", "photogate-99", 50, "unknown_purchase"),
        ("eur", "1", 50, "unknown_purchase"),
        ("eur", "", 50, "unknown_purchase"),
    ]
    .into_iter()
    .enumerate()
    {
        let session = format!("cs_{nth}");
        let kept = format!("kept {why}");
        assert_eq!(shop.report_in(currency, COMPLETED, &session, purchase, amount).await, kept);
        let again = shop.report_in(currency, COMPLETED, &session, purchase, amount).await;
        assert_eq!(again, format!("known {why}"));
    }

    assert_eq!((shop.credits().await, shop.audited("payment.keep").await), (0, 7));
    let finance = shop.app.a_token(Role::Finance, None).await;
    let (_, kept) = shop.site.get("/v1/payments?open=true", &finance).await;
    assert_eq!(kept["items"].as_array().map(Vec::len), Some(7));
    let (_, own) = shop.site.get("/v1/payments", &shop.buyer).await;
    assert_eq!(own["items"].as_array().map(Vec::len), Some(4), "those that name its purchases");
    let elsewhere = shop.app.an_organisation_with(0).await;
    let eve = shop.app.a_token(Role::Organiser, Some(elsewhere)).await;
    assert_eq!(shop.site.get("/v1/payments", &eve).await.1["items"], json!([]));
    shop.app.a_person("money@photogate.example", Role::Finance, None).await;
    let visitor = Visitor::logged_in(&shop.site, "money@photogate.example").await;
    let page = visitor.text(&shop.site, "/purchases").await;
    assert!(page.contains("Payments for finance") && page.contains("cs_0"), "{page}");
    assert!(shop.app.says(&["purchases", "payments", "--open"]).contains("cs_6"));

    assert_eq!(shop.report(COMPLETED, "cs_right", id, 50).await, "credited");
    assert_eq!(shop.credits().await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_that_is_paid_twice_is_credited_once_and_the_other_payment_is_kept() {
    let shop = Shop::open().await;
    for n in 1..=5 {
        let id = shop.buy_unpaid(10, &format!("purchase {n}")).await;
        let (one, two) = (format!("cs_{n}_a"), format!("cs_{n}_b"));

        let (one, two) = tokio::join!(
            shop.report(COMPLETED, &one, id, 50),
            shop.report(SUCCEEDED, &two, id, 50)
        );

        let mut outcomes = [one, two];
        outcomes.sort();
        assert_eq!(outcomes, ["credited", "kept paid_before"]);
        assert_eq!(shop.credits().await, 10 * n);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_comes_late_is_credited_unless_somebody_has_refused_the_purchase() {
    let shop = Shop::open().await;
    let mut bought = 0;
    for end in [EXPIRED, FAILED] {
        let id = shop.buy_unpaid(10, end).await;
        assert_eq!(shop.report(end, &format!("cs_{end}"), id, 50).await, "ended");
        assert_eq!(shop.report(end, &format!("cs_{end}"), id, 50).await, "known");
        assert!(shop.purchase(id).await["waits_for"].is_null());

        assert_eq!(shop.report(COMPLETED, &format!("cs_late_{end}"), id, 50).await, "credited");
        bought += 10;
        assert_eq!(shop.credits().await, bought);
        assert_eq!(shop.report(end, &format!("cs_{end}"), id, 50).await, "known", "out of order");
        assert_eq!(shop.purchase(id).await["state"], "paid");
    }

    let id = shop.buy_unpaid(10, "forgotten").await;
    shop.app.owner_runs("UPDATE purchase_request SET expires_at = now()").await;
    let worker = shop.app.start_worker();
    let expired = "SELECT count(*) FROM purchase_request WHERE state = 'expired'";
    shop.app.until("it has expired", async || shop.app.count(expired).await == 1).await;
    worker.drain().await;
    assert_eq!(shop.report(COMPLETED, "cs_forgotten", id, 50).await, "credited");
    bought += 10;

    let id = shop.buy_unpaid(10, "withdrawn").await;
    assert_eq!(shop.decide(id, "refuse").await.1["state"], "refused");
    assert_eq!(shop.report(COMPLETED, "cs_withdrawn", id, 50).await, "kept refused");
    assert_eq!(shop.credits().await, bought);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_and_the_end_of_its_purchase_at_the_same_time_are_credits_or_kept_money() {
    let shop = Shop::open().await;
    let mut credits = 0;
    for n in 0..8 {
        let id = shop.buy_unpaid(10, &format!("purchase {n}")).await;
        let session = format!("cs_{n}");

        let (paid, ended) = if n % 2 == 0 {
            let (paid, ended) = tokio::join!(
                shop.report(COMPLETED, &session, id, 50),
                shop.report(EXPIRED, "cs_other", id, 50)
            );
            (paid, ended == "ended")
        } else {
            let (paid, (status, _)) =
                tokio::join!(shop.report(COMPLETED, &session, id, 50), shop.decide(id, "refuse"));
            (paid, status == 200)
        };

        if paid == "credited" {
            credits += 10;
            assert_eq!(shop.purchase(id).await["state"], "paid");
        } else {
            assert_eq!((paid.as_str(), ended), ("kept refused", true));
        }
        assert_eq!(shop.credits().await, credits);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_paid_is_booked_at_the_price_that_was_paid() {
    let shop = Shop::open().await;
    let id = shop.buy_unpaid(10, "one").await;
    shop.set_price("0.09 USD").await;

    assert_eq!(shop.report(COMPLETED, "cs_1", id, 50).await, "credited");

    let booked = "SELECT count(*) FROM top_up WHERE price_per_credit = 0.05 AND currency = 'EUR'";
    assert_eq!(shop.app.count(booked).await, 1);
    assert_eq!(shop.credits().await, 10);
}

/// Half a cent is a cent: otherwise a credit for less than that would be free.
#[tokio::test(flavor = "multi_thread")]
async fn an_amount_is_in_whole_smallest_units_of_its_currency() {
    let shop = Shop::open().await;
    for (nth, (price, credits, amount, units)) in [
        ("0.0001 EUR", 1, "0.01", 1),
        ("0.0333 EUR", 100, "3.33", 333),
        ("0.0333 EUR", 101, "3.37", 337),
        ("5 JPY", 10, "50", 50),
        ("0.01 KWD", 3, "0.030", 30),
    ]
    .into_iter()
    .enumerate()
    {
        shop.set_price(price).await;
        let id = shop.buy_unpaid(credits, &format!("purchase {nth}")).await;
        assert_eq!(shop.purchase(id).await["amount"], amount, "{credits} at {price}");
        let currency = price.split(' ').nth(1).unwrap().to_lowercase();
        let name = format!("photogate-{id}");
        let session = format!("cs_{nth}");
        let paid = shop.report_in(&currency, COMPLETED, &session, &name, units).await;
        assert_eq!(paid, "credited", "{credits} at {price}");
    }
    shop.set_price("0 EUR").await;
    assert_eq!(shop.buy(1, "free").await.0, 201, "what costs nothing need not be paid");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_provider_reports_a_payment() {
    let shop = Shop::open().await;
    let id = shop.buy_unpaid(10, "one").await;
    let body = event("eur", COMPLETED, "cs_1", &format!("photogate-{id}"), 50);
    let good = signed(&body, SECRET, 0);
    let dearer = body.replace("50", "5000");
    for (sent, signature) in [
        (&body, String::new()),
        (&body, "t=1,v1=00".into()),
        (&body, signed(&body, "whsec_other", 0)),
        (&body, signed(&body, SECRET, 301)),
        (&body, signed(&body, SECRET, -320)),
        (&dearer, good.clone()),
    ] {
        let (status, no) = shop.send(sent, &signature).await;
        assert_eq!((status.as_u16(), &no["code"]), (400, &json!("bad_signature")), "{signature}");
    }
    let large = "x".repeat((64 << 10) + 1);
    assert_eq!(shop.send(&large, &signed(&large, SECRET, 0)).await.0, 413);
    let odd = "{\"type\": 7}";
    assert_eq!(shop.send(odd, &signed(odd, SECRET, 0)).await.1["code"], "malformed");
    let url = shop.site.url("/v1/payments/paypal");
    let other = shop.site.client.post(url).header("Stripe-Signature", &good).body(body.clone());
    assert_eq!(answered(other).await.0, 404);
    assert_eq!(shop.app.count("SELECT count(*) FROM payment").await, 0);
    assert_eq!(shop.credits().await, 0);

    // While a secret is rolled, both count.
    let (status, paid) = shop.send(&body, &signed(&body, "whsec_new", 0)).await;
    assert_eq!((status.as_u16(), &paid["outcome"]), (200, &json!("credited")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_payment_changes_nothing_and_is_not_sent_again() {
    let shop = Shop::open().await;
    let id = shop.buy_unpaid(10, "one").await;
    assert_eq!(shop.report("invoice.paid", "in_1", id, 50).await, "ignored");
    let not_yet = event("eur", COMPLETED, "cs_1", &format!("photogate-{id}"), 50);
    let not_yet = not_yet.replace("\"paid\"", "\"unpaid\"");
    let (status, answer) = shop.send(&not_yet, &signed(&not_yet, SECRET, 0)).await;
    assert_eq!((status.as_u16(), &answer["outcome"]), (200, &json!("ignored")));
    let ended = shop.report_in("eur", EXPIRED, "cs_2", "somebody-else", 50).await;
    assert_eq!(ended, "ignored");

    assert_eq!(shop.purchase(id).await["state"], "unpaid");
    assert_eq!(shop.app.count("SELECT count(*) FROM payment").await, 0);
    // The money came after days.
    assert_eq!(shop.report(SUCCEEDED, "cs_1", id, 50).await, "credited");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_paid_yet_counts_for_the_ceiling_and_ten_may_wait() {
    let shop = Shop::open().await;
    shop.app.says(&["organisations", "limit", "1", "10"]);
    let (one, two) = tokio::join!(shop.buy(6, "one"), shop.buy(6, "two"));
    let mut states = [one.1["state"].clone(), two.1["state"].clone()];
    states.sort_by_key(ToString::to_string);
    assert_eq!(states, ["pending", "unpaid"]);

    for n in 0..8 {
        assert_eq!(shop.buy(100, &n.to_string()).await.0, 202);
    }
    let (status, no) = shop.buy(1, "eleven").await;
    assert_eq!((status, &no["code"]), (409, &json!("limit_reached")));
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_note_what_became_of_a_payment_that_was_kept_once() {
    let shop = Shop::open().await;
    let id = shop.buy_unpaid(10, "one").await;
    assert_eq!(shop.report(COMPLETED, "cs_less", id, 49).await, "kept wrong_amount");
    assert_eq!(shop.report(COMPLETED, "cs_right", id, 50).await, "credited");
    let settle = async |payment: i64, token: &str, note: &str| {
        let path = format!("/v1/payments/{payment}/settle");
        shop.site.post(&path, token, json!({ "note": note })).await
    };

    assert_eq!(settle(1, &shop.buyer, "paid back").await.0, 403);
    assert_eq!(settle(1, &shop.staff, " ").await.0, 422);
    assert_eq!(settle(2, &shop.staff, "paid back").await.1["code"], "payment_credited");
    assert_eq!(settle(99, &shop.staff, "paid back").await.0, 404);
    shop.app.a_person("staff@photogate.example", Role::Staff, None).await;
    let staff = Visitor::logged_in(&shop.site, "staff@photogate.example").await;
    assert!(staff.text(&shop.site, "/purchases").await.contains("/payments/1/settle"));
    let form = [("note", "paid back")];
    assert_eq!(staff.post(&shop.site, "/payments/1/settle", &form).await, 303);

    let said = shop.app.says(&["purchases", "settle", "1", "--note", "again", "--json"]);
    assert!(said.contains("paid back") && !said.contains("again"), "it was dealt with: {said}");
    let (_, open) = shop.site.get("/v1/payments?open=true", &shop.staff).await;
    assert_eq!(open["items"], json!([]));
    assert_eq!(shop.audited("payment.settle").await, 1);
    assert_eq!(shop.credits().await, 10, "it moves no credits");
}

/// Otherwise whoever starts a service or a worker without the secret would give credits away.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_the_setting_waits_for_payments_too_until_a_person_ends_that() {
    let mut shop = Shop::open().await;
    shop.app.config.stripe_secrets.clear();
    shop.site = Site::of(&shop.app).await;

    let id = shop.buy_unpaid(10, "one").await;
    let body = event("eur", COMPLETED, "cs_1", &format!("photogate-{id}"), 50);
    assert_eq!(shop.send(&body, &signed(&body, SECRET, 0)).await.0, 404, "it has no secret");
    assert_eq!(shop.credits().await, 0);

    shop.app.says(&["purchases", "no-provider", "--actor", "staff@photogate.example"]);
    assert_eq!(shop.buy(7, "two").await.0, 201, "as without a provider");
    assert_eq!(shop.credits().await, 7);
    let staff = "SELECT count(*) FROM audit_log WHERE action = 'payments.provider'";
    assert_eq!(shop.app.count(staff).await, 2, "switched on by the service, and off by a person");
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_book_what_was_paid_otherwise_at_once() {
    let shop = Shop::open().await;
    shop.app.says(&["credits", "top-up", "1", "20", "--key", "bank transfer 4711"]);
    assert_eq!(shop.credits().await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_buy_and_are_told_where_to_pay() {
    let shop = Shop::open().await;
    shop.app.a_person("anna@club.example", Role::Organiser, Some(shop.organisation)).await;
    let anna = Visitor::logged_in(&shop.site, "anna@club.example").await;
    let ask = "/credits/add?organisation=1&credits=500&once=x";
    assert!(anna.text(&shop.site, ask).await.contains("You pay it next."));
    let form = [("organisation", "1"), ("credits", "500"), ("once", "x"), ("price", "0.05 EUR")];

    assert_eq!(anna.post(&shop.site, "/credits/add", &form).await, 303);

    let page = anna.text(&shop.site, "/purchases?said=unpaid").await;
    let link = "href=\"https://pay.example.org/?ref=photogate-1&amp;cents=2500&amp;in=EUR\"";
    assert!(page.contains(link) && page.contains("waits for payment"), "{page}");
    assert!(page.contains("25.00 EUR") && page.contains("Withdraw"), "{page}");
    assert_eq!(shop.report(COMPLETED, "cs_1", 1, 2500).await, "credited");
    assert!(anna.text(&shop.site, "/purchases").await.contains("paid"));
    assert_eq!(shop.credits().await, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_counted_for_their_address_as_all_requests_without_a_caller() {
    let mut app = App::new().await;
    with_provider(&mut app);
    app.config.requests_per_second_of_address = 1;
    let site = Site::of(&app).await;
    let url = site.url("/v1/payments/stripe");
    let sends = (0..8).map(|_| answered(site.client.post(&url).body("{}")));

    let statuses = join_all(sends).await;

    let refused = statuses.iter().filter(|(status, _)| status.as_u16() == 429).count();
    assert!(refused >= 4, "{statuses:?}");
}
