//! What a change says to people: a sentence, and the page to look at.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Type, alerts::Kind, mailboxes::Told};
use crate::ledger::credits::Credits;

/// Longest name, and longest value of a detail, in a mail.
const NAME_MAX: usize = 120;

/// Text of others for one line of a mail: no line breaks, no control characters, no marks that turn
/// the direction of what follows, and not too long.
pub fn tame(text: &str) -> String {
    let is_wild = |one: char| {
        one.is_control()
            || matches!(one, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let words: String = text.chars().map(|one| if is_wild(one) { ' ' } else { one }).collect();
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= NAME_MAX {
        return line;
    }
    let cut: String = line.chars().take(NAME_MAX - 1).collect();
    format!("{cut}…")
}

impl Told {
    fn text(&self, field: &str) -> String {
        match &self.data[field] {
            Value::String(text) => tame(text),
            Value::Null => "—".into(),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                tame(&other.to_string())
            }
        }
    }

    fn credits(&self, field: &str) -> Credits {
        Credits(self.data[field].as_i64().unwrap_or_default())
    }

    fn photos(&self) -> String {
        let photos = self.data["photos"].as_i64().unwrap_or_default();
        format!("{} photo{}", Credits(photos), if photos == 1 { "" } else { "s" })
    }

    fn event(&self) -> String {
        let name = self.name.as_deref().map(tame).filter(|name| !name.is_empty());
        name.map_or_else(|| format!("event {}", self.text("event")), |name| format!("“{name}”"))
    }

    /// Whose it is, told to the staff.
    fn whose(&self) -> String {
        let name = self.name.as_deref().map(tame).filter(|_| self.data["event"].is_null());
        name.map(|name| format!(" of “{name}”")).unwrap_or_default()
    }

    fn operation(&self) -> String {
        match self.data["operation"].as_str() {
            Some("photo_processing") => "Photo Processing".into(),
            Some("ai_rotation") => "AI Rotation".into(),
            _ => self.text("operation"),
        }
    }

    /// What happened, as a sentence without its full stop.
    pub fn sentence(&self) -> String {
        let (event, photos, operation) = (self.event(), self.photos(), self.operation());
        let (run, actor, whose) = (self.text("run"), self.text("actor"), self.whose());
        match self.kind {
            Type::RunQueued => format!("{actor} queued {photos} of {event} for {operation}"),
            Type::RunStarted => format!("Run {run} of {event} has started ({operation})"),
            Type::RunFinished => format!("Run {run} of {event} is done: {photos} ({operation})"),
            Type::RunCancelled => {
                format!("{actor} cancelled run {run} of {event}: {photos} were taken back")
            }
            Type::RunUndone => {
                format!("{actor} took back what was done last to run {run} of {event}")
            }
            Type::PhotoProcessed => format!("Photos of {event} were settled"),
            Type::EventPaused => format!("{event} is paused: {} ({operation})", self.pause()),
            Type::EventResumed => format!("{event} goes on: {} ({operation})", self.resumption()),
            Type::EventFinished => format!("{event} is done: {photos} in all ({operation})"),
            Type::EventHeld => format!("{actor} holds {event} ({operation})"),
            Type::EventLifted if self.data["cause"] == "expiry" => {
                format!("A hold on {event} has ended ({operation})")
            }
            Type::EventLifted => format!("{actor} lifted a hold on {event} ({operation})"),
            Type::EventDeleted => format!("{actor} deleted {event}"),
            Type::CreditsAdded => self.top_up(),
            Type::PurchaseAsked => format!(
                "A purchase of {} credits by {actor}{whose} waits for {}",
                self.credits("credits"),
                if self.data["state"] == "unpaid" { "its payment" } else { "approval" }
            ),
            Type::PurchaseDecided => format!(
                "A purchase of {} credits by {actor}{whose} {}",
                self.credits("credits"),
                self.decision()
            ),
            Type::PaymentKept => format!(
                "Payment {}{whose} cannot become credits: {}",
                self.text("payment"),
                self.text("reason").replace('_', " ")
            ),
            Type::AutoTopUpStopped => format!(
                "The automatic top-up{whose} has stopped: {}",
                self.text("reason").replace('_', " ")
            ),
            Type::WebhookDisabled => format!(
                "Webhook {} {}, and is disabled",
                self.text("webhook"),
                if self.data["reason"] == "gone" {
                    "said that nobody is there any more"
                } else {
                    "did not answer for three days"
                }
            ),
            Type::AlertRaised => {
                let missing = self.credits("credits_missing");
                let more = if missing.0 > 0 {
                    format!("; {missing} credits more are needed for all photos that wait")
                } else {
                    String::new()
                };
                format!("Alert: {}{more}", self.rule())
            }
            Type::AlertCleared => format!("The alert is over that was raised when {}", self.rule()),
            Type::WebhookPing => format!("{actor} tries webhook {}", self.text("webhook")),
        }
    }

    fn pause(&self) -> &'static str {
        match self.data["cause"].as_str() {
            Some("budget") => "its budget is used up",
            Some("adjustment") => "staff took credits out, and none can be spent",
            _ => "no credits can be spent",
        }
    }

    fn resumption(&self) -> &'static str {
        match self.data["cause"].as_str() {
            Some("top_up") => "credits came in",
            Some("refund") => "credits came back",
            Some("lift") => "a hold was lifted",
            Some("expiry") => "a hold has ended",
            Some("budget") => "a budget was changed",
            _ => "credits can be spent",
        }
    }

    fn top_up(&self) -> String {
        let (credits, actor) = (self.credits("credits"), self.text("actor"));
        if credits.0 < 0 {
            return format!("{actor} took {} credits out", Credits(-credits.0));
        }
        let how = match self.data["kind"].as_str() {
            Some("purchase") => "bought by",
            Some("admin_grant" | "free_credits") => "granted by",
            _ => "added by",
        };
        format!("{credits} credits came in, {how} {actor}")
    }

    fn decision(&self) -> String {
        let by = self.text("decided_by");
        match self.data["state"].as_str() {
            Some("approved") => format!("was approved by {by}"),
            Some("unpaid") => format!("was approved by {by}, and waits for its payment"),
            Some("paid") => "is paid".into(),
            Some("refused") => format!("was refused by {by}"),
            Some("expired") => "has expired: nobody decided it in time".into(),
            Some("failed") => "failed: its payment did not come".into(),
            _ => "was decided".into(),
        }
    }

    fn rule(&self) -> String {
        let kind: Option<Kind> = serde_json::from_value(self.data["kind"].clone()).ok();
        let threshold = self.text("threshold").parse().ok();
        match (kind, threshold) {
            (Some(kind), Some(threshold)) => kind.says(threshold),
            _ => self.text("kind"),
        }
    }

    /// Whether it ends what an earlier change has begun. `mail_changes` in SQL has the same rule.
    fn ends(&self, one: &Self) -> bool {
        let same = |field: &str| self.data[field] == one.data[field];
        self.subject == one.subject
            && match (one.kind, self.kind) {
                (Type::EventPaused, Type::EventResumed) => same("operation"),
                (Type::EventHeld, Type::EventLifted) => same("operation") && same("hold"),
                (Type::EventPaused | Type::EventHeld, Type::EventDeleted)
                | (Type::AlertRaised, Type::AlertCleared) => true,
                _ => false,
            }
    }

    /// What kind of thing happened to what, without a word of others.
    pub fn bare(&self) -> String {
        format!("{} ({})", self.kind.says(), tame(&self.subject))
    }

    /// How urgent it is; the smallest number is read first.
    pub fn rank(&self) -> u8 {
        match self.kind {
            Type::EventPaused | Type::AlertRaised | Type::PaymentKept => 0,
            Type::PurchaseAsked
            | Type::PurchaseDecided
            | Type::AutoTopUpStopped
            | Type::WebhookDisabled => 1,
            Type::EventFinished | Type::RunFinished | Type::EventResumed | Type::EventHeld => 2,
            Type::RunQueued
            | Type::RunStarted
            | Type::RunCancelled
            | Type::RunUndone
            | Type::PhotoProcessed
            | Type::EventLifted
            | Type::EventDeleted
            | Type::CreditsAdded
            | Type::AlertCleared
            | Type::WebhookPing => 3,
        }
    }

    /// The path of the page to look at.
    pub fn page(&self) -> String {
        let event = self.data["event"].as_i64();
        match (self.kind, self.subject.split_once('/')) {
            (Type::EventDeleted, _) => "/events".into(),
            (Type::CreditsAdded, _) => "/credits".into(),
            (Type::AutoTopUpStopped, _) => match self.data["organisation"].as_i64() {
                Some(organisation) => format!("/credits?organisation={organisation}"),
                None => "/credits".into(),
            },
            (_, Some(("purchases" | "payments", _))) => "/purchases".into(),
            (_, Some(("alerts", _))) => "/alerts".into(),
            (Type::WebhookDisabled, Some(("webhooks", id))) if id.parse::<i64>().is_ok() => {
                format!("/webhooks/{id}")
            }
            _ => event.map_or_else(|| "/".into(), |event| format!("/events/{event}")),
        }
    }
}

/// The change that a subject line says: the most urgent one that still holds. A pause is not news
/// after the event has gone on.
pub fn headline(changes: &[Told]) -> Option<&Told> {
    let holding = changes.iter().enumerate().filter(|(at, one)| {
        let mut later = changes[at + 1..].iter();
        !later.any(|later| later.ends(one))
    });
    holding.map(|(_, one)| one).min_by_key(|one| one.rank()).or(changes.last())
}

/// An instant in a time zone (an IANA name), as `14:03 CET, 29 Nov`.
pub fn when(at: DateTime<Utc>, zone: &str) -> String {
    let zone: chrono_tz::Tz = zone.parse().unwrap_or(chrono_tz::UTC);
    at.with_timezone(&zone).format("%H:%M %Z, %-d %b").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(kind: Type, subject: &str, data: Value) -> Told {
        let at = "2026-07-01T12:03:00Z".parse().unwrap();
        Told { position: 1, kind, subject: subject.into(), at, data, name: Some("Gala".into()) }
    }

    #[test]
    fn what_happened_is_a_sentence() {
        let event = json!({ "event": 3, "operation": "photo_processing", "photos": 12_480 });
        for (kind, data, sentence) in [
            (
                Type::EventFinished,
                event.clone(),
                "“Gala” is done: 12,480 photos in all (Photo Processing)",
            ),
            (
                Type::EventPaused,
                json!({ "event": 3, "operation": "ai_rotation", "cause": "spent" }),
                "“Gala” is paused: no credits can be spent (AI Rotation)",
            ),
            (
                Type::CreditsAdded,
                json!({ "credits": -20, "kind": "adjustment", "actor": "staff" }),
                "staff took 20 credits out",
            ),
            (
                Type::AlertRaised,
                json!({ "kind": "low_balance", "threshold": 500, "credits_missing": 40 }),
                "Alert: fewer than 500 credits are available; 40 credits more are needed for all \
                 photos that wait",
            ),
        ] {
            assert_eq!(told(kind, "events/3", data).sentence(), sentence);
        }
    }

    #[test]
    fn every_type_is_a_sentence_even_without_details() {
        for kind in Type::ALL {
            let sentence = told(kind, "x", json!({})).sentence();
            assert!(sentence.len() >= 10 && !sentence.contains("null"), "{sentence}");
        }
    }

    #[test]
    fn a_name_is_one_line_without_tricks() {
        assert_eq!(tame("Gala\r\nBcc: eve@example.org"), "Gala Bcc: eve@example.org");
        assert_eq!(tame("a\u{202e}b\u{0}c\td"), "a b c d");
        assert_eq!(tame(&"x".repeat(500)).chars().count(), NAME_MAX);
    }

    #[test]
    fn a_pause_that_is_over_is_no_headline() {
        let of = json!({ "event": 3, "operation": "photo_processing" });
        let pause = told(Type::EventPaused, "events/3", of.clone());
        let resume = told(Type::EventResumed, "events/3", of.clone());
        let done = told(Type::EventFinished, "events/3", of);
        let all = [pause.clone(), resume.clone(), done.clone()];
        assert_eq!(headline(&all).unwrap().kind, Type::EventResumed);
        assert_eq!(headline(&[resume, pause.clone()]).unwrap().kind, Type::EventPaused);
        let deleted = told(Type::EventDeleted, "events/3", json!({ "event": 3 }));
        assert_eq!(headline(&[pause, deleted]).unwrap().kind, Type::EventDeleted);
        // Two hold it, and one of them has ended that.
        let hold = |kind, hold: i64| {
            let data = json!({ "event": 3, "operation": "photo_processing", "hold": hold });
            told(kind, "events/3", data)
        };
        let lifted = hold(Type::EventLifted, 1);
        let held = [hold(Type::EventHeld, 2), hold(Type::EventHeld, 1), lifted];
        assert_eq!(headline(&held).unwrap(), &held[0]);
        assert!(headline(&[]).is_none());
    }

    #[test]
    fn times_are_those_of_the_organisation() {
        let at = "2026-07-01T12:03:00Z".parse().unwrap();
        assert_eq!(when(at, "Europe/Berlin"), "14:03 CEST, 1 Jul");
        assert_eq!(when(at, "nowhere"), "12:03 UTC, 1 Jul");
    }
}
