//! What tells one face from another, by SFace. Biometric data: only computed where an event's face search is on.

use crate::{
    eyes::Eyes,
    faces::Face,
    limits::PhotoError,
    picture::{ChannelOrder, Picture},
};

/// 128 numbers of unit length; the cosine of two is their product. 0.45 and more: the same person, most likely.
pub type Embedding = Vec<f32>;

/// Faces narrower than this, in pixels of the full-size photo, say too little about a person.
pub const EMBEDDABLE_WIDTH: f32 = 40.0;

/// Where the landmarks stand in the 112 x 112 pixels that the model was trained on.
const TEMPLATE: [[f32; 2]; 5] = [
    [38.2946, 51.6963],
    [73.5318, 51.5014],
    [56.0252, 71.7366],
    [41.5493, 92.3655],
    [70.7299, 92.2041],
];

impl Eyes {
    /// The embedding of a face of this picture; `None` for a face narrower than [`EMBEDDABLE_WIDTH`].
    ///
    /// # Errors
    /// [`PhotoError::Vision`] when the model refuses the face.
    pub fn embedding(
        &mut self,
        picture: &Picture,
        face: &Face,
    ) -> Result<Option<Embedding>, PhotoError> {
        if face.width < EMBEDDABLE_WIDTH {
            return Ok(None);
        }
        let scale = picture.scale();
        let aligned = picture.frame.warp(
            similarity(face.landmarks.map(|point| point.map(|value| value / scale))),
            112,
            112,
        );
        let input = aligned.planes(ChannelOrder::Rgb, 112, 112, 0.0, 1.0);
        let outputs = self.embedding.run([1, 3, 112, 112], input)?;
        let values = outputs.into_iter().next().map(|output| output.values).unwrap_or_default();
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        if values.len() != 128 || length <= 0.0 || !length.is_finite() {
            return Err(PhotoError::Vision("a face gave no embedding".into()));
        }
        Ok(Some(values.iter().map(|value| value / length).collect()))
    }
}

/// The similarity (scale, turn, shift) that takes the template to these landmarks, by least squares.
fn similarity(landmarks: [[f32; 2]; 5]) -> [[f32; 3]; 2] {
    let mean = |points: &[[f32; 2]; 5], axis: usize| {
        points.iter().map(|point| point[axis]).sum::<f32>() / 5.0
    };
    let from = [mean(&TEMPLATE, 0), mean(&TEMPLATE, 1)];
    let to = [mean(&landmarks, 0), mean(&landmarks, 1)];
    let (mut along, mut across, mut spread) = (0.0, 0.0, 0.0);
    for (template, landmark) in TEMPLATE.iter().zip(&landmarks) {
        let (x, y) = (template[0] - from[0], template[1] - from[1]);
        let (u, v) = (landmark[0] - to[0], landmark[1] - to[1]);
        along += x * u + y * v;
        across += x * v - y * u;
        spread += x * x + y * y;
    }
    let (a, b) = (along / spread, across / spread);
    [[a, -b, to[0] - a * from[0] + b * from[1]], [b, a, to[1] - b * from[0] - a * from[1]]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn landmarks_in_the_places_of_the_template_need_no_change() {
        let matrix = similarity(TEMPLATE);

        let same = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]];
        for (value, want) in matrix.as_flattened().iter().zip(same.as_flattened()) {
            assert!((value - want).abs() < 1e-3, "{value} is not {want}");
        }
    }
}
