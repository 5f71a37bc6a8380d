//! Where every credit went: what moved, for which photo, why, and the proof that all of it adds up.

pub mod credits;
pub mod days;
pub mod hash_chain;
pub mod history;
pub mod months;
pub mod receipt;
pub mod reconcile;
pub mod reconciliations;
pub mod refunds;
pub mod statement;
pub mod top_up;
