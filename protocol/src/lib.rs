//! An exhaustive model of the gate's protocol: claim, settle, adopt, lease and fence, credit, budget
//! and pause, and photos that people take out, put back or let go first, with everything that may
//! happen in between. Every state that can be reached is visited.
//!
//! Each action is one transaction of the gate (their statements are interleaved, for real, in
//! `tests/it/interleave.rs`), one message, or one misfortune. A failover may lose what was committed, also a
//! top-up: who has paid must say so again, and that is not modelled.
//! A photo that is undecided, a duplicate, or failed is one and the same here: its credit comes back.
//! So are a skip and a cancelled run: its photos are taken out, each of them; and undo puts them back.
//! Misfortunes and people's doings have budgets and everything else moves forward, so no history is
//! endless: what holds in every state from which nothing more can happen, always comes to pass.
//!
//! It is a crate of its own, because a profile can optimise nothing smaller: unoptimised, millions of
//! states take minutes.

#[cfg(test)]
mod model;
