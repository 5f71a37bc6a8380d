//! Runs each model once, so that the first photo takes no extra time.

use crate::{
    eyes::Eyes,
    faces::Face,
    limits::PhotoError,
    picture::{Frame, Picture},
};

impl Eyes {
    /// Runs the models once on a small grey picture, so that the first photo takes no extra time.
    ///
    /// # Errors
    /// [`PhotoError::Vision`] when a model does not work.
    pub fn warm_up(&mut self) -> Result<(), PhotoError> {
        let frame = Frame(image::RgbImage::from_pixel(64, 64, image::Rgb([128; 3])));
        let picture = Picture { frame, mirrored: false, width: 64, height: 64 };
        let landmarks = [[24.0, 24.0], [40.0, 24.0], [32.0, 32.0], [26.0, 42.0], [38.0, 42.0]];
        let face = Face { x: 8.0, y: 8.0, width: 48.0, height: 48.0, score: 1.0, landmarks };
        self.faces(&picture)?;
        self.embedding(&picture, &face)?;
        self.lines(&picture, &[face])?;
        self.turns(&picture.frame)?;
        Ok(())
    }
}
