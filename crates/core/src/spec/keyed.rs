//! Maps of the file, which name their keys where something else stands.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{Error as Told, MapAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

/// A map of keys that are known, read.
pub(super) struct Keyed<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Keyed<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(KeyedVisitor(PhantomData))
    }
}

/// For a field that must be there, or has a default.
pub(super) fn keyed<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Keyed::deserialize(from).map(|Keyed(value)| value)
}

/// For a field that may be left out.
pub(super) fn keyed_option<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    keyed(from).map(Some)
}

struct KeyedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> KeyedVisitor<T> {
    /// Serde's own words for a wrong type would stand at the key before the value.
    fn refuse<E: Error>(self) -> Result<Keyed<T>, E> {
        Err(E::custom(self.to_string()))
    }
}

impl<'de, T: Deserialize<'de>> fmt::Display for KeyedVisitor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expecting(f)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for KeyedVisitor<T> {
    type Value = Keyed<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys belong here")?;
        match T::deserialize(Keys) {
            Err(keys) => write!(f, ": {keys}"),
            Ok(_) => Ok(()),
        }
    }
    fn visit_bool<E: Error>(self, _: bool) -> Result<Keyed<T>, E> {
        self.refuse()
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<Keyed<T>, E> {
        self.refuse()
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<Keyed<T>, E> {
        self.refuse()
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<Keyed<T>, E> {
        self.refuse()
    }
    fn visit_str<E: Error>(self, _: &str) -> Result<Keyed<T>, E> {
        self.refuse()
    }
    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Keyed<T>, A::Error> {
        self.refuse()
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Keyed<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Keyed)
    }
}

/// Reads nothing: its error names the keys of whatever is to be read.
struct Keys;

impl<'de> Deserializer<'de> for Keys {
    type Error = Told;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Told> {
        Err(Told::custom("none"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        keys: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Told> {
        Err(Told::custom(keys.join(", ")))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
