//! Lists and maps that are bounded while they are read. What is read whole before it is counted may
//! take far more memory than its text.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

/// Reads a list, and stops at the first element that is too many.
pub(crate) fn list<'de, const N: usize, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    from.deserialize_seq(AtMost::<N, T>(PhantomData))
}

/// The same, or `None` for a null.
pub(crate) fn optional_list<'de, const N: usize, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<T>>, D::Error> {
    struct Bounded<const N: usize, T>(Vec<T>);

    impl<'de, const N: usize, T: Deserialize<'de>> Deserialize<'de> for Bounded<N, T> {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            list::<N, T, D>(from).map(Self)
        }
    }

    Ok(Option::<Bounded<N, T>>::deserialize(from)?.map(|bounded| bounded.0))
}

struct AtMost<const N: usize, T>(PhantomData<T>);

impl<'de, const N: usize, T: Deserialize<'de>> Visitor<'de> for AtMost<N, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {N}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut read = Vec::new();
        while let Some(element) = list.next_element()? {
            if read.len() == N {
                return Err(A::Error::custom(format_args!("a list of more than {N}")));
            }
            read.push(element);
        }
        Ok(read)
    }
}

/// Reads JSON values by their names: at most `N`, each with at most `BYTES` of text.
#[cfg(feature = "serve")]
pub(crate) fn values<'de, const N: usize, const BYTES: usize, D: Deserializer<'de>>(
    map: D,
) -> Result<BTreeMap<String, Value>, D::Error> {
    struct Values<const N: usize, const BYTES: usize>;

    impl<'de, const N: usize, const BYTES: usize> Visitor<'de> for Values<N, BYTES> {
        type Value = BTreeMap<String, Value>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an object with at most {N} values")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut read = BTreeMap::new();
            while let Some((name, text)) = map.next_entry::<String, Box<RawValue>>()? {
                if read.len() == N {
                    return Err(A::Error::custom(format_args!("more than {N} values")));
                }
                if text.get().len() > BYTES {
                    let bytes = text.get().len();
                    let says = format_args!("a value of {bytes} bytes, which is too large");
                    return Err(A::Error::custom(says));
                }
                read.insert(name, serde_json::from_str(text.get()).map_err(A::Error::custom)?);
            }
            Ok(read)
        }
    }

    map.deserialize_map(Values::<N, BYTES>)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Two {
        #[serde(deserialize_with = "list::<2, _, _>")]
        must: Vec<u8>,
        #[serde(default, deserialize_with = "optional_list::<2, _, _>")]
        may: Option<Vec<u8>>,
        #[serde(default, deserialize_with = "values::<2, 9, _>")]
        values: BTreeMap<String, Value>,
    }

    fn read(text: &str) -> Result<Two, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_is_read_up_to_its_bound() {
        let two = read(r#"{"must": [1, 2], "may": [3]}"#).unwrap();
        assert_eq!((two.must, two.may), (vec![1, 2], Some(vec![3])));
        assert_eq!(read(r#"{"must": [], "may": null}"#).unwrap().may, None);
        assert_eq!(read(r#"{"must": []}"#).unwrap().may, None);

        // What comes after the third element is not read.
        assert!(read(r#"{"must": [1, 2, 3, nonsense"#).unwrap_err().contains("more than 2"));
        let more = read(r#"{"must": [], "may": [1, 2, 3, nonsense"#);
        assert!(more.unwrap_err().contains("more than 2"));
    }

    #[test]
    fn values_are_read_up_to_their_number_and_size() {
        let two = read(r#"{"must": [], "values": {"a": {"b": 1}, "c": null}}"#).unwrap();
        assert_eq!(two.values["a"]["b"], 1);

        let more = read(r#"{"must": [], "values": {"a": 1, "b": 2, "c": 3, nonsense"#);
        assert!(more.unwrap_err().contains("more than 2"));
        let large = read(r#"{"must": [], "values": {"a": "123456789"}}"#);
        assert!(large.unwrap_err().contains("11 bytes"));
    }
}
