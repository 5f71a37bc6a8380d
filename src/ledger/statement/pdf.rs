//! A statement as a PDF file, for people: who, which month, the sums, and every line with its
//! balance. It has the lines of the CSV file, which has more columns. A month with very many lines
//! is shown day by day.

mod document;
mod font;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

pub use self::document::PdfError;
use self::document::{Document, HEIGHT, Style, WIDTH};
use super::{Line, Statement, Sums};
use crate::ledger::credits::Credits;

/// More lines than this are shown day by day: on paper, nobody reads 150 pages.
const LINES_MAX: usize = 5_000;

const LEFT: f32 = 42.0;
const RIGHT: f32 = WIDTH - LEFT;
const TOP: f32 = 52.0;
const BOTTOM: f32 = HEIGHT - 54.0;
/// From one line of a row to the next.
const LEADING: f32 = 10.5;
/// Space between two columns.
const GAP: f32 = 8.0;

const TEXT: Style = Style { bold: false, size: 8.0, gray: 0.0 };
const FAINT: Style = Style { gray: 0.38, ..TEXT };
const STRONG: Style = Style { bold: true, ..TEXT };
const HEAD: Style = Style { bold: true, size: 7.5, gray: 0.25 };
const TITLE: Style = Style { bold: true, size: 18.0, gray: 0.0 };
const SUM: Style = Style { bold: true, size: 12.0, gray: 0.0 };

/// A column: its head, its width, and whether it has numbers, which stand at its right edge.
type Column = (&'static str, f32, bool);

const LINES: &[Column] = &[
    ("Date", 84.0, false),
    ("Type", 59.0, false),
    ("For", 160.0, false),
    ("User", 108.0, false),
    ("Credits", 50.0, true),
    ("Balance", 50.0, true),
];

const DAYS: &[Column] = &[
    ("Day", 111.0, false),
    ("Lines", 70.0, true),
    ("Added", 80.0, true),
    ("Charged", 80.0, true),
    ("Refunded", 80.0, true),
    ("Balance", 90.0, true),
];

/// What stands in a cell, line by line.
type Cell = Vec<(Style, String)>;

/// What the lines of a day add up to.
#[derive(Debug)]
struct Day {
    date: NaiveDate,
    lines: usize,
    sums: Sums,
    balance: Credits,
}

/// A file that is collected while its statement is read. It keeps no more lines than it shows.
#[derive(Debug)]
pub struct Pdf {
    zone: Tz,
    lines: Vec<Line>,
    days: Vec<Day>,
}

impl Pdf {
    /// Begins a file.
    pub fn begin(head: &Statement) -> Self {
        let zone = head.time_zone.parse().unwrap_or(chrono_tz::UTC);
        Self { zone, lines: Vec::new(), days: Vec::new() }
    }

    /// Adds lines, oldest first.
    pub fn write(&mut self, lines: &[Line]) {
        for line in lines {
            let date = line.at.with_timezone(&self.zone).date_naive();
            let known = self.days.last_mut().filter(|known| known.date == date);
            let known = match known {
                Some(known) => known,
                None => {
                    let (sums, balance) = (Sums::default(), line.balance);
                    self.days.push(Day { date, lines: 0, sums, balance });
                    let Some(new) = self.days.last_mut() else { continue };
                    new
                }
            };
            known.lines += 1;
            known.sums.add(line);
            known.balance = line.balance;
        }
        // One more than are shown says that there are too many.
        let room = (LINES_MAX + 1).saturating_sub(self.lines.len());
        self.lines.extend(lines.iter().take(room).cloned());
    }

    /// Makes the file.
    ///
    /// # Errors
    /// See [`PdfError`].
    pub fn end(self, head: &Statement) -> Result<Vec<u8>, PdfError> {
        let mut sums = Sums::default();
        for day in &self.days {
            sums.added.0 += day.sums.added.0;
            sums.charged.0 += day.sums.charged.0;
            sums.refunded.0 += day.sums.refunded.0;
        }
        let mut sheet = Sheet::begin(head, self.zone)?;
        sheet.top(sums);
        if self.lines.len() > LINES_MAX {
            let all: usize = self.days.iter().map(|day| day.lines).sum();
            sheet.paragraph(&format!(
                "This month has {} lines, so this file shows its days. The CSV file has every line.",
                Credits(i64::try_from(all).unwrap_or(i64::MAX))
            ));
            sheet.days(&self.days);
        } else {
            sheet.lines(&self.lines);
        }
        sheet.end()
    }
}

/// The pages of a statement, and how far down the last one is filled.
struct Sheet<'a> {
    of: &'a Statement,
    zone: Tz,
    document: Document,
    y: f32,
}

impl<'a> Sheet<'a> {
    fn begin(of: &'a Statement, zone: Tz) -> Result<Self, PdfError> {
        let mut sheet = Self { of, zone, document: Document::new()?, y: 0.0 };
        sheet.turn();
        Ok(sheet)
    }

    /// Begins a page.
    fn turn(&mut self) {
        self.document.add_page();
        self.y = TOP;
    }

    fn page(&self) -> usize {
        self.document.pages().saturating_sub(1)
    }

    fn write(&mut self, x: f32, style: Style, text: &str, right: bool) {
        self.document.text(self.page(), (x, self.y), style, text, right);
    }

    fn instant(&self, at: DateTime<Utc>, format: &str) -> String {
        at.with_timezone(&self.zone).format(format).to_string()
    }

    fn month(&self) -> String {
        self.of.month.format("%B %Y").to_string()
    }

    /// Writes who, which month, and how the opening balance became the closing balance.
    fn top(&mut self, sums: Sums) {
        self.write(LEFT, FAINT, "Statement of credits", false);
        self.y += 12.0;
        for line in self.document.wrap(TITLE, &self.of.name, RIGHT - LEFT, 3) {
            self.y += 10.0;
            self.write(LEFT, TITLE, &line, false);
            self.y += 13.0;
        }
        self.y += 8.0;
        self.write(LEFT, SUM, &self.month(), false);
        let closed = if self.of.closed { "Closed" } else { "Running" };
        self.write(RIGHT, SUM, closed, true);
        self.y += 14.0;
        let (from, to) = (self.of.begins_at, self.of.ends_at);
        let full = "%Y-%m-%d %H:%M %Z";
        let about = format!(
            "Organisation {}. Times are those of {}. The month is from {} until {}.",
            self.of.organisation,
            self.of.time_zone,
            self.instant(from, full),
            self.instant(to, full)
        );
        self.paragraph(&about);
        let made = self.instant(self.of.made_at, "%Y-%m-%d %H:%M:%S %Z");
        let exact = self.of.made_at.format("%Y-%m-%dT%H:%M:%SZ");
        self.paragraph(&format!("Made at {made} ({exact})."));
        match self.of.reserved {
            None => self.paragraph("Nothing can be booked in this month any more."),
            Some(reserved) => self.paragraph(&format!(
                "The month is not over: lines may be added, and those of today may grow. Credits that are \
                 reserved for photos in progress: {reserved}. They are charged here, and are \
                 refunded if their photos cannot be processed."
            )),
        }
        self.y += 8.0;
        let sums = [
            ("Opening", self.of.opening),
            ("Added", sums.added),
            ("Charged", sums.charged),
            ("Refunded", sums.refunded),
            ("Used", sums.used()),
            ("Closing", self.of.closing),
        ];
        self.document.rule(self.page(), (LEFT, RIGHT), self.y, 0.6);
        self.y += 14.0;
        let mut x = LEFT;
        for (label, _) in &sums {
            self.write(x, FAINT, label, false);
            x += (RIGHT - LEFT) / 6.0;
        }
        self.y += 15.0;
        x = LEFT;
        for (_, credits) in &sums {
            self.write(x, SUM, &credits.to_string(), false);
            x += (RIGHT - LEFT) / 6.0;
        }
        self.y += 12.0;
        self.paragraph(
            "Opening + Added – Used = Closing. Used is what was charged and not refunded.",
        );
        self.document.rule(self.page(), (LEFT, RIGHT), self.y - 4.0, 0.6);
        self.y += 10.0;
    }

    fn paragraph(&mut self, text: &str) {
        for line in self.document.wrap(FAINT, text, RIGHT - LEFT, 4) {
            if self.y > BOTTOM {
                self.turn();
            }
            self.write(LEFT, FAINT, &line, false);
            self.y += LEADING + 1.0;
        }
    }

    /// Writes the heads of a table.
    fn heads(&mut self, columns: &[Column]) {
        self.y += 8.0;
        let cells = columns.iter().map(|(head, ..)| vec![(HEAD, (*head).to_owned())]);
        self.cells(columns, &cells.collect::<Vec<_>>());
        self.document.rule(self.page(), (LEFT, RIGHT), self.y + 3.5, 0.4);
        self.y += LEADING + 3.0;
    }

    /// Writes the first lines of cells at `y`, and the others below.
    fn cells(&mut self, columns: &[Column], cells: &[Cell]) {
        let (page, y) = (self.page(), self.y);
        let mut x = LEFT;
        for ((_, width, number), cell) in columns.iter().zip(cells) {
            let at = if *number { x + width } else { x };
            let mut below = y;
            for (style, text) in cell {
                // A number is never cut.
                let fitting = if *number {
                    text.clone()
                } else {
                    self.document.fit(*style, text, width - GAP)
                };
                self.document.text(page, (at, below), *style, &fitting, *number);
                below += LEADING;
            }
            x += width;
        }
    }

    /// Writes a row, on a new page with the heads again if there is no room.
    fn row(&mut self, columns: &[Column], cells: &[Cell]) {
        let lines = cells.iter().map(Vec::len).max().unwrap_or(1);
        let height = (0..lines).map(|_| LEADING).sum::<f32>() + 4.0;
        if self.y + height - LEADING > BOTTOM {
            self.turn();
            self.heads(columns);
        }
        self.cells(columns, cells);
        self.document.rule(self.page(), (LEFT, RIGHT), self.y + height - LEADING + 1.0, 0.85);
        self.y += height + 1.0;
    }

    /// Writes a row that says what the balance was.
    fn edge(&mut self, columns: &[Column], date: String, what: &str, balance: Credits) {
        let mut cells = vec![Cell::new(); columns.len()];
        cells[0] = vec![(TEXT, date)];
        cells[1] = vec![(STRONG, what.to_owned())];
        if let Some(last) = cells.last_mut() {
            *last = vec![(STRONG, balance.to_string())];
        }
        self.row(columns, &cells);
    }

    fn opening(&mut self, columns: &[Column]) {
        self.heads(columns);
        let from = self.instant(self.of.begins_at, "%Y-%m-%d %H:%M");
        self.edge(columns, from, "Opening", self.of.opening);
    }

    fn closing(&mut self, columns: &[Column]) {
        let at = if self.of.closed { self.of.ends_at } else { self.of.made_at };
        let at = self.instant(at, "%Y-%m-%d %H:%M");
        self.edge(columns, at, "Closing", self.of.closing);
    }

    fn lines(&mut self, lines: &[Line]) {
        self.opening(LINES);
        for line in lines {
            let mut date = vec![(TEXT, self.instant(line.at, "%Y-%m-%d %H:%M"))];
            if line.growing {
                date.push((FAINT, "today so far".to_owned()));
            }
            let mut user = Cell::new();
            for part in self.document.wrap(TEXT, &line.actor, LINES[3].1 - GAP, 2) {
                user.push((TEXT, part));
            }
            let cells = [
                date,
                vec![(TEXT, line.kind.name().to_owned())],
                self.purpose(line),
                user,
                vec![(TEXT, signed(line.credits))],
                vec![(TEXT, line.balance.to_string())],
            ];
            self.row(LINES, &cells);
        }
        self.closing(LINES);
    }

    /// What a line is for: the event and its run, or the note and the price.
    fn purpose(&self, line: &Line) -> Cell {
        let width = LINES[2].1 - GAP;
        let name = line.event_name.as_deref().or(line.note.as_deref()).unwrap_or_default();
        let mut cell: Cell = Vec::new();
        for part in self.document.wrap(TEXT, name, width, 2) {
            cell.push((TEXT, part));
        }
        let mut detail = Vec::new();
        if let Some(operation) = line.operation {
            detail.push(operation.to_string());
        }
        if let Some(run) = line.run {
            detail.push(format!("run {run}"));
        }
        if let (Some(price), Some(currency)) = (line.price_per_credit, &line.currency) {
            detail.push(format!("{} {currency} per credit", price.normalize()));
        }
        if !detail.is_empty() {
            cell.push((FAINT, detail.join(", ")));
        }
        cell
    }

    fn days(&mut self, days: &[Day]) {
        self.heads(DAYS);
        let from = self.instant(self.of.begins_at, "%Y-%m-%d");
        let cell = |text: String| vec![(TEXT, text)];
        let mut opening = vec![Cell::new(); DAYS.len()];
        opening[0] = vec![(STRONG, format!("Opening, {from}"))];
        opening[5] = vec![(STRONG, self.of.opening.to_string())];
        self.row(DAYS, &opening);
        for day in days {
            let lines = Credits(i64::try_from(day.lines).unwrap_or(i64::MAX));
            let cells = [
                cell(day.date.format("%Y-%m-%d").to_string()),
                cell(lines.to_string()),
                cell(signed(day.sums.added)),
                cell(signed(Credits(-day.sums.charged.0))),
                cell(signed(day.sums.refunded)),
                cell(day.balance.to_string()),
            ];
            self.row(DAYS, &cells);
        }
        let mut closing = opening;
        closing[0] = vec![(STRONG, "Closing".to_owned())];
        closing[5] = vec![(STRONG, self.of.closing.to_string())];
        self.row(DAYS, &closing);
    }

    /// Writes what stands below the table and at the foot of each page, and makes the file.
    fn end(mut self) -> Result<Vec<u8>, PdfError> {
        self.y += 8.0;
        self.paragraph(
            "A run has one line a day, at the time of its last photo. The balance is what was \
             available at that time. Lines of one day may overlap in time.",
        );
        if let Some(seal) = &self.of.sealed_by {
            self.paragraph(&format!("The closing balance is sealed by the link {seal}."));
        }
        if self.document.lacks_letters() {
            self.paragraph(
                "Letters that this file has no font for stand as \u{fffd}: the CSV file has them.",
            );
        }
        let pages = self.document.pages();
        let about = format!("{} · {}", self.of.name, self.month());
        let about = self.document.fit(FAINT, &about, RIGHT - LEFT - 80.0);
        for page in 0..pages {
            let y = HEIGHT - 30.0;
            self.document.text(page, (LEFT, y), FAINT, &about, false);
            let number = format!("Page {} of {pages}", page + 1);
            self.document.text(page, (RIGHT, y), FAINT, &number, true);
        }
        let title = format!("Statement of {}, {}", self.of.name, self.month());
        self.document.finish(&title, self.of.made_at)
    }
}

fn signed(credits: Credits) -> String {
    if credits.0 > 0 { format!("+{credits}") } else { credits.to_string() }
}
