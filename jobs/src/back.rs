//! Maps places on a turned photo back to the photo before the turn.

use crate::{
    faces::Face,
    orientation::Turn,
    picture::{Picture, to_f32},
    text::Line,
};

/// The way back from a turned picture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Back {
    /// The clockwise turn that is undone.
    turn: Turn,
    /// Width of the picture before the turn.
    width: f32,
    /// Height of the picture before the turn.
    height: f32,
}

impl Back {
    /// The way back to a picture of this size.
    pub(crate) fn to(width: u32, height: u32, turn: Turn) -> Self {
        Self { turn, width: to_f32(width), height: to_f32(height) }
    }

    /// Maps a point.
    pub(crate) fn point(self, [x, y]: [f32; 2]) -> [f32; 2] {
        match self.turn {
            Turn::None => [x, y],
            Turn::Quarter => [y, self.height - x],
            Turn::Half => [self.width - x, self.height - y],
            Turn::ThreeQuarters => [self.width - y, x],
        }
    }

    /// Maps a box: left, top, width and height.
    fn area(self, [x, y, width, height]: [f32; 4]) -> [f32; 4] {
        let (one, other) = (self.point([x, y]), self.point([x + width, y + height]));
        let size = |axis: usize| (one[axis] - other[axis]).abs();
        [one[0].min(other[0]), one[1].min(other[1]), size(0), size(1)]
    }
}

impl Face {
    /// The same face on `picture`. It was seen on [`Picture::turned`] with this turn.
    #[must_use]
    pub fn before(self, turn: Turn, picture: &Picture) -> Self {
        let back = Back::to(picture.width, picture.height, turn);
        let [x, y, width, height] = back.area([self.x, self.y, self.width, self.height]);
        let landmarks = self.landmarks.map(|point| back.point(point));
        Self { x, y, width, height, score: self.score, landmarks }
    }
}

impl Line {
    /// The same line on `picture`. It was seen on [`Picture::turned`] with this turn.
    #[must_use]
    pub fn before(self, turn: Turn, picture: &Picture) -> Self {
        let back = Back::to(picture.width, picture.height, turn);
        let [x, y, width, height] = back.area([self.x, self.y, self.width, self.height]);
        Self { x, y, width, height, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Frame;

    /// A black picture with one white rectangle at left, top, width, height.
    fn marked([left, top, width, height]: [u32; 4]) -> Picture {
        let mut image = image::RgbImage::new(40, 20);
        for (x, y) in (0..width).flat_map(|x| (0..height).map(move |y| (x, y))) {
            image.put_pixel(left + x, top + y, image::Rgb([255; 3]));
        }
        Picture { frame: Frame(image), width: 40, height: 20 }
    }

    /// The box of what is white.
    fn mark(picture: &Picture) -> [f32; 4] {
        let white = picture.image().enumerate_pixels().filter(|(.., pixel)| pixel.0[0] > 0);
        let (mut least, mut most) = ([u32::MAX; 2], [0; 2]);
        for (x, y, _) in white {
            least = [least[0].min(x), least[1].min(y)];
            most = [most[0].max(x + 1), most[1].max(y + 1)];
        }
        [least[0], least[1], most[0] - least[0], most[1] - least[1]].map(to_f32)
    }

    fn is_near(values: &[f32], wanted: &[f32]) -> bool {
        values.iter().zip(wanted).all(|(value, want)| (value - want).abs() < 1e-3)
    }

    #[test]
    fn what_is_seen_after_any_turn_is_where_it_was() {
        let before = marked([3, 4, 10, 5]);
        for turn in Turn::ALL {
            let turned = before.turned(turn);
            let swaps = matches!(turn, Turn::Quarter | Turn::ThreeQuarters);
            let size = if swaps { (20, 40) } else { (40, 20) };
            assert_eq!((turned.width, turned.height), size, "{turn:?}");
            let [x, y, width, height] = mark(&turned);
            let line = Line { readings: Vec::new(), x, y, width, height, worn: true };
            let face = Face { x, y, width, height, score: 0.9, landmarks: [[x, y]; 5] };

            let (line, face) = (line.before(turn, &before), face.before(turn, &before));

            for seen in [
                [line.x, line.y, line.width, line.height],
                [face.x, face.y, face.width, face.height],
            ] {
                assert!(is_near(&seen, &[3.0, 4.0, 10.0, 5.0]), "{turn:?}: {seen:?}");
            }
            let corner = match turn {
                Turn::None => [3.0, 4.0],
                Turn::Quarter => [3.0, 9.0],
                Turn::Half => [13.0, 9.0],
                Turn::ThreeQuarters => [13.0, 4.0],
            };
            assert!(face.landmarks.iter().all(|mark| is_near(mark, &corner)), "{turn:?}");
        }
    }
}
