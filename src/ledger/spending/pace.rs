//! How fast photos are claimed at most, and how that is said.

use std::fmt;

use chrono::{NaiveTime, Timelike};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How fast photos are claimed at most, of one event or of all events of an organisation. What is
/// left out has no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "in_flight_max": 8, "photos_per_minute": 600, "quiet_from": "22:00:00", "quiet_to": "06:00:00"
}))]
pub struct Pace {
    /// Photos in progress at the same time, over all workers: 1 to 1,000,000.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub in_flight_max: Option<i32>,
    /// Photos that are claimed in a minute: 1 to 1,000,000. After a pause, those of ten seconds may
    /// be claimed at once.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub photos_per_minute: Option<i32>,
    /// From this time of day on, nothing is claimed, in the organisation's time zone.
    #[schema(value_type = Option<String>)]
    pub quiet_from: Option<NaiveTime>,
    /// Until this time of day; it may be on the next day.
    #[schema(value_type = Option<String>)]
    pub quiet_to: Option<NaiveTime>,
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quiet = self.quiet_from.zip(self.quiet_to);
        let limits = [
            self.in_flight_max.map(|most| format!("{most} in progress")),
            self.photos_per_minute.map(|most| format!("{most} a minute")),
            quiet.map(|(from, to)| {
                format!("quiet from {} to {}", time_of_day(from), time_of_day(to))
            }),
        ];
        let limits: Vec<_> = limits.into_iter().flatten().collect();
        f.write_str(if limits.is_empty() { "no limit" } else { "" })?;
        f.write_str(&limits.join(", "))
    }
}

/// A time of day, with seconds only if it has some.
pub fn time_of_day(time: NaiveTime) -> String {
    time.format(if time.second() == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string()
}
