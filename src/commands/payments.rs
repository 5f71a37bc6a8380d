//! What a payment provider reports, and whether there is one.

use serde_json::json;

use super::{CommandError, Commands, credits::MAY_GRANT};
use crate::{
    access::{Caller, audit_log},
    ids::{PaymentId, PurchaseId},
    ledger::{
        payments::{self, Filter, Paid, Payment, Received},
        purchases::State,
    },
};

impl Commands {
    /// From now on, purchases wait until this provider says that they were paid. Who pays is led to
    /// `pay_at`. The caller has checked nothing: the service says it when it starts.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn use_payment_provider(
        &self,
        caller: &Caller,
        provider: &str,
        pay_at: Option<&str>,
    ) -> Result<(), CommandError> {
        caller.must_be(MAY_GRANT)?;
        caller.must_run_photogate()?;
        transaction!(self, tx, {
            if payments::use_provider(&mut tx, provider, pay_at).await? {
                let detail = json!({ "provider": provider, "pay_at": pay_at });
                audit_log::record(&mut tx, caller, None, "payments.provider", "purchases", detail)
                    .await?;
            }
        })
    }

    /// From now on, purchases are credited at once. Those that wait for a payment go on waiting.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn use_no_payment_provider(&self, caller: &Caller) -> Result<(), CommandError> {
        caller.must_be(MAY_GRANT)?;
        caller.must_run_photogate()?;
        transaction!(self, tx, {
            if payments::use_no_provider(&mut tx).await? {
                let detail = json!({ "provider": null });
                audit_log::record(&mut tx, caller, None, "payments.provider", "purchases", detail)
                    .await?;
            }
        })
    }

    /// A provider says that a payment has come. The caller has checked that it is the provider who
    /// says so.
    ///
    /// # Errors
    /// See [`CommandError`]: then the provider must say it again.
    pub async fn receive_payment(
        &self,
        provider: &str,
        paid: &Paid,
    ) -> Result<Received, CommandError> {
        let caller = Caller::trusted(provider);
        let received = transaction!(self, tx, {
            let received = payments::receive(&mut tx, provider, paid).await?;
            if received.is_new {
                let mut detail = json!({
                    "reference": paid.reference, "amount": paid.amount, "currency": paid.currency,
                });
                let action = match received.kept {
                    None => {
                        detail["credits"] = json!(received.credits);
                        detail["transaction"] = json!(received.transaction);
                        "purchase.pay"
                    }
                    Some(why) => {
                        detail["reason"] = json!(why);
                        "payment.keep"
                    }
                };
                let subject = match payments::named(&paid.purchase) {
                    Some(purchase) => format!("purchase request {purchase}"),
                    None => format!("payment {}", received.payment),
                };
                let whose = received.organisation;
                audit_log::record(&mut tx, &caller, whose, action, &subject, detail).await?;
            }
            received
        })?;
        if received.is_new && received.resumed {
            self.wake.send().await;
        }
        Ok(received)
    }

    /// A provider says that a purchase will not be paid: `state` is failed or expired. Returns false
    /// if the purchase did not wait for a payment.
    ///
    /// # Errors
    /// See [`CommandError`]: then the provider must say it again.
    pub async fn end_unpaid_purchase(
        &self,
        provider: &str,
        purchase: PurchaseId,
        state: State,
    ) -> Result<bool, CommandError> {
        let caller = Caller::trusted(provider);
        let action = if state == State::Failed { "purchase.fail" } else { "purchase.expire" };
        transaction!(self, tx, {
            let ended = payments::end(&mut tx, provider, purchase, state).await?;
            if let Some((organisation, credits)) = ended {
                let subject = format!("purchase request {purchase}");
                let detail = json!({ "credits": credits });
                audit_log::record(&mut tx, &caller, Some(organisation), action, &subject, detail)
                    .await?;
            }
            ended.is_some()
        })
    }

    /// Somebody has dealt with a payment that was kept: paid it back, or added the credits. The same
    /// again changes nothing.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn settle_payment(
        &self,
        caller: &Caller,
        id: PaymentId,
        note: &str,
    ) -> Result<Payment, CommandError> {
        caller.must_be(MAY_GRANT)?;
        if !(1..=1000).contains(&note.trim().chars().count()) {
            let detail = "say what was done with the payment, in 1 to 1,000 characters";
            return Err(CommandError::invalid("/note", detail));
        }
        let which = Filter { id: Some(id), ..Filter::default() };
        transaction!(self, tx, {
            let settled = payments::settle(&mut tx, id, &caller.actor, note).await?;
            let found = payments::list(&mut tx, which, 1).await?.pop();
            let found = found.ok_or_else(|| CommandError::NotFound(format!("payment {id}")))?;
            if found.kept.is_none() {
                return Err(CommandError::Conflict {
                    code: "payment_credited",
                    detail: "this payment became credits: nothing is left to deal with".into(),
                });
            }
            if settled {
                let (whose, subject) = (found.organisation, format!("payment {id}"));
                let detail = json!({ "reference": found.reference, "note": note });
                let action = "payment.settle";
                audit_log::record(&mut tx, caller, whose, action, &subject, detail).await?;
            }
            found
        })
    }
}
