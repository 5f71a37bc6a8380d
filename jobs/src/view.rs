//! Turns a photo that lies sideways before it is looked at: on such a photo, hardly any number is
//! read.

use std::borrow::Cow;

use crate::{
    back::Back,
    eyes::Eyes,
    faces::{Face, best_score},
    limits::PhotoError,
    orientation::Turn,
    picture::{Picture, to_pixels},
    rotation::{NETWORK_SURE, SCORE_SURE, sure_turn},
    text::Line,
};

/// A photo with a face of at least this score is upright: of 6,700 views of photos that were not,
/// none had one.
const SCORE_UPRIGHT: f32 = 0.915;
/// So is a photo with a face of at least this score that has a lower one in the other turns. Of the
/// same views, one had such a face, in the wrong turn.
const SCORE_CHECKED: f32 = 0.88;
/// Side of the square around a face that is turned for this, in face sizes, ...
const AROUND: f32 = 3.0;
/// ... and its largest side when the face is searched in it, in pixels. All four turns take a tenth
/// of the time of the network.
const AROUND_SIDE: u32 = 160;

/// A photo as it is looked at: turned so that people stand, as far as it is known how.
#[derive(Debug)]
pub struct View<'a> {
    /// The photo after the turn.
    pub picture: Cow<'a, Picture>,
    /// What may be a face on the turned photo, best score first.
    pub likely: Vec<Face>,
    /// The way back to the photo before the turn.
    back: Back,
}

impl Eyes {
    /// Looks at a photo, and turns it if it lies sideways. A turn that is known is believed.
    ///
    /// A face that is surely upright decides, because faces are looked for anyway. Without one, the
    /// network for orientation is asked, which takes as long as half of all other work. If the EXIF
    /// tag mirrors the photo and its text says that this is wrong, the tag is not followed.
    ///
    /// # Errors
    /// [`PhotoError::Vision`] when a model fails on the picture.
    pub fn view<'a>(
        &mut self,
        picture: &'a Picture,
        known: Option<Turn>,
    ) -> Result<View<'a>, PhotoError> {
        if !self.is_mirrored_wrongly(picture)? {
            return self.view_upright(picture, known);
        }
        let picture = picture.unmirrored();
        let view = self.view_upright(&picture, known.map(Turn::back))?;
        let picture = Cow::Owned(view.picture.into_owned());
        Ok(View { picture, likely: view.likely, back: view.back.then_mirrored() })
    }

    /// See [`Self::view`]. The EXIF tag is believed.
    pub(crate) fn view_upright<'a>(
        &mut self,
        picture: &'a Picture,
        known: Option<Turn>,
    ) -> Result<View<'a>, PhotoError> {
        if let Some(turn) = known {
            return self.view_after(picture, turn);
        }
        let lying = self.view_after(picture, Turn::None)?;
        if self.has_upright_face(&lying)? {
            return Ok(lying);
        }
        let turn = sure_turn(self.turns(&picture.frame)?, NETWORK_SURE);
        let Some(turn) = turn.filter(|turn| *turn != Turn::None) else { return Ok(lying) };
        let turned = self.view_after(picture, turn)?;
        // A clear face that the turn hides contradicts the network.
        let best = best_score(&lying.likely);
        let contradicts = best >= SCORE_SURE && best > best_score(&turned.likely);
        Ok(if contradicts { lying } else { turned })
    }

    fn view_after<'a>(&mut self, before: &'a Picture, turn: Turn) -> Result<View<'a>, PhotoError> {
        let picture = before.turned(turn);
        let likely = self.likely_faces(&picture)?;
        Ok(View { picture, likely, back: Back::to(before.width, before.height, turn) })
    }

    /// Whether the best face is surely upright.
    fn has_upright_face(&mut self, view: &View<'_>) -> Result<bool, PhotoError> {
        let Some(best) = view.likely.first().filter(|face| face.score >= SCORE_CHECKED) else {
            return Ok(false);
        };
        if best.score >= SCORE_UPRIGHT {
            return Ok(true);
        }
        let face = best.scaled(1.0 / view.picture.scale());
        let side = AROUND * face.width.max(face.height);
        let from =
            |start: f32, length: f32| to_pixels((start + (length - side) / 2.0).max(1.0)) - 1;
        let (left, top) = (from(face.x, face.width), from(face.y, face.height));
        // A face may be found at the edge, with its middle outside of the picture.
        let frame = &view.picture.frame;
        let (left, top) = (left.min(frame.width() - 1), top.min(frame.height() - 1));
        let around = frame.part(left, top, to_pixels(side), to_pixels(side));
        let around = around.fit(AROUND_SIDE);
        let [as_it_is, others @ ..] = Turn::ALL;
        let upright = best_score(&self.detect(&around.turned(as_it_is), AROUND_SIDE)?);
        for turn in others {
            if best_score(&self.detect(&around.turned(turn), AROUND_SIDE)?) >= upright {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl View<'_> {
    /// The clockwise turn that the photo needs after EXIF.
    pub fn turn(&self) -> Turn {
        self.back.turn()
    }

    /// The faces, best score first, in pixels of the photo before the turn.
    pub fn faces(&self) -> Vec<Face> {
        let sure = self.likely.iter().filter(|face| face.is_sure());
        sure.map(|face| face.moved_back(self.back)).collect()
    }

    /// These lines of the turned photo, in pixels of the photo before the turn.
    pub fn before(&self, lines: Vec<Line>) -> Vec<Line> {
        lines.into_iter().map(|line| line.moved_back(self.back)).collect()
    }
}
