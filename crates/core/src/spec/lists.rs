//! Lists of the file whose single item needs no brackets, and what stands in them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fault::Ports;

/// A list; a single item may stand alone, and several in one text, by commas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Many<T>(pub Vec<T>);

impl<T> Default for Many<T> {
    fn default() -> Self {
        Many(Vec::new())
    }
}

impl<T> Many<T> {
    /// Whether nothing stands in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ManyVisitor { keeps_whole: false, of: PhantomData })
    }
}

/// Names of processes, which may have commas: a text with some is one name and several. Who is excluded once
/// too often is spared.
pub(super) fn process_names<'de, D: Deserializer<'de>>(from: D) -> Result<Many<String>, D::Error> {
    from.deserialize_any(ManyVisitor { keeps_whole: true, of: PhantomData })
}

struct ManyVisitor<T> {
    /// A text with commas is an item as well.
    keeps_whole: bool,
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
    type Value = Many<T>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item or a list of items")
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Many<T>, E> {
        let one = |item: &str| T::deserialize(item.trim().into_deserializer());
        let whole = self.keeps_whole && text.contains(',');
        let items = whole.then_some(text).into_iter().chain(text.split(','));
        items.map(one).collect::<Result<_, _>>().map(Many)
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<Many<T>, E> {
        T::deserialize(number.into_deserializer()).map(|one| Many(vec![one]))
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<Many<T>, E> {
        T::deserialize(number.into_deserializer()).map(|one| Many(vec![one]))
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<Many<T>, E> {
        T::deserialize(number.into_deserializer()).map(|one| Many(vec![one]))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Many<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|one| Many(vec![one]))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Many<T>, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(items)).map(Many)
    }
}

impl<T: JsonSchema> JsonSchema for Many<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Many{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<T>();
        json_schema!({
            "anyOf": [
                item.clone(),
                { "type": "array", "items": item },
                { "type": "string", "pattern": ",", "description": "several, by commas" }
            ]
        })
    }
}

/// Hosts by their labels: every condition that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Selector {
    /// The value of their label `group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Labels and their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A far end: who is cut off, or whose packets are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A host's name, an address, a network as `10.0.0.0/24`, or `all` other hosts.
    Name(String),
    /// Hosts by their labels.
    Where(Selector),
}

impl<'de> Deserialize<'de> for Peer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct PeerVisitor;
        impl<'de> Visitor<'de> for PeerVisitor {
            type Value = Peer;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a host's name, an address as 10.0.0.1 or 10.0.0.0/24, `all`, or {group: …}",
                )
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Peer, E> {
                Ok(Peer::Name(text.trim().to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Peer, A::Error> {
                Selector::deserialize(MapAccessDeserializer::new(map)).map(Peer::Where)
            }
        }
        from.deserialize_any(PeerVisitor)
    }
}

impl Serialize for Peer {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Peer::Name(name) => to.serialize_str(name),
            Peer::Where(selector) => selector.serialize(to),
        }
    }
}

impl JsonSchema for Peer {
    fn schema_name() -> Cow<'static, str> {
        "Peer".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let selector = generator.subschema_for::<Selector>();
        json_schema!({
            "description": "a host's name, an address, a network as 10.0.0.0/24, `all` other hosts, or hosts by their labels",
            "anyOf": [{ "type": "string" }, selector]
        })
    }
}

/// A number or a range of numbers: as text, as a bare number, in the schema.
macro_rules! range {
    ($(#[$doc:meta])* $name:ident($inner:ident), $least:literal..=$most:expr, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub $inner);

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                let one = |t: &str| t.trim().parse().ok().filter(|n| ($least..=$most).contains(n));
                let (from, to) = text.split_once('-').unwrap_or((text, text));
                match (one(from), one(to)) {
                    (Some(from), Some(to)) if from <= to => Ok($name($inner { from, to })),
                    _ => Err(format!("`{text}` is not {}", $what)),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct RangeVisitor;
                impl Visitor<'_> for RangeVisitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_str<E: Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: Error>(self, number: u64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_i64<E: Error>(self, number: i64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                }
                from.deserialize_any(RangeVisitor)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                let $inner { from, to: last } = self.0;
                if from == last {
                    to.serialize_u16(from)
                } else {
                    to.collect_str(&format_args!("{from}-{last}"))
                }
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "description": $what,
                    "anyOf": [
                        { "type": "integer", "minimum": $least, "maximum": $most },
                        { "type": "string", "pattern": "^[0-9]+(-[0-9]+)?$" }
                    ]
                })
            }
        }
    };
}

range!(
    /// A port or a range of ports: `80`, `"8000-9000"`.
    PortRange(Ports), 1..=65_535, "a port from 1 to 65535, or a range as 8000-9000"
);

/// Processors `from` to `to`, both included, as the kernel numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "told above")]
pub struct Cores {
    pub from: u16,
    pub to: u16,
}

range!(
    /// A processor's number or a range of them: `0`, `"2-3"`.
    CoreRange(Cores), 0..=1_023, "a processor's number from 0 to 1023, or a range as 2-3"
);

impl<'de> Deserialize<'de> for super::Exec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        struct Form {
            argv: Vec<String>,
        }
        struct ExecVisitor;
        impl<'de> Visitor<'de> for ExecVisitor {
            type Value = super::Exec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of a program's path and arguments, as [/bin/check, --fast]")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<super::Exec, A::Error> {
                let argv = Vec::deserialize(SeqAccessDeserializer::new(items))?;
                Ok(super::Exec { argv })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<super::Exec, A::Error> {
                let Form { argv } = Form::deserialize(MapAccessDeserializer::new(map))?;
                Ok(super::Exec { argv })
            }
        }
        from.deserialize_any(ExecVisitor)
    }
}

impl JsonSchema for super::Exec {
    fn schema_name() -> Cow<'static, str> {
        "Exec".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a program, no shell: its path and arguments",
            "anyOf": [
                { "type": "array", "items": { "type": "string" }, "minItems": 1 },
                {
                    "type": "object",
                    "properties": {
                        "argv": { "type": "array", "items": { "type": "string" }, "minItems": 1 }
                    },
                    "required": ["argv"],
                    "additionalProperties": false
                }
            ]
        })
    }
}
