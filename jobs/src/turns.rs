//! Asks the network for orientation which way is up. `training/` says how it was made.

use crate::{
    eyes::Eyes,
    limits::PhotoError,
    orientation::Turn,
    picture::{ChannelOrder, Frame, vision},
};

/// Side, in pixels, of the square that the network sees.
const SIDE: u32 = 224;
/// The longest shape that the network sees, as a fraction. Of a longer picture, it sees the middle.
const SHAPE_MAX: (u32, u32) = (4, 3);
/// Divides the network's answer, so that its confidence is the share of answers that are right.
/// `training/calibration.py` computes it from photos that the network was not trained on.
const TEMPERATURE: f32 = 1.22;
/// What the network was trained with: values from -1 to 1.
const MEAN: f32 = 127.0;
const FACTOR: f32 = 1.0 / 128.0;

impl Eyes {
    /// Returns how likely it is that the picture needs each turn, in the order of [`Turn::ALL`].
    ///
    /// The network sees the picture in all four turns. Each is asked how far it is turned, and the
    /// answers are put together: a mistake in one turn is seldom made in the others.
    pub(crate) fn turns(&mut self, frame: &Frame) -> Result<[f32; 4], PhotoError> {
        let square = middle(frame).resized(SIDE, SIDE);
        let side = SIDE as usize;
        let planes: Vec<f32> = Turn::ALL
            .into_iter()
            .flat_map(|turn| {
                square.turned(turn).planes(ChannelOrder::Rgb, SIDE, SIDE, MEAN, FACTOR)
            })
            .collect();
        let outputs = self.upright.run([4, 3, side, side], planes)?;
        let logits = outputs.first().map_or(&[][..], |output| &output.values);
        let logits = <&[f32; 16]>::try_from(logits).map_err(vision)?;
        Ok(together(logits))
    }
}

/// The middle of the picture, in a shape that is at most 4:3.
fn middle(frame: &Frame) -> Frame {
    let longest = |short: u32| (short * SHAPE_MAX.0 / SHAPE_MAX.1).max(1);
    let width = frame.width().min(longest(frame.height()));
    let height = frame.height().min(longest(frame.width()));
    if (width, height) == (frame.width(), frame.height()) {
        return frame.clone();
    }
    frame.part((frame.width() - width) / 2, (frame.height() - height) / 2, width, height)
}

/// One answer from four: the mean of the logarithms of their probabilities.
///
/// `logits` has four values for each of the four turns that were shown: for each number of
/// quarters, how much it looks turned by them. What looks turned by one quarter needs three.
fn together(logits: &[f32; 16]) -> [f32; 4] {
    let mut needed = [0.0; 4];
    for (shown, logits) in logits.chunks_exact(4).enumerate() {
        let sum = log_sum(logits);
        for (seen, logit) in logits.iter().enumerate() {
            needed[(4 + shown - seen) % 4] += (logit - sum) / (4.0 * TEMPERATURE);
        }
    }
    let sum = log_sum(&needed);
    needed.map(|value| (value - sum).exp())
}

/// The logarithm of the sum of exponentials, without an overflow.
fn log_sum(values: &[f32]) -> f32 {
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    most + values.iter().map(|value| (value - most).exp()).sum::<f32>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_answers_that_agree_are_one_answer() {
        // The picture lies a quarter to the right: in turn, it looks turned by 1, 2, 3 and 0.
        let mut logits = [0.0; 16];
        for (shown, seen) in [1, 2, 3, 0].into_iter().enumerate() {
            logits[4 * shown + seen] = 8.0;
        }

        let needed = together(&logits);

        assert!(needed[3] > 0.9, "three quarters more: {needed:?}");
        assert!((needed.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn answers_that_contradict_each_other_are_unsure() {
        let mut logits = [0.0; 16];
        for shown in 0..4 {
            // It looks upright whatever was done to it.
            logits[4 * shown] = 8.0;
        }

        assert!(together(&logits).iter().all(|share| (share - 0.25).abs() < 1e-3));
    }

    #[test]
    fn the_middle_is_at_most_four_to_three() {
        let sides = |width, height| {
            let middle = middle(&Frame(image::RgbImage::new(width, height)));
            (middle.width(), middle.height())
        };

        assert_eq!(sides(1600, 900), (1200, 900));
        assert_eq!(sides(900, 1600), (900, 1200));
        assert_eq!(sides(640, 480), (640, 480));
        assert_eq!(sides(1600, 1), (1, 1));
    }
}
