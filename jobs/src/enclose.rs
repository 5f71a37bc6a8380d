//! The smallest rectangle around a blob, which becomes the box of a line of text.

use crate::slant::Slant;

/// The model marks only the core of a line. The box grows by this factor times area / perimeter.
const UNCLIP: f32 = 1.6;

/// Smallest side of a box before it grows, in pixels of the map. Smaller boxes hold no readable
/// text.
const BOX_SIDE_MIN: f32 = 3.0;

/// The smallest rectangle around a blob, grown to the size of the line; `None` if it is too small
/// to read.
pub(crate) fn enclose(edge: Vec<(i32, i32)>) -> Option<Slant> {
    let hull = hull(edge);
    let tightest = |best: Option<Slant>, slant: Slant| match best {
        Some(best) if best.width * best.height <= slant.width * slant.height => Some(best),
        _ => Some(slant),
    };
    let sides = hull.iter().zip(hull.iter().cycle().skip(1)).filter(|(a, b)| a != b);
    let slant = sides.map(|(a, b)| around(&hull, *a, *b)).fold(None, tightest)?;
    if slant.width.min(slant.height) < BOX_SIDE_MIN {
        return None;
    }
    let grow = 2.0 * slant.width * slant.height * UNCLIP / (2.0 * (slant.width + slant.height));
    Some(Slant { width: slant.width + grow, height: slant.height + grow, ..slant }.lying())
}

/// The smallest rectangle around a hull with one side along `from` -> `to`.
fn around(hull: &[(i32, i32)], from: (i32, i32), to: (i32, i32)) -> Slant {
    let point = |(x, y): (i32, i32)| [coordinate(x), coordinate(y)];
    let ([x0, y0], [x1, y1]) = (point(from), point(to));
    let length = (x1 - x0).hypot(y1 - y0);
    let along = [(x1 - x0) / length, (y1 - y0) / length];
    let (mut most, mut least) = ([f32::MIN; 2], [f32::MAX; 2]);
    for corner in hull {
        let [x, y] = point(*corner);
        for (axis, value) in
            [x * along[0] + y * along[1], y * along[0] - x * along[1]].into_iter().enumerate()
        {
            most[axis] = most[axis].max(value);
            least[axis] = least[axis].min(value);
        }
    }
    let [s, t] = [0, 1].map(|axis| f32::midpoint(most[axis], least[axis]));
    Slant {
        centre: [s * along[0] - t * along[1], s * along[1] + t * along[0]],
        along,
        width: most[0] - least[0] + 1.0,
        height: most[1] - least[1] + 1.0,
        worn: false,
    }
}

/// A map's coordinate as a float. It is exact: coordinates are far below 2^24, up to where a float
/// holds every whole number.
#[allow(clippy::cast_precision_loss, reason = "see above")]
fn coordinate(value: i32) -> f32 {
    value as f32
}

/// The convex hull, by Andrew's monotone chain.
fn hull(mut points: Vec<(i32, i32)>) -> Vec<(i32, i32)> {
    points.sort_unstable();
    points.dedup();
    if points.len() < 3 {
        return points;
    }
    let turn = |a: (i32, i32), b: (i32, i32), c: (i32, i32)| {
        i64::from(b.0 - a.0) * i64::from(c.1 - a.1) - i64::from(b.1 - a.1) * i64::from(c.0 - a.0)
    };
    let half = |points: &mut dyn Iterator<Item = (i32, i32)>| {
        let mut chain: Vec<(i32, i32)> = Vec::new();
        for point in points {
            while chain.len() >= 2
                && turn(chain[chain.len() - 2], chain[chain.len() - 1], point) <= 0
            {
                chain.pop();
            }
            chain.push(point);
        }
        chain.pop();
        chain
    };
    let lower = half(&mut points.iter().copied());
    let upper = half(&mut points.iter().rev().copied());
    [lower, upper].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::blobs;

    #[test]
    fn a_bar_of_text_becomes_a_rectangle_somewhat_larger() {
        let mut map = vec![0.0; 100 * 50];
        for y in 20..30 {
            for x in 20..80 {
                map[y * 100 + x] = 0.9;
            }
        }

        let blobs = blobs(&map, 100);
        let slant = blobs.into_iter().next().and_then(enclose).expect("one blob");

        let [x, y, width, height] = slant.bounds();
        assert!(x < 20.0 && y < 20.0 && x + width > 80.0 && y + height > 30.0);
        assert!(width < 90.0 && height < 30.0);
    }

    #[test]
    fn the_hull_of_a_square_is_its_corners() {
        let square = (0..25).map(|i| (i % 5, i / 5)).collect();

        let mut corners = hull(square);

        corners.sort_unstable();
        assert_eq!(corners, [(0, 0), (0, 4), (4, 0), (4, 4)]);
    }
}
