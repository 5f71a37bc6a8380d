//! The books, as people read them: what moved, for which photo, why, and that all of it adds up.

pub mod audit;
pub mod chain;
pub mod days;
pub mod history;
pub mod months;
pub mod receipt;
pub mod reconcile;
pub mod reconciliations;
pub mod refunds;
pub mod statement;
