//! What somebody has decided about how photos are processed, as the timeline tells it.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    ids::EventId,
    ledger::spending::{Class, Order, Pace},
};

/// A decision. What it is not about is null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Decided {
    /// How urgent the event is from then on.
    pub class: Option<Class>,
    /// How fast photos are claimed at most from then on. All limits null: the pace was taken away.
    pub pace: Option<Pace>,
    /// The order in which the organisation's events get its credits from then on.
    pub order: Option<Order>,
    /// Of an order: the events that it names, in this order.
    pub events: Option<Vec<EventId>>,
    /// The organisation's share in a claim from then on.
    pub weight: Option<i32>,
}

impl fmt::Display for Decided {
    /// The decision, after the words that say what it is about.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.class.map(|class| class.code().to_owned()));
        parts.extend(self.weight.map(|weight| weight.to_string()));
        parts.extend(self.order.map(|order| order.says().to_lowercase()));
        if let Some(events) = self.events.as_ref().filter(|events| !events.is_empty()) {
            let events: Vec<_> = events.iter().map(ToString::to_string).collect();
            parts.push(format!("first events {}", events.join(", ")));
        }
        parts.extend(self.pace.map(|pace| pace.to_string()));
        f.write_str(&parts.join("; "))
    }
}
