//! Reads one line of text, as often as it takes to be sure of it.

use serde::{Deserialize, Serialize};

use crate::{
    bibs,
    ctc::{self, Spelled},
    eyes::{Eyes, Output, Reader},
    limits::PhotoError,
    picture::{ChannelOrder, Frame},
    slant::{LINE_HEIGHT, LINE_WIDTH_MAX, Slant},
};

/// What one model read in a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The text as the model read it, unchanged: characters of ASCII.
    pub text: String,
    /// Confidence in the reading, from 0 to 1: the mean over the characters.
    pub score: f32,
    /// What else the line may say, with the probability of each text, from 0 to 1. The likeliest is
    /// first. Empty where the readings decided quickly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<(String, f32)>,
}

/// Largest number of readings of one line.
pub const READINGS_MAX: usize = 4;
/// Largest length of a reading, in bytes. A model says one character for each 8 pixels of a line.
pub const READING_MAX: usize = LINE_WIDTH_MAX as usize / 8;

/// The second crop of a line is longer by this many heights at each end: a box often cuts off a
/// part of the first or last digit.
const LONGER: f32 = 0.3;
/// A quick reading with a lower score is no text.
const SCORE_MIN: f32 = 0.3;
/// One character with a lower score is no text, ...
const LONE_SCORE_MIN: f32 = 0.5;
/// ... nor is one whose box is not this much wider than high.
const LONE_RATIO_MIN: f32 = 1.1;
/// Two quick readings decide if they are the same number, and no character of the first ...
const SURE: f32 = 0.97;
/// ... or of the second, on the longer crop, has a lower score.
const SURE_LONGER: f32 = 0.9;
/// Two quick readings of which none is a number decide that there is none, if both have a lower
/// score.
const NO_NUMBER: f32 = 0.7;
/// The careful reading saw no digit: that decides, if the quick one had a lower score.
const NO_DIGIT: f32 = 0.8;
/// Three readings that agree decide, if the careful one has at least this score.
const AGREED: f32 = 0.98;

impl Eyes {
    /// Reads a line in steps: first with the quick model, which decides most lines, then with the
    /// careful one. `None`: this is no line with a digit in it.
    pub(crate) fn readings(
        &mut self,
        frame: &Frame,
        slant: &Slant,
    ) -> Result<Option<Vec<Reading>>, PhotoError> {
        let crop = slant.crop(frame);
        let quick = self.quick_reader.read(&crop)?;
        let is_lone = bibs::characters(&quick.text).is_none_or(|text| text.len() < 2);
        let is_square = slant.width < LONE_RATIO_MIN * slant.height;
        if !quick.has_digit()
            || quick.mean() < SCORE_MIN
            || is_lone && (quick.mean() < LONE_SCORE_MIN || is_square)
        {
            return Ok(None);
        }
        let longer = slant.longer(LONGER).crop(frame);
        let quick_longer = self.quick_reader.read(&longer)?;
        let is_number = |read: &Spelled| bibs::number(&read.text).is_some();
        if quick.says_the_same_as(&quick_longer)
            && is_number(&quick)
            && quick.weakest() >= SURE
            && quick_longer.weakest() >= SURE_LONGER
        {
            return Ok(Some(vec![quick.alone(), quick_longer.alone()]));
        }
        let best = quick.mean().max(quick_longer.mean());
        if !is_number(&quick) && !is_number(&quick_longer) && best < NO_NUMBER {
            return Ok(None);
        }
        let careful = self.careful_reader.read(&crop)?;
        if !careful.has_digit() && quick.mean() < NO_DIGIT {
            return Ok(None);
        }
        let agree = quick.says_the_same_as(&careful) && quick.says_the_same_as(&quick_longer);
        let is_decided = agree && careful.mean() >= AGREED;
        let mut readings = vec![quick.into(), careful.into(), quick_longer.into()];
        if !is_decided {
            readings.push(self.careful_reader.read(&longer)?.into());
        }
        Ok(Some(readings))
    }

    /// Reads a line once, with the careful model.
    pub(crate) fn recognise(
        &mut self,
        frame: &Frame,
        slant: &Slant,
    ) -> Result<Reading, PhotoError> {
        Ok(self.careful_reader.read(&slant.crop(frame))?.into())
    }
}

impl Reader {
    /// Reads a line that was cut out and straightened.
    fn read(&mut self, crop: &Frame) -> Result<Spelled, PhotoError> {
        let width = crop.width().max(LINE_HEIGHT).next_multiple_of(16);
        // The rest after the line is neutral grey, as in the model's training.
        let mut input = vec![0.0; 3 * (LINE_HEIGHT * width) as usize];
        let planes = crop.planes(ChannelOrder::Bgr, crop.width(), LINE_HEIGHT, 127.5, 1.0 / 127.5);
        for (to, from) in
            input.chunks_exact_mut(width as usize).zip(planes.chunks_exact(crop.width() as usize))
        {
            to[..from.len()].copy_from_slice(from);
        }
        let outputs = self.model.run([1, 3, LINE_HEIGHT as usize, width as usize], input)?;
        let output = outputs.into_iter().next();
        let nothing = Output { shape: Vec::new(), values: Vec::new() };
        Ok(ctc::spell(&output.unwrap_or(nothing), &self.alphabet))
    }
}

impl Spelled {
    /// The reading without what else the line may say.
    fn alone(self) -> Reading {
        Reading { others: Vec::new(), ..self.into() }
    }

    fn has_digit(&self) -> bool {
        self.text.contains(|c: char| c.is_ascii_digit())
    }

    /// Whether both have the same letters and digits.
    fn says_the_same_as(&self, other: &Self) -> bool {
        bibs::characters(&self.text) == bibs::characters(&other.text)
    }

    fn weakest(&self) -> f32 {
        self.scores.iter().copied().reduce(f32::min).unwrap_or(0.0)
    }

    fn mean(&self) -> f32 {
        let count = u16::try_from(self.scores.len()).unwrap_or(u16::MAX);
        self.scores.iter().sum::<f32>() / f32::from(count.max(1))
    }
}

impl From<Spelled> for Reading {
    fn from(spelled: Spelled) -> Self {
        Self { score: spelled.mean(), text: spelled.text, others: spelled.others }
    }
}
