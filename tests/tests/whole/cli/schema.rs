//! The part of JSON Schema that `squall schema` speaks. A word that is not known here fails the test, so
//! that nothing is passed over.

use regex::Regex;
use serde_json::{Map, Value};

/// Words that say nothing about what is valid.
const TALK: [&str; 6] = ["$schema", "$defs", "title", "description", "default", "format"];

/// Why a value is not what the schema asks for; `None` where it is.
pub fn problem(schema: &Value, value: &Value) -> Option<String> {
    Checker { root: schema }.check(schema, value, "")
}

struct Checker<'a> {
    root: &'a Value,
}

impl Checker<'_> {
    fn check(&self, schema: &Value, value: &Value, at: &str) -> Option<String> {
        let Some(words) = schema.as_object() else {
            // `true` allows all, `false` nothing.
            return (schema != &Value::Bool(true)).then(|| format!("{at}: {value} is not allowed"));
        };
        words.iter().find_map(|(word, asked)| self.word(words, word, asked, value, at))
    }

    fn word(
        &self,
        all: &Map<String, Value>,
        word: &str,
        asked: &Value,
        value: &Value,
        at: &str,
    ) -> Option<String> {
        let number = || asked.as_f64().expect("a number in the schema");
        let fails = |wrong: bool| wrong.then(|| format!("{at}: {value} is not {word} {asked}"));
        match word {
            word if TALK.contains(&word) => None,
            "$ref" => {
                let path = asked.as_str().and_then(|r| r.strip_prefix('#')).expect("a local one");
                let target = self.root.pointer(path).unwrap_or_else(|| panic!("no {path}"));
                self.check(target, value, at)
            }
            "type" => fails(!is_of(asked, value)),
            "const" => fails(asked != value),
            "enum" => fails(!asked.as_array().expect("a list").contains(value)),
            "pattern" => {
                let pattern = Regex::new(asked.as_str().expect("a text")).expect("a pattern");
                fails(value.as_str().is_some_and(|text| !pattern.is_match(text)))
            }
            "minimum" => fails(value.as_f64().is_some_and(|n| n < number())),
            "maximum" => fails(value.as_f64().is_some_and(|n| n > number())),
            "exclusiveMinimum" => fails(value.as_f64().is_some_and(|n| n <= number())),
            "minItems" => fails(value.as_array().is_some_and(|a| (a.len() as f64) < number())),
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                items.into_iter().find_map(|(n, v)| self.check(asked, v, &format!("{at}[{n}]")))
            }
            "required" => {
                let fields = asked.as_array().expect("a list").iter().filter_map(Value::as_str);
                let object = value.as_object()?;
                let missing = fields.into_iter().find(|f| !object.contains_key(*f))?;
                Some(format!("{at}: {missing} is missing"))
            }
            "properties" => {
                let known = asked.as_object().expect("a map");
                let fields = value.as_object().into_iter().flatten();
                let mut known = fields.filter_map(|(k, v)| Some((k, v, known.get(k)?)));
                known.find_map(|(k, v, schema)| self.check(schema, v, &format!("{at}.{k}")))
            }
            "additionalProperties" => {
                let known = all.get("properties").and_then(Value::as_object);
                let fields = value.as_object().into_iter().flatten();
                let mut others = fields.filter(|(k, _)| !known.is_some_and(|m| m.contains_key(*k)));
                others.find_map(|(k, v)| self.check(asked, v, &format!("{at}.{k}")))
            }
            "anyOf" | "oneOf" => {
                let ways = asked.as_array().expect("a list");
                let wrong: Vec<String> =
                    ways.iter().filter_map(|way| self.check(way, value, at)).collect();
                let right = ways.len() - wrong.len();
                let fits = if word == "oneOf" { right == 1 } else { right > 0 };
                (!fits).then(|| format!("{at}: {right} of {word} fit: {}", wrong.join("; ")))
            }
            other => panic!("the schema says `{other}`, which this test does not know"),
        }
    }
}

fn is_of(asked: &Value, value: &Value) -> bool {
    let one = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("no type {other}"),
    };
    match asked {
        Value::String(name) => one(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(one),
        other => panic!("a type {other}"),
    }
}
