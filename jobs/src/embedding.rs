//! Embeddings of faces, computed by the model SFace.
//!
//! An embedding is biometric data. It is computed only if the event's face search is on.

use crate::{
    eyes::Eyes,
    faces::Face,
    limits::PhotoError,
    picture::{ChannelOrder, Picture},
};

/// An embedding of a face: 128 numbers, of unit length as a vector.
///
/// The cosine of two embeddings is their dot product. A cosine of 0.45 or more most likely means
/// the same person.
pub type Embedding = Vec<f32>;

/// Smallest width of a face that gets an embedding, in pixels of the full-size photo. A narrower
/// face does not show enough to tell people apart.
pub const EMBEDDABLE_WIDTH: f32 = 40.0;

/// Positions of the landmarks in the 112 x 112 pixels that the model was trained on.
const TEMPLATE: [[f32; 2]; 5] = [
    [38.2946, 51.6963],
    [73.5318, 51.5014],
    [56.0252, 71.7366],
    [41.5493, 92.3655],
    [70.7299, 92.2041],
];

impl Eyes {
    /// Computes the embedding of a face of this picture; `None` if the face is narrower than
    /// [`EMBEDDABLE_WIDTH`].
    ///
    /// # Errors
    /// [`PhotoError::Vision`] when the model fails on the face.
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
            return Err(PhotoError::Vision("the model gave no embedding for a face".into()));
        }
        Ok(Some(values.iter().map(|value| value / length).collect()))
    }
}

/// Computes the similarity (scale, turn, shift) that maps the template to these landmarks, by least
/// squares.
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
