//! Turning a JPEG without decoding it.

use turbojpeg::{Transform, TransformOp, Transformer};

use crate::orientation::{Orientation, Turn};

/// Turns the coefficient blocks; every pixel survives. `None` when the sides are not whole blocks in the direction of
/// the turn (the rest would land on the wrong edge), or when the coder refuses the file.
pub(crate) fn lossless(jpeg: &[u8], orientation: Orientation) -> Option<Vec<u8>> {
    let operation = match (orientation.mirrored, orientation.turn) {
        (false, Turn::None) => TransformOp::None,
        (false, Turn::Quarter) => TransformOp::Rot90,
        (false, Turn::Half) => TransformOp::Rot180,
        (false, Turn::ThreeQuarters) => TransformOp::Rot270,
        (true, Turn::None) => TransformOp::Hflip,
        (true, Turn::Quarter) => TransformOp::Transverse,
        (true, Turn::Half) => TransformOp::Vflip,
        (true, Turn::ThreeQuarters) => TransformOp::Transpose,
    };
    let mut transform = Transform::op(operation);
    transform.perfect = true;
    Transformer::new().ok()?.transform_to_vec(&transform, jpeg).ok()
}
