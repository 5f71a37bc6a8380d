//! `photogate purchases …`: lists purchases that wait for approval or payment, approves and refuses
//! them, and lists payments.

use super::{End, Output, say};
use crate::{
    access::Caller,
    config::Config,
    database,
    ids::{OrganisationId, PaymentId, PurchaseId},
    ledger::{
        payments::{self, Payment},
        purchases::{self, Filter, PurchaseRequest},
    },
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Purchases {
    /// Lists purchases that wait for approval or payment, newest first
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate purchases list --all")]
    List {
        /// Only those of this organisation
        #[arg(long)]
        organisation: Option<OrganisationId>,
        /// Those that are decided, too
        #[arg(long)]
        all: bool,
    },
    /// Approves a purchase: its credits are added, or it can be paid then
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Approve(Which),
    /// Refuses a purchase: nothing is added
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Refuse(Which),
    /// Lists payments that a payment provider has reported, newest first
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate purchases payments --open               those that finance must deal with")]
    Payments {
        /// Only those of this organisation
        #[arg(long)]
        organisation: Option<OrganisationId>,
        /// Only those that were kept for finance, and that nobody has dealt with
        #[arg(long)]
        open: bool,
    },
    /// Notes that somebody has dealt with a payment that was kept
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate purchases settle 31 --note 'paid back on 24 November'")]
    Settle {
        /// The number of the payment
        payment: PaymentId,
        /// What was done
        #[arg(long)]
        note: String,
        /// Who did it, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Says that there is no payment provider any more: purchases are credited at once again
    #[command(after_help = "Needs: PostgreSQL (--database-url).

A service that starts with PHOTOGATE_STRIPE_SECRETS says that there is one.")]
    NoProvider {
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// The number of the request
    request: PurchaseId,
    /// Who decides, for the audit log
    #[arg(long, default_value = "cli")]
    actor: String,
}

/// The most requests that a list shows.
const MOST: i64 = 1000;

impl Purchases {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let decided = match self {
            Self::List { organisation, all } => {
                let filter = Filter { organisation, waiting: !all, ..Filter::default() };
                let pool = database::connect(&config.database_url, 1).await?;
                let found = purchases::list(&mut *pool.acquire().await?, filter, MOST).await?;
                output.rows(
                    &found,
                    &[
                        "Request",
                        "Organisation",
                        "Credits",
                        "Cost",
                        "Who",
                        "Asked",
                        "State",
                        "Pay at",
                    ],
                    |one| {
                        vec![
                            one.id.to_string(),
                            format!("{} ({})", one.organisation, one.organisation_name),
                            one.credits.to_string(),
                            format!("{} {}", one.amount, one.price.currency),
                            one.actor.clone(),
                            one.asked_at.format("%Y-%m-%d %H:%M").to_string(),
                            state(one),
                            one.pay_at.clone().unwrap_or_else(|| "-".into()),
                        ]
                    },
                )?;
                return Ok(End::Ok);
            }
            Self::Payments { organisation, open } => {
                let filter = payments::Filter { organisation, open, ..Default::default() };
                let pool = database::connect(&config.database_url, 1).await?;
                let found = payments::list(&mut *pool.acquire().await?, filter, MOST).await?;
                output.rows(&found, PAYMENTS, payment_row)?;
                return Ok(End::Ok);
            }
            Self::Settle { payment, note, actor } => {
                let caller = Caller::trusted(&actor);
                let settled =
                    super::commands(config).await?.settle_payment(&caller, payment, &note).await;
                match settled {
                    Ok(found) => output
                        .one(&found, |out| writeln!(out, "Payment {} is dealt with.", found.id))?,
                    Err(error) => return super::refused(error),
                }
                return Ok(End::Ok);
            }
            Self::NoProvider { actor } => {
                let caller = Caller::trusted(&actor);
                match super::commands(config).await?.use_no_payment_provider(&caller).await {
                    Ok(()) => say!("Purchases are credited at once from now on."),
                    Err(error) => return super::refused(error),
                }
                return Ok(End::Ok);
            }
            Self::Approve(which) => {
                let caller = Caller::trusted(&which.actor);
                super::commands(config).await?.approve_purchase(&caller, which.request).await
            }
            Self::Refuse(which) => {
                let caller = Caller::trusted(&which.actor);
                super::commands(config).await?.refuse_purchase(&caller, which.request).await
            }
        };
        match decided {
            Ok(request) => output.one(&request, |out| {
                writeln!(
                    out,
                    "The purchase of {} credits by organisation {} is {}.",
                    request.credits,
                    request.organisation,
                    state(&request)
                )
            })?,
            Err(error) => return super::refused(error),
        }
        Ok(End::Ok)
    }
}

/// The state, and what it waits for.
fn state(request: &PurchaseRequest) -> String {
    match request.waits_for {
        Some(what) => format!("{} (waits for {})", request.state.name(), what.name()),
        None => request.state.name().into(),
    }
}

const PAYMENTS: &[&str] =
    &["Payment", "Received", "Provider", "Reference", "Request", "Amount", "Kept, because"];

fn payment_row(payment: &Payment) -> Vec<String> {
    let dash = || "-".to_owned();
    vec![
        payment.id.to_string(),
        payment.received_at.format("%Y-%m-%d %H:%M").to_string(),
        payment.provider.clone(),
        payment.reference.clone(),
        payment.request.map_or_else(dash, |request| request.to_string()),
        format!("{} (smallest units of {})", payment.amount, payment.currency),
        payment.kept.map_or_else(dash, |why| why.says().into()),
    ]
}
