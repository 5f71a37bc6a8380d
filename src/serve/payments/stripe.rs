//! Stripe's reports: their signature, and what they say of a checkout.
//!
//! The scheme is the one that Stripe documents: the header `Stripe-Signature` is
//! `t=…,v1=…[,v1=…]`. `t` is the time in seconds since 1970, and each `v1` an HMAC-SHA256 in
//! hexadecimal, with a secret of the endpoint as its key, of `t`, a dot, and the body as it came.
//! There are several `v1` while Stripe rolls a secret, and several secrets here for the same reason.

use hmac::{Hmac, Mac};
use serde::Deserialize;
use sha2::Sha256;

use super::Report;
use crate::ledger::{payments::Paid, purchases::State};

/// Seconds by which the time of a signature may differ from ours: a report that somebody has copied
/// cannot be sent again later. Stripe's own libraries take the same.
const TOLERANCE: u64 = 300;
/// Signatures of a header that are looked at. Stripe sends one for each secret of the endpoint.
const SIGNATURES_MAX: usize = 8;

/// Why a report is not taken for Stripe's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsigned {
    #[error("the header Stripe-Signature is missing, or is not `t=…,v1=…`")]
    Malformed,
    #[error("the signature is more than five minutes old, or of the future: is the clock right?")]
    OutOfTime,
    #[error("the signature does not belong to this body and the secret of this endpoint")]
    Wrong,
}

/// Checks that Stripe has signed these bytes with one of the secrets, at about this time (in seconds
/// since 1970).
pub(super) fn verify(
    header: &str,
    body: &[u8],
    secrets: &[String],
    now: i64,
) -> Result<(), Unsigned> {
    let (mut time, mut signatures) = (None, Vec::new());
    for (name, value) in header.split(',').filter_map(|part| part.trim().split_once('=')) {
        match name {
            "t" => time = Some(value),
            "v1" if signatures.len() < SIGNATURES_MAX => signatures.push(value),
            _ => {}
        }
    }
    let time = time.ok_or(Unsigned::Malformed)?;
    let signed_at: i64 = time.parse().map_err(|_| Unsigned::Malformed)?;
    if signatures.is_empty() {
        return Err(Unsigned::Malformed);
    }
    let signed_by = |secret: &String| {
        signatures.iter().any(|signature| {
            let Ok(signature) = hex::decode(signature) else { return false };
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
                return false;
            };
            for part in [time.as_bytes(), b".", body] {
                mac.update(part);
            }
            // In constant time.
            mac.verify_slice(&signature).is_ok()
        })
    };
    if !secrets.iter().any(signed_by) {
        return Err(Unsigned::Wrong);
    }
    // Last, so that only Stripe learns of our clock.
    if now.abs_diff(signed_at) > TOLERANCE { Err(Unsigned::OutOfTime) } else { Ok(()) }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: serde_json::Value,
}

/// A checkout, as far as it concerns us.
#[derive(Deserialize)]
struct Session {
    id: String,
    client_reference_id: Option<String>,
    #[serde(default)]
    metadata: Option<Metadata>,
    amount_total: Option<i64>,
    currency: Option<String>,
    payment_status: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    purchase: Option<String>,
}

impl Session {
    /// The purchase that it names; empty if it names none.
    fn purchase(&self) -> String {
        let named = self.client_reference_id.clone().filter(|name| !name.is_empty());
        let named = named.or_else(|| self.metadata.as_ref().and_then(|data| data.purchase.clone()));
        named.unwrap_or_default().chars().filter(|letter| *letter != '\0').take(200).collect()
    }

    fn paid(&self) -> Report {
        // A checkout without an amount sells nothing: it keeps a card for later.
        let (Some(amount), Some(currency)) = (self.amount_total, self.currency.clone()) else {
            return Report::Other;
        };
        let (reference, purchase) = (self.id.clone(), self.purchase());
        Report::Paid(Paid { reference, purchase, amount, currency })
    }
}

/// Reads a report whose signature is right.
pub(super) fn read(body: &[u8]) -> serde_json::Result<Report> {
    let event: Event = serde_json::from_slice(body)?;
    let session = || serde_json::from_value::<Session>(event.data.object.clone());
    Ok(match event.kind.as_str() {
        "checkout.session.completed" => {
            let session = session()?;
            // Some ways to pay take days: then another report says how it ended.
            if session.payment_status.as_deref() == Some("unpaid") {
                return Ok(Report::Other);
            }
            session.paid()
        }
        "checkout.session.async_payment_succeeded" => session()?.paid(),
        "checkout.session.async_payment_failed" => {
            Report::Ended(session()?.purchase(), State::Failed)
        }
        "checkout.session.expired" => Report::Ended(session()?.purchase(), State::Expired),
        _ => Report::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"id":"evt_1","object":"event"}"#;
    const AT: i64 = 1_492_774_577;
    // Computed independently, with Python:
    //   import hashlib, hmac
    //   signed = b'1492774577.' + b'{"id":"evt_1","object":"event"}'
    //   hmac.new(b'whsec_test_secret', signed, hashlib.sha256).hexdigest()
    const OLD: &str = "654b43d3508ecadb3f8cefc4bc7d3d2bdc5ba9e03bf2c89b2d0657a8e24e4543";
    //   hmac.new(b'whsec_new', signed, hashlib.sha256).hexdigest()
    const NEW: &str = "4c53cebce3a0d7beefae28a4012889b04ff702db3c428f6b139f58303f8d6ac0";

    fn of(header: &str, body: &[u8], secrets: &[&str], now: i64) -> Result<(), Unsigned> {
        let secrets: Vec<_> = secrets.iter().map(ToString::to_string).collect();
        verify(header, body, &secrets, now)
    }

    #[test]
    fn a_signature_belongs_to_its_body_secret_and_time() {
        let (first, both) = (["whsec_test_secret"], ["whsec_new", "whsec_test_secret"]);
        let header = format!("t={AT},v1={OLD}");
        assert_eq!(of(&header, BODY, &first, AT), Ok(()));
        assert_eq!(of(&header, BODY, &first, AT + 300), Ok(()));
        assert_eq!(of(&header, BODY, &first, AT - 300), Ok(()));
        assert_eq!(of(&header, BODY, &first, AT + 301), Err(Unsigned::OutOfTime));
        assert_eq!(of(&header, BODY, &first, AT - 301), Err(Unsigned::OutOfTime));
        assert_eq!(of(&header, BODY, &first, i64::MIN), Err(Unsigned::OutOfTime));
        assert_eq!(of(&header, b"{}", &first, AT), Err(Unsigned::Wrong));
        assert_eq!(of(&header, BODY, &["whsec_new"], AT), Err(Unsigned::Wrong));
        assert_eq!(of(&header, BODY, &[], AT), Err(Unsigned::Wrong));
        let moved = format!("t={},v1={OLD}", AT + 60);
        assert_eq!(of(&moved, BODY, &first, AT + 60), Err(Unsigned::Wrong));

        // While a secret is rolled: here two are known, and Stripe signs with one or with both.
        assert_eq!(of(&header, BODY, &both, AT), Ok(()));
        let rolled = format!("t={AT},v1={NEW},v1={OLD},v0=6ffb");
        for secrets in [&first[..], &["whsec_new"][..], &both[..]] {
            assert_eq!(of(&rolled, BODY, secrets, AT), Ok(()));
        }
    }

    #[test]
    fn what_is_no_signature_is_refused() {
        let secrets = ["whsec_test_secret"];
        for header in
            ["", "t=", "v1=", "t=now,v1=00", &format!("v1={OLD}"), &format!("t={AT},v0={OLD}")]
        {
            assert_eq!(of(header, BODY, &secrets, AT), Err(Unsigned::Malformed), "{header}");
        }
        for signature in ["", "00", "xyz", &OLD[..62], &format!("{OLD}00")] {
            let header = format!("t={AT},v1={signature}");
            assert_eq!(of(&header, BODY, &secrets, AT), Err(Unsigned::Wrong), "{header}");
        }
    }

    #[test]
    fn what_stripe_says_of_a_checkout_is_read() {
        let event = |kind: &str, status: &str| {
            let event = serde_json::json!({
                "id": "evt_1", "object": "event", "type": kind, "livemode": true,
                "data": { "object": {
                    "id": "cs_1", "object": "checkout.session", "amount_total": 2500,
                    "currency": "eur", "client_reference_id": null,
                    "metadata": { "purchase": "photogate-7" }, "payment_status": status,
                } },
            });
            read(event.to_string().as_bytes()).unwrap()
        };
        let paid = Report::Paid(Paid {
            reference: "cs_1".into(),
            purchase: "photogate-7".into(),
            amount: 2500,
            currency: "eur".into(),
        });
        assert_eq!(event("checkout.session.completed", "paid"), paid);
        assert_eq!(event("checkout.session.completed", "unpaid"), Report::Other, "not yet");
        assert_eq!(event("checkout.session.async_payment_succeeded", "paid"), paid);
        let failed = Report::Ended("photogate-7".into(), State::Failed);
        assert_eq!(event("checkout.session.async_payment_failed", "unpaid"), failed);
        let expired = Report::Ended("photogate-7".into(), State::Expired);
        assert_eq!(event("checkout.session.expired", "unpaid"), expired);
        assert_eq!(event("invoice.paid", "paid"), Report::Other);
        assert!(read(b"{}").is_err() && read(b"").is_err());
    }
}
