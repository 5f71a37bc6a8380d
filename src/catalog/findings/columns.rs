//! Turns the findings of many photos into arrays, one for each column of a table, so that one
//! statement writes them all.

use photogate_jobs::{Bib, Embedding, Face};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::ids::PhotoId;

/// The sizes of photos, a column each, as PostgreSQL takes them.
#[derive(Default)]
pub(super) struct Sizes {
    pub(super) photo: Vec<Uuid>,
    pub(super) width: Vec<i32>,
    pub(super) height: Vec<i32>,
}

impl Sizes {
    pub(super) fn push(&mut self, photo: PhotoId, width: u32, height: u32) {
        self.photo.push(photo.0);
        self.width.push(i32::try_from(width).unwrap_or(i32::MAX));
        self.height.push(i32::try_from(height).unwrap_or(i32::MAX));
    }
}

/// The boxes of faces or of bib numbers.
#[derive(Default)]
pub(super) struct Boxes {
    pub(super) photo: Vec<Uuid>,
    pub(super) x: Vec<f32>,
    pub(super) y: Vec<f32>,
    pub(super) width: Vec<f32>,
    pub(super) height: Vec<f32>,
    pub(super) score: Vec<f32>,
}

impl Boxes {
    fn push(&mut self, photo: PhotoId, [x, y, width, height, score]: [f32; 5]) {
        self.photo.push(photo.0);
        self.x.push(x);
        self.y.push(y);
        self.width.push(width);
        self.height.push(height);
        self.score.push(score.clamp(0.0, 1.0));
    }
}

/// Faces with their embeddings.
#[derive(Default)]
pub(super) struct Faces {
    pub(super) boxes: Boxes,
    pub(super) number: Vec<i16>,
    pub(super) landmarks: Vec<Value>,
    pub(super) embedding: Vec<Value>,
}

impl Faces {
    pub(super) fn extend(
        &mut self,
        photo: PhotoId,
        faces: &[(Face, Option<Embedding>)],
        keeps_embeddings: bool,
    ) {
        for (number, (face, embedding)) in faces.iter().enumerate() {
            self.boxes.push(photo, [face.x, face.y, face.width, face.height, face.score]);
            self.number.push(i16::try_from(number).unwrap_or(i16::MAX));
            self.landmarks.push(json!(face.landmarks.as_flattened()));
            self.embedding.push(
                embedding
                    .as_ref()
                    .filter(|_| keeps_embeddings)
                    .map_or(Value::Null, |embedding| json!(embedding)),
            );
        }
    }
}

/// Bib numbers.
#[derive(Default)]
pub(super) struct Bibs {
    pub(super) boxes: Boxes,
    pub(super) number: Vec<String>,
}

impl Bibs {
    pub(super) fn extend(&mut self, photo: PhotoId, bibs: &[Bib]) {
        for bib in bibs {
            self.boxes.push(photo, [bib.x, bib.y, bib.width, bib.height, bib.score]);
            self.number.push(bib.number.clone());
        }
    }
}
