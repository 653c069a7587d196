//! No key of the file may have nothing behind it: serde takes such a key for one that is left out.

use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A whole document, of which only this is known: something stands behind every key and in every
/// place of a list. A reader of text is asked for it beside the [`File`](super::File), and says where
/// it is not so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled;

impl<'de> Deserialize<'de> for Filled {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(FilledVisitor)
    }
}

struct FilledVisitor;

impl<'de> Visitor<'de> for FilledVisitor {
    type Value = Filled;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E: Error>(self) -> Result<Filled, E> {
        Err(E::custom(
            "nothing stands here: write a value, or leave the key out where none is needed",
        ))
    }
    fn visit_bool<E: Error>(self, _: bool) -> Result<Filled, E> {
        Ok(Filled)
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<Filled, E> {
        Ok(Filled)
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<Filled, E> {
        Ok(Filled)
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<Filled, E> {
        Ok(Filled)
    }
    fn visit_str<E: Error>(self, _: &str) -> Result<Filled, E> {
        Ok(Filled)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Filled, A::Error> {
        while let Some(Filled) = items.next_element()? {}
        Ok(Filled)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Filled, A::Error> {
        while let Some((Filled, Filled)) = map.next_entry()? {}
        Ok(Filled)
    }
}
