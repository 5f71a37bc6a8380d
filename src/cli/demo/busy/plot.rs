//! The plot of the busy scene: who there is, which events, and what happens to each.

use crate::access::Role;

/// An organisation of the scene.
pub(super) struct Club {
    pub(super) name: &'static str,
    pub(super) time_zone: &'static str,
    pub(super) price: &'static str,
    /// Its part of the store.
    pub(super) under: &'static str,
    /// Credits that its people may buy in a month without approval.
    pub(super) purchase_limit: i64,
    /// Its smallest purchase.
    pub(super) bundle: i64,
    pub(super) organiser: &'static str,
}

pub(super) const CLUBS: [Club; 3] = [
    Club {
        name: "Laufwerk Sportfoto",
        time_zone: "Europe/Berlin",
        price: "0.05 EUR",
        under: "laufwerk/",
        purchase_limit: 20_000,
        bundle: 1_000,
        organiser: "anna@laufwerk.example",
    },
    Club {
        name: "Alpine Trail Series",
        time_zone: "Europe/Zurich",
        price: "0.06 CHF",
        under: "alpine/",
        purchase_limit: 10_000,
        bundle: 500,
        organiser: "reto@alpinetrail.example",
    },
    Club {
        name: "Meridian Runners",
        time_zone: "Europe/London",
        price: "0.045 GBP",
        under: "meridian/",
        purchase_limit: 500,
        bundle: 500,
        organiser: "grace@meridian.example",
    },
];

/// The people who are no organisers: e-mail address, role, the organisation that they belong to,
/// and what they see.
pub(super) const PEOPLE: [(&str, Role, Option<usize>, &str); 7] = [
    ("anna@laufwerk.example", Role::Organiser, Some(0), "Credits, events"),
    ("jonas@laufwerk.example", Role::Organiser, Some(0), "The same organisation"),
    ("reto@alpinetrail.example", Role::Organiser, Some(1), "An organisation without credits"),
    ("grace@meridian.example", Role::Organiser, Some(2), "One that waits for an approval"),
    (OPERATOR, Role::Operator, None, "Queues, failures, workers"),
    (FINANCE, Role::Finance, None, "Books, refunds, statements"),
    (STAFF, Role::Staff, None, "Everything"),
];

pub(super) const OPERATOR: &str = "omar@photogate.example";
pub(super) const FINANCE: &str = "fiona@photogate.example";
pub(super) const STAFF: &str = "sam@photogate.example";

/// What happens to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Way {
    /// Its photos are processed.
    Done,
    /// They are turned first.
    Turned,
    /// There are too few credits; more are bought on the next morning.
    RunsDry,
    /// A card was broken: many photos fail.
    Troubled,
    /// The same, and an operator retries them on the next day.
    Retried,
    /// A second run was a mistake, and is cancelled.
    Cancelled,
    /// Its budget is used up.
    Capped,
    /// An operator holds it.
    Held,
    /// It waits for credits.
    Paused,
    /// It is processed now, at a pace.
    Running,
    /// The sample photos themselves, processed at the end.
    Fresh,
    /// Its photos are queued tomorrow.
    Scheduled,
    /// It has no photos yet.
    Empty,
}

/// An event of the scene.
pub(super) struct Race {
    /// The number of its organisation in [`CLUBS`].
    pub(super) club: usize,
    pub(super) name: &'static str,
    pub(super) folder: &'static str,
    /// So many days ago.
    pub(super) days: i64,
    pub(super) photos: usize,
    pub(super) way: Way,
}

const fn race(
    club: usize,
    days: i64,
    name: &'static str,
    folder: &'static str,
    photos: usize,
    way: Way,
) -> Race {
    Race { club, name, folder, days, photos, way }
}

/// How many photos of the event that runs are done when the present begins.
pub(super) const DONE_BEFORE: usize = 180;

/// The events, the oldest first: 40 of them, with 20,000 photos.
pub(super) const RACES: [Race; 40] = [
    race(0, 165, "Hamburg City Run", "hamburg-city-run", 380, Way::Done),
    race(0, 161, "Leipzig Half Marathon", "leipzig-half", 720, Way::Done),
    race(1, 156, "Zermatt Glacier Trail", "zermatt-glacier", 420, Way::Done),
    race(0, 152, "Rostock Harbour 10K", "rostock-harbour", 310, Way::Done),
    race(0, 147, "Dresden Night Run", "dresden-night", 540, Way::Turned),
    race(0, 140, "Spreewald Marathon", "spreewald", 860, Way::RunsDry),
    race(1, 136, "Engadin Lake Run", "engadin-lake", 380, Way::Turned),
    race(0, 133, "Kiel Fjord Run", "kiel-fjord", 290, Way::Done),
    race(0, 126, "Cologne Bridge Run", "cologne-bridges", 640, Way::Done),
    race(0, 119, "Münster Marathon", "muenster", 980, Way::Retried),
    race(0, 112, "Weimar Culture Run", "weimar-culture", 260, Way::Done),
    race(1, 109, "Davos Alpine Marathon", "davos", 610, Way::RunsDry),
    race(0, 105, "Bremen Company Run", "bremen-company", 1_150, Way::Done),
    race(2, 101, "Greenwich 10K", "greenwich", 340, Way::Done),
    race(0, 97, "Harz Trail 35K", "harz-trail", 430, Way::Turned),
    race(0, 90, "Frankfurt Skyline Run", "frankfurt-skyline", 890, Way::RunsDry),
    race(1, 87, "Eiger Vertical K", "eiger-vertical", 240, Way::Done),
    race(0, 83, "Hanover Kids Run", "hanover-kids", 220, Way::Cancelled),
    race(0, 76, "Bonn Rhine Marathon", "bonn-rhine", 1_040, Way::Done),
    race(0, 69, "Usedom Beach Run", "usedom-beach", 350, Way::Done),
    race(1, 65, "Jungfrau Ridge Race", "jungfrau-ridge", 450, Way::Done),
    race(0, 62, "Nuremberg Castle Run", "nuremberg-castle", 580, Way::Retried),
    race(2, 58, "Thames Path 50", "thames-path", 410, Way::Capped),
    race(0, 55, "Erfurt Relay", "erfurt-relay", 410, Way::Done),
    race(0, 47, "Stuttgart Vineyard Run", "stuttgart-vineyard", 670, Way::Done),
    race(1, 44, "Lugano City Trail", "lugano-city", 330, Way::Done),
    race(0, 40, "Lübeck Old Town Mile", "luebeck-mile", 240, Way::Troubled),
    race(0, 33, "Mainz River Run", "mainz-river", 760, Way::Done),
    race(0, 26, "Ulm Danube Half", "ulm-danube", 520, Way::Done),
    race(1, 23, "Säntis Stairs", "saentis-stairs", 210, Way::Troubled),
    race(0, 19, "Berlin Tiergarten 10K", "berlin-tiergarten", 930, Way::Done),
    race(2, 14, "Richmond Park Relay", "richmond-relay", 484, Way::Done),
    race(1, 12, "Verbier Night Trail", "verbier-night", 560, Way::Done),
    race(0, 5, "Göttingen Night Relay", "goettingen-relay", 481, Way::Held),
    race(1, 2, "Gotthard Backyard Ultra", "gotthard-ultra", 720, Way::Paused),
    race(1, 1, "Aletsch Half Marathon", "aletsch-half", 380, Way::Paused),
    race(0, 0, "Berlin City Marathon", "berlin-marathon", 780, Way::Running),
    race(0, 0, "Potsdam Palace Run", "potsdam-palace", 35, Way::Fresh),
    race(0, 0, "Magdeburg Elbe Run", "magdeburg-elbe", 0, Way::Scheduled),
    race(0, 0, "Schwerin Castle Triathlon", "schwerin-castle", 0, Way::Empty),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_large_as_it_says() {
        assert_eq!(RACES.iter().map(|race| race.photos).sum::<usize>(), 20_000);
        assert!(RACES.is_sorted_by_key(|race| -race.days));
    }
}
