//! Turns a JPEG without loss, without decoding it to pixels.

use turbojpeg::{Transform, TransformOp, Transformer};

use crate::orientation::{Orientation, Turn};

/// Turns a JPEG by turning its coefficient blocks; every pixel stays the same.
///
/// `None` if a side that the turn moves does not consist of whole blocks, because the incomplete
/// blocks would land on the wrong edge. Also `None` if libjpeg-turbo refuses the file.
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
