//! Embeddings, as the database has them: 128 numbers of half precision, which is half the size. The
//! cosine of two of them differs by less than 0.001.

use half::f16;

/// The bytes of an embedding, little-endian.
pub(crate) fn packed(embedding: &[f32]) -> Vec<u8> {
    embedding.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
}

/// The embedding in these bytes.
pub(crate) fn unpacked(packed: &[u8]) -> Vec<f32> {
    let (values, _) = packed.as_chunks::<2>();
    values.iter().map(|value| f16::from_le_bytes(*value).to_f32()).collect()
}

/// The cosine of a packed embedding and another one; both are of unit length.
pub(crate) fn cosine(packed: &[u8], other: &[f32]) -> f32 {
    let (values, _) = packed.as_chunks::<2>();
    values.iter().zip(other).map(|(value, other)| f16::from_le_bytes(*value).to_f32() * other).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit() -> impl Strategy<Value = Vec<f32>> {
        proptest::collection::vec(-1.0f32..1.0, 128).prop_map(|values| {
            let length = values.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-6);
            values.into_iter().map(|value| value / length).collect()
        })
    }

    proptest! {
        #[test]
        fn a_packed_embedding_is_as_near_to_another_one(one in unit(), other in unit()) {
            let packed = packed(&one);
            let exact: f32 = one.iter().zip(&other).map(|(a, b)| a * b).sum();

            prop_assert_eq!(packed.len(), 256);
            prop_assert!((cosine(&packed, &other) - exact).abs() < 0.001);
        }
    }
}
