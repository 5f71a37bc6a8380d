//! A font of which a file has only the letters that it shows.

use std::collections::BTreeMap;

use pdf_writer::{
    Filter, Finish, Name, Pdf, Rect, Ref, Str,
    types::{CidFontType, FontFlags, SystemInfo, UnicodeCmap},
};
use subsetter::GlyphRemapper;
use ttf_parser::{Face, GlyphId};

use super::document::{PdfError, squeeze};

/// What stands for a letter that the font lacks.
const LACKING: char = '\u{fffd}';

const SYSTEM: SystemInfo<'static> =
    SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"Identity"), supplement: 0 };

pub(super) struct Font {
    name: &'static str,
    bytes: &'static [u8],
    face: Face<'static>,
    /// The numbers of the letters in the file.
    used: GlyphRemapper,
    /// What they mean, so that text can be searched and copied.
    letters: BTreeMap<u16, char>,
    /// A letter was asked for that the font lacks.
    pub(super) lacks: bool,
}

impl Font {
    pub(super) fn regular() -> Result<Self, PdfError> {
        let bytes = include_bytes!("../../../../assets/fonts/NotoSans-Regular.ttf");
        Self::read("PHOTOG+NotoSans-Regular", bytes)
    }

    pub(super) fn bold() -> Result<Self, PdfError> {
        let bytes = include_bytes!("../../../../assets/fonts/NotoSans-Bold.ttf");
        Self::read("PHOTOG+NotoSans-Bold", bytes)
    }

    fn read(name: &'static str, bytes: &'static [u8]) -> Result<Self, PdfError> {
        let face = Face::parse(bytes, 0).map_err(|_| PdfError::Font(name))?;
        let (used, letters) = (GlyphRemapper::new(), BTreeMap::new());
        Ok(Self { name, bytes, face, used, letters, lacks: false })
    }

    /// The glyph of a letter, and the letter that it shows. `None`: nothing is shown.
    fn glyph(&self, letter: char) -> Option<(GlyphId, char)> {
        let letter = if letter.is_whitespace() { ' ' } else { letter };
        // Such letters steer the text around them, and would turn lines of ours around.
        let steers = matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
        if letter.is_control() || steers {
            return None;
        }
        let glyph = self.face.glyph_index(letter).map(|glyph| (glyph, letter));
        Some(glyph.unwrap_or((self.face.glyph_index(LACKING).unwrap_or_default(), LACKING)))
    }

    /// The width of a text, in multiples of its size.
    pub(super) fn width(&self, text: &str) -> f32 {
        let glyphs = text.chars().filter_map(|letter| self.glyph(letter));
        glyphs.map(|(glyph, _)| self.advance(glyph)).sum()
    }

    fn advance(&self, glyph: GlyphId) -> f32 {
        let units = f32::from(self.face.units_per_em());
        f32::from(self.face.glyph_hor_advance(glyph).unwrap_or(0)) / units
    }

    /// The text as a page shows it: two bytes a letter.
    pub(super) fn encode(&mut self, text: &str) -> Vec<u8> {
        let mut encoded = Vec::new();
        for letter in text.chars() {
            let Some((glyph, shown)) = self.glyph(letter) else { continue };
            self.lacks |= shown == LACKING;
            let number = self.used.remap(glyph.0);
            self.letters.insert(number, shown);
            encoded.extend(number.to_be_bytes());
        }
        encoded
    }

    /// Writes the font, with the letters that were used.
    pub(super) fn write(self, pdf: &mut Pdf, next: &mut Ref) -> Result<Ref, PdfError> {
        let (font, of_glyphs, about) = (next.bump(), next.bump(), next.bump());
        let (file, meaning) = (next.bump(), next.bump());
        let name = Name(self.name.as_bytes());
        pdf.type0_font(font)
            .base_font(name)
            .encoding_predefined(Name(b"Identity-H"))
            .descendant_font(of_glyphs)
            .to_unicode(meaning);
        let widths: Vec<f32> =
            self.used.remapped_gids().map(|glyph| self.advance(GlyphId(glyph)) * 1000.0).collect();
        let mut glyphs = pdf.cid_font(of_glyphs);
        glyphs
            .subtype(CidFontType::Type2)
            .base_font(name)
            .system_info(SYSTEM)
            .font_descriptor(about)
            .cid_to_gid_map_predefined(Name(b"Identity"));
        glyphs.widths().consecutive(0, widths);
        glyphs.finish();
        let scale = |units: i16| f32::from(units) * 1000.0 / f32::from(self.face.units_per_em());
        let size = self.face.global_bounding_box();
        let corner = |x, y| (scale(x), scale(y));
        let ((left, low), (right, high)) =
            (corner(size.x_min, size.y_min), corner(size.x_max, size.y_max));
        pdf.font_descriptor(about)
            .name(name)
            .flags(FontFlags::SYMBOLIC)
            .bbox(Rect::new(left, low, right, high))
            .italic_angle(0.0)
            .ascent(scale(self.face.ascender()))
            .descent(scale(self.face.descender()))
            .cap_height(scale(self.face.capital_height().unwrap_or(self.face.ascender())))
            .stem_v(80.0)
            .font_file2(file);
        let part =
            subsetter::subset(self.bytes, 0, &self.used).map_err(|_| PdfError::Font(self.name))?;
        let length = i32::try_from(part.len()).unwrap_or(i32::MAX);
        let squeezed = squeeze(&part)?;
        pdf.stream(file, &squeezed).filter(Filter::FlateDecode).pair(Name(b"Length1"), length);
        let mut letters = UnicodeCmap::new(Name(b"Letters"), SYSTEM);
        for (number, letter) in &self.letters {
            letters.pair(*number, *letter);
        }
        pdf.cmap(meaning, &letters.finish());
        Ok(font)
    }
}
