//! Pages of text and rules, as PDF. The fonts are parts of Noto Sans (`assets/fonts`), and a file has
//! only the letters that it shows. A letter that they lack is shown as `�`, and the caller is told.

use std::io::Write;

use chrono::{DateTime, Datelike, Timelike, Utc};
use flate2::{Compression, write::ZlibEncoder};
use pdf_writer::{Content, Date, Filter, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

use super::font::Font;

/// The size of A4, in points.
pub(super) const WIDTH: f32 = 595.0;
pub(super) const HEIGHT: f32 = 842.0;

/// Why a file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PdfError {
    /// A font of the program cannot be read.
    #[error("the font {0} cannot be used: install photogate anew")]
    Font(&'static str),
    /// It could not be compressed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// How text looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Style {
    pub(super) bold: bool,
    pub(super) size: f32,
    /// From 0, black, to 1, white.
    pub(super) gray: f32,
}

/// A document, page by page. Places are in points, from the left and from the top.
pub(super) struct Document {
    regular: Font,
    bold: Font,
    pages: Vec<Content>,
}

impl Document {
    pub(super) fn new() -> Result<Self, PdfError> {
        Ok(Self { regular: Font::regular()?, bold: Font::bold()?, pages: Vec::new() })
    }

    pub(super) fn add_page(&mut self) {
        self.pages.push(Content::new());
    }

    pub(super) fn pages(&self) -> usize {
        self.pages.len()
    }

    fn font(&mut self, bold: bool) -> &mut Font {
        if bold { &mut self.bold } else { &mut self.regular }
    }

    /// True if some letters were not in the fonts.
    pub(super) fn lacks_letters(&self) -> bool {
        self.regular.lacks || self.bold.lacks
    }

    pub(super) fn width(&self, style: Style, text: &str) -> f32 {
        let font = if style.bold { &self.bold } else { &self.regular };
        font.width(text) * style.size
    }

    /// Writes text on a page; `y` is its base line. With `right`, it ends at `x`.
    pub(super) fn text(
        &mut self,
        page: usize,
        (x, y): (f32, f32),
        style: Style,
        text: &str,
        right: bool,
    ) {
        let x = if right { x - self.width(style, text) } else { x };
        let glyphs = self.font(style.bold).encode(text);
        let Some(page) = self.pages.get_mut(page) else { return };
        page.begin_text()
            .set_fill_gray(style.gray)
            .set_font(name(style.bold), style.size)
            .next_line(x, HEIGHT - y)
            .show(Str(&glyphs))
            .end_text();
    }

    /// Draws a thin line across a page.
    pub(super) fn rule(&mut self, page: usize, (from, to): (f32, f32), y: f32, gray: f32) {
        if let Some(page) = self.pages.get_mut(page) {
            page.set_stroke_gray(gray).set_line_width(0.5);
            page.move_to(from, HEIGHT - y).line_to(to, HEIGHT - y).stroke();
        }
    }

    /// The text, or as much of it as fits, and an ellipsis.
    pub(super) fn fit(&self, style: Style, text: &str, width: f32) -> String {
        if self.width(style, text) <= width {
            return text.to_owned();
        }
        let mut left = width - self.width(style, "…");
        let fits = |letter: &char| {
            left -= self.width(style, letter.encode_utf8(&mut [0; 4]));
            left >= 0.0
        };
        let mut short: String = text.chars().take_while(fits).collect();
        short.truncate(short.trim_end().len());
        short + "…"
    }

    /// The text in at most so many lines, broken at spaces where there are any.
    pub(super) fn wrap(&self, style: Style, text: &str, width: f32, lines: usize) -> Vec<String> {
        let mut wrapped: Vec<String> = Vec::new();
        for word in text.split_whitespace() {
            // The last line has the rest, as far as it fits.
            let is_last = wrapped.len() == lines;
            match wrapped.last_mut() {
                Some(line) if is_last || self.width(style, &format!("{line} {word}")) <= width => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => wrapped.push(word.to_owned()),
            }
        }
        wrapped.iter().map(|line| self.fit(style, line, width)).collect()
    }

    pub(super) fn finish(self, title: &str, made_at: DateTime<Utc>) -> Result<Vec<u8>, PdfError> {
        let (catalog, tree, info) = (Ref::new(1), Ref::new(2), Ref::new(3));
        let mut next = Ref::new(4);
        let mut pdf = Pdf::new();
        let mut root = pdf.catalog(catalog);
        root.pages(tree);
        root.lang(TextStr("en"));
        root.viewer_preferences().display_doc_title(true);
        root.finish();
        let year = u16::try_from(made_at.year()).unwrap_or(9999);
        let small = |number: u32| u8::try_from(number).unwrap_or(0);
        let date = Date::new(year)
            .month(small(made_at.month()))
            .day(small(made_at.day()))
            .hour(small(made_at.hour()))
            .minute(small(made_at.minute()))
            .second(small(made_at.second()))
            .utc_offset_hour(0);
        pdf.document_info(info)
            .title(TextStr(title))
            .creator(TextStr("photogate"))
            .creation_date(date);
        let regular = self.regular.write(&mut pdf, &mut next)?;
        let bold = self.bold.write(&mut pdf, &mut next)?;
        let mut kids = Vec::new();
        for content in self.pages {
            let (page, text) = (next.bump(), next.bump());
            let squeezed = squeeze(&content.finish())?;
            pdf.stream(text, &squeezed).filter(Filter::FlateDecode);
            let mut page_of = pdf.page(page);
            page_of.media_box(Rect::new(0.0, 0.0, WIDTH, HEIGHT)).parent(tree).contents(text);
            let mut resources = page_of.resources();
            resources.fonts().pair(name(false), regular).pair(name(true), bold);
            resources.finish();
            page_of.finish();
            kids.push(page);
        }
        let count = i32::try_from(kids.len()).unwrap_or(i32::MAX);
        pdf.pages(tree).kids(kids).count(count);
        Ok(pdf.finish())
    }
}

/// The name of a font on the pages.
fn name(bold: bool) -> Name<'static> {
    Name(if bold { b"Bold" } else { b"Text" })
}

pub(super) fn squeeze(bytes: &[u8]) -> Result<Vec<u8>, std::io::Error> {
    let mut squeezed = ZlibEncoder::new(Vec::new(), Compression::default());
    squeezed.write_all(bytes)?;
    squeezed.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: Style = Style { bold: false, size: 10.0, gray: 0.0 };

    #[test]
    fn text_is_broken_at_spaces_and_what_does_not_fit_ends_with_an_ellipsis() {
        let document = Document::new().unwrap();
        let lines = document.wrap(STYLE, "Athletics Club of Lower Saxony", 70.0, 2);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| document.width(STYLE, line) <= 70.0), "{lines:?}");
        assert!(lines[0].starts_with("Athletics") && lines[1].ends_with('…'), "{lines:?}");
        let long = document.wrap(STYLE, &"w".repeat(500), 70.0, 3);
        assert_eq!(long.len(), 1);
        assert!(document.width(STYLE, &long[0]) <= 70.0);
        assert!(document.wrap(STYLE, " \n", 70.0, 3).is_empty());
        assert_eq!(document.fit(STYLE, "short", 70.0), "short");
    }

    #[test]
    fn letters_of_three_scripts_are_there_and_the_lack_of_others_is_told() {
        let mut document = Document::new().unwrap();
        document.add_page();
        let text = "Straße Łódź Đà Nẵng Θεσσαλονίκη Волгоград Київ € – “№”…";
        document.text(0, (0.0, 20.0), STYLE, text, false);
        document.text(0, (0.0, 40.0), Style { bold: true, ..STYLE }, text, false);
        assert!(!document.lacks_letters());
        document.text(0, (0.0, 60.0), STYLE, "東京", false);
        assert!(document.lacks_letters());
    }
}
