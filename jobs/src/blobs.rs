//! Finds the blobs of a map of scores: text pixels that touch each other.

/// A pixel of the map with a score above this is text.
const PIXEL_MIN: f32 = 0.3;

/// Smallest mean score of the text pixels of a line.
const BOX_MIN: f32 = 0.5;

/// Finds the blobs (text pixels that touch each other) of a map of scores, `width` wide. Returns
/// the edge pixels of each blob whose mean score is at least [`BOX_MIN`].
pub(crate) fn blobs(map: &[f32], width: usize) -> Vec<Vec<(i32, i32)>> {
    let height = map.len() / width.max(1);
    let mut seen = vec![false; map.len()];
    let mut found = Vec::new();
    let mut open = Vec::new();
    for start in 0..map.len() {
        if seen[start] || map[start] <= PIXEL_MIN {
            continue;
        }
        seen[start] = true;
        open.push(start);
        let (mut edge, mut sum, mut count) = (Vec::new(), 0.0, 0.0);
        while let Some(at) = open.pop() {
            let (x, y) = (at % width, at / width);
            sum += map[at];
            count += 1.0;
            let mut inside = x > 0 && y > 0 && x + 1 < width && y + 1 < height;
            for near_y in y.saturating_sub(1)..(y + 2).min(height) {
                for near_x in x.saturating_sub(1)..(x + 2).min(width) {
                    let near = near_y * width + near_x;
                    if map[near] <= PIXEL_MIN {
                        inside = false;
                    } else if !seen[near] {
                        seen[near] = true;
                        open.push(near);
                    }
                }
            }
            if !inside {
                edge.push((i32::try_from(x).unwrap_or(0), i32::try_from(y).unwrap_or(0)));
            }
        }
        if sum / count >= BOX_MIN {
            found.push(edge);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faint_text_is_no_text() {
        assert!(blobs(&[0.35; 100], 10).is_empty());
    }
}
