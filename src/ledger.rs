//! The ledger: every credit movement with its photo and its reason, and the checks that the
//! movements add up.

pub mod auto_top_up;
pub mod credits;
pub mod days;
pub mod hash_chain;
pub mod history;
pub mod month_close;
pub mod months;
pub mod past_checks;
pub mod payments;
pub mod purchases;
pub mod receipt;
pub mod reconcile;
pub mod refunds;
pub mod spending;
pub mod statement;
pub mod top_up;
