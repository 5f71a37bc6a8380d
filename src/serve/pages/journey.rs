//! The picture of an event's timeline: one axis of time, and a lane for each operation.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};

use super::layout;
use crate::{
    ledger::credits::Credits,
    queue::{
        failures::Group,
        timeline::{Kind, Lane, Stop},
    },
};

/// The heights of a lane and of the axis, in pixels. The width is that of the page.
const LANE: usize = 64;
const AXIS: usize = 26;

/// Marks that are nearer than this share of the width are drawn as one.
const NEAR: f64 = 0.024;

/// What a mark shows, the most important last: the others under one mark are in its title.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Other,
    Started,
    Queued,
    Done,
    ToppedUp,
    Failed,
}

impl Mark {
    const ALL: [Self; 6] =
        [Self::Queued, Self::Started, Self::ToppedUp, Self::Failed, Self::Done, Self::Other];

    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Queued => Self::Queued,
            Kind::Started => Self::Started,
            Kind::Finished | Kind::Drained => Self::Done,
            Kind::Resumed => Self::ToppedUp,
            Kind::Paused
            | Kind::Held
            | Kind::Lifted
            | Kind::Deleted
            | Kind::Budget
            | Kind::Class
            | Kind::Pace
            | Kind::Order
            | Kind::Weight
            | Kind::Cancelled
            | Kind::First
            | Kind::Undone => Self::Other,
        }
    }

    /// Its sign, its class, and its name.
    fn shown(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Queued => ("+", "mark", "Queued"),
            Self::Started => ("▸", "mark", "Started"),
            Self::ToppedUp => ("↑", "done", "Topped up, resumed"),
            Self::Failed => ("!", "bad", "Failed"),
            Self::Done => ("✓", "done", "Done"),
            Self::Other => ("•", "mark", "Changed"),
        }
    }
}

/// Draws the lanes, one below the other, over the same time. `failures` are marked where the last of
/// them was.
pub(super) fn picture(
    lanes: &[Lane],
    failures: &[Group],
    (from, until): (DateTime<Utc>, DateTime<Utc>),
    zone: &str,
) -> Markup {
    let instants = lanes.iter().flat_map(|lane| {
        let bands = lane.bands.iter().flat_map(|band| [band.from, band.to]);
        bands.chain(lane.marks.iter().map(|(at, _)| *at))
    });
    let (from, until) =
        instants.fold((from, until), |(from, until), at| (from.min(at), until.max(at)));
    let axis = Axis { from, length: (until - from).max(TimeDelta::milliseconds(1)), zone };
    let height = lanes.len() * LANE + AXIS;
    html! {
        section.journey aria-label="Picture" {
            svg width="100%" height=(height) role="img" {
                title { @for lane in lanes { (summary(lane, failures)) ". " } }
                @for part in 0..=4u8 { (axis.tick(part, height)) }
                @for (lane, top) in lanes.iter().zip((0..).step_by(LANE)) {
                    (drawn(lane, failures, &axis, top))
                }
            }
            div.row.faint {
                @for mark in Mark::ALL {
                    @let (sign, class, name) = mark.shown();
                    span { b class={ "sign " (class) } { (sign) } " " (name) }
                }
                span.key.paused { "Paused (above the line)" } span.key.held { "Held (below it)" }
            }
        }
    }
}

/// The time that the picture covers.
struct Axis<'a> {
    from: DateTime<Utc>,
    length: TimeDelta,
    zone: &'a str,
}

impl Axis<'_> {
    /// Where an instant is, from 0 to 1.
    fn share(&self, at: DateTime<Utc>) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
        let of = |time: TimeDelta| time.num_milliseconds() as f64;
        (of(at - self.from) / of(self.length)).clamp(0.0, 1.0)
    }

    /// A line at a quarter of the width, with its time.
    fn tick(&self, part: u8, height: usize) -> Markup {
        let at = self.from + self.length * i32::from(part) / 4;
        let local = at.with_timezone(&layout::zone(self.zone));
        let form = match self.length {
            length if length < TimeDelta::minutes(10) => "%H:%M:%S",
            length if length < TimeDelta::hours(20) => "%H:%M",
            length if length < TimeDelta::days(4) => "%-d %b, %H:%M",
            _ => "%-d %b %Y",
        };
        let x = percent(f64::from(part) / 4.0);
        let anchor = match part {
            0 => "start",
            1..=3 => "middle",
            _ => "end",
        };
        html! {
            line.tick x1=(x) x2=(x) y1="0" y2=(height - AXIS) {}
            text.faint.between[!part.is_multiple_of(4) && part != 2] x=(x) y=(height - 6) text-anchor=(anchor) {
                (local.format(form))
            }
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.2}%", 100.0 * share)
}

fn drawn(lane: &Lane, failures: &[Group], axis: &Axis<'_>, top: usize) -> Markup {
    // The marks that are near each other, by where the first of them is.
    let mut near: BTreeMap<i64, Vec<(DateTime<Utc>, Mark, String)>> = BTreeMap::new();
    let happened = lane.marks.iter().map(|(at, kind)| {
        let mark = Mark::of(*kind);
        (*at, mark, mark.shown().2.to_owned())
    });
    let failed = failures.iter().filter(|group| group.operation == lane.operation).map(|group| {
        let says = format!("{} failed: {}", Credits(group.photos), group.reason.replace('_', " "));
        (group.last_at, Mark::Failed, says)
    });
    for one in happened.chain(failed) {
        #[expect(clippy::cast_possible_truncation, reason = "from 0 to 50")]
        let place = (axis.share(one.0) / NEAR) as i64;
        near.entry(place).or_default().push(one);
    }
    let line = top + 40;
    html! {
        text.name x="0" y=(top + 14) { (lane.operation.name()) }
        line.track x1="0" x2="100%" y1=(line) y2=(line) {}
        @for band in &lane.bands {
            @let (from, to) = (axis.share(band.from), axis.share(band.to));
            @let (class, y) = match band.stop {
                Stop::Paused => ("paused", line - 8),
                Stop::Held => ("held", line),
            };
            rect class=(class) x=(percent(from)) y=(y) width=(percent((to - from).max(0.002)))
                height="8" {}
        }
        @for marks in near.values() { (together(marks, axis, line)) }
    }
}

/// One mark for several that are near each other.
fn together(marks: &[(DateTime<Utc>, Mark, String)], axis: &Axis<'_>, line: usize) -> Markup {
    let Some((at, mark, _)) = marks.iter().max_by_key(|(_, mark, _)| *mark) else {
        return html! {};
    };
    let (sign, class, _) = mark.shown();
    let x = percent(axis.share(*at).clamp(0.012, 0.988));
    html! {
        g class=(class) {
            title {
                @for (nth, (_, _, says)) in marks.iter().take(5).enumerate() {
                    @if nth > 0 { ", " } (says)
                }
                @if marks.len() > 5 { ", and " (marks.len() - 5) " more" }
            }
            circle cx=(x) cy=(line) r="9" {}
            text x=(x) y=(line + 5) text-anchor="middle" { (sign) }
        }
    }
}

/// What the lane shows, for those who do not see it.
fn summary(lane: &Lane, failures: &[Group]) -> String {
    let count = |stop| lane.bands.iter().filter(|band| band.stop == stop).count();
    let of_kind = |mark| lane.marks.iter().filter(|(_, kind)| Mark::of(*kind) == mark).count();
    let failed: i64 = failures
        .iter()
        .filter(|group| group.operation == lane.operation)
        .map(|group| group.photos)
        .sum();
    format!(
        "{}: queued {} times, paused {} times, topped up {} times, held {} times, done {} times, {} photos \
         failed",
        lane.operation.name(),
        of_kind(Mark::Queued),
        count(Stop::Paused),
        of_kind(Mark::ToppedUp),
        count(Stop::Held),
        of_kind(Mark::Done),
        Credits(failed)
    )
}
