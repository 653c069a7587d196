//! The file as text: there and back, its schema, and whatever a person may type.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const EVERYTHING: &str = r#"
name: everything
objective: all fields at once
targets: {group: etcd, labels: {zone: a}, percent: 50%}
faults:
  - partition: {peers: [h2, {labels: {zone: b}}, 10.0.0.0/24], direction: in, ports: ["8000-9000", 443], protocol: udp, control: severed}
  - partition: {shape: minority-third}
  - partition: {shape: {groups: [[h1], [h2]]}}
  - loss: {percent: 0.5, peers: all}
  - kill: {name: x, cmdline: y, pid: 7, port: 80, cgroup: z, exclude: [a, b], signal: 15, percent: 50, interval: 2s}
  - pause: {name: x, exclude: [y]}
  - cpu: {workers: 4, load: 75, cores: [0, "2-3"], ramp: 20s}
  - memory: {bytes: 1.5GiB, ramp: 1m, touch-rate: 200MiB/s}
duration: 1m30s
steady-state:
  - {name: a, http: {url: "http://h2/"}, every: 200ms, timeout: 1s, from: h3, expect: {status: 204, error-rate: "<= 0.5%", p99: "< 1s", p50: 20ms}}
  - {name: b, tcp: {address: "h2:1"}}
  - {name: c, exec: [/bin/true]}
baseline: 5s
recovery: 1m
safety: {max-blast-radius: 0.5, of: group, auto-rollback: false, lease: 2s, on-loss: continue, expects-split: true}
"#;

#[test]
fn a_file_reads_back_from_json_and_yaml() {
    let file = parse(EVERYTHING);
    let json = serde_json::to_string(&file).unwrap();
    assert_eq!(serde_json::from_str::<File>(&json).unwrap(), file);
    assert_eq!(serde_json::from_str::<Filled>(&json).unwrap(), Filled);
    let yaml = serde_saphyr::to_string(&file).unwrap();
    assert_eq!(parse(&yaml), file);
}

#[test]
fn the_schema_knows_every_key_of_the_file() {
    let schema = serde_json::to_value(schema()).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    let file = serde_json::to_value(parse(EVERYTHING)).unwrap();
    check_keys(&schema, &schema, &file, "");
}

#[test]
fn the_schema_has_no_null_and_no_empty_list_that_would_widen_a_fault() {
    let schema = serde_json::to_value(schema()).unwrap();
    assert!(!schema.to_string().contains("null"), "{schema:#}");
    for list in [
        "/properties/faults",
        "/$defs/Targets/properties/hosts",
        "/$defs/PartitionForm/properties/peers",
        "/$defs/PartitionForm/properties/ports",
        "/$defs/LossForm/properties/peers",
        "/$defs/LossForm/properties/ports",
    ] {
        assert_eq!(schema.pointer(&format!("{list}/minItems")), Some(&1.into()), "{list}");
    }
}

/// Every key of `value` is a property of `schema`, and unknown ones are refused there.
fn check_keys(
    root: &serde_json::Value,
    schema: &serde_json::Value,
    value: &serde_json::Value,
    path: &str,
) {
    use serde_json::Value;
    let follow = |schema: &Value| match schema["$ref"].as_str() {
        Some(name) => root.pointer(name.trim_start_matches('#')).unwrap().clone(),
        None => schema.clone(),
    };
    let mut open = vec![follow(schema)];
    let mut all = Vec::new();
    while let Some(schema) = open.pop() {
        for key in ["anyOf", "oneOf"] {
            open.extend(schema[key].as_array().into_iter().flatten().map(follow));
        }
        all.push(schema);
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = format!("{path}.{key}");
                let property = all.iter().find_map(|s| s["properties"].get(key));
                let additional =
                    all.iter().map(|s| &s["additionalProperties"]).find(|a| a.is_object());
                let property =
                    property.or(additional).unwrap_or_else(|| panic!("no {path} in {all:?}"));
                check_keys(root, property, value, &path);
            }
        }
        Value::Array(items) => {
            let item = all.iter().find(|s| s.get("items").is_some());
            let item = &item.unwrap_or_else(|| panic!("{path} is no array in {all:?}"))["items"];
            for value in items {
                check_keys(root, item, value, &format!("{path}[]"));
            }
        }
        _ => {}
    }
}

/// Texts that the schema of this amount allows, of numbers from 1 to 9.
fn allowed<T: JsonSchema>() -> proptest::string::RegexGeneratorStrategy<String> {
    let schema = serde_json::to_value(schemars::schema_for!(T)).unwrap();
    let pattern = schema["pattern"].as_str().unwrap().trim_matches(['^', '$']);
    let pattern = pattern.replace(r"(\.[0-9]+)?", "").replace("[0-9]+", "[1-9]");
    proptest::string::string_regex(&pattern).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        rng_seed: proptest::test_runner::RngSeed::Fixed(0x59a1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_unit_the_schema_allows_is_read(
        time in allowed::<Millis>(), size in allowed::<Size>(), rate in allowed::<Rate>(),
        bound in allowed::<Latency>(), protocol in allowed::<units::AnyProtocol>(),
    ) {
        prop_assert!(time.parse::<Millis>().is_ok(), "{time}");
        prop_assert!(size.parse::<Size>().is_ok(), "{size}");
        prop_assert!(rate.parse::<Rate>().is_ok(), "{rate}");
        prop_assert!(bound.parse::<Latency>().is_ok(), "{bound}");
        prop_assert!(protocol.parse::<units::AnyProtocol>().is_ok(), "{protocol}");
    }

    #[test]
    fn no_text_in_any_place_makes_it_panic(text in ".{0,24}", place in 0..12_usize) {
        let quoted = serde_json::to_string(&text).unwrap();
        let json = |key: &str, value: String| format!("{{\"{key}\": {value}}}");
        let mut file: BTreeMap<&str, String> = [
            ("name", "\"n\"".into()),
            ("targets", "{\"hosts\": [\"h1\"]}".into()),
            ("faults", "[{\"cpu\": {}}]".into()),
            ("duration", "\"1s\"".to_owned()),
        ].into();
        let probe = |what: &str| format!("[{{\"name\": \"p\", {what}}}]");
        match place {
            0 => file.insert("name", quoted),
            1 => file.insert("duration", quoted),
            2 => file.insert("targets", json("hosts", quoted)),
            3 => file.insert("targets", json("group", quoted)),
            4 => file.insert("targets", json("percent", quoted)),
            5 => file.insert("faults", format!("[{}]", json("partition", json("peers", quoted)))),
            6 => file.insert("faults", format!("[{}]", json("memory", json("bytes", quoted)))),
            7 => file.insert("faults", format!("[{}]", json("kill", json("signal", quoted)))),
            8 => file.insert("safety", json("max-blast-radius", quoted)),
            9 => file.insert("steady-state", probe(&format!("\"http\": {{\"url\": {quoted}}}"))),
            10 => file.insert("steady-state", probe(&format!("\"tcp\": {{\"address\": {quoted}}}"))),
            _ => file.insert("faults", json(&text.replace(['"', '\\'], ""), "{}".into())),
        };
        let lines: Vec<String> = file.iter().map(|(k, v)| format!("\"{k}\": {v}")).collect();
        if let Ok(file) = serde_json::from_str::<File>(&format!("{{{}}}", lines.join(", "))) {
            for problem in resolve(&file, &fleet(), 1).err().into_iter().flatten() {
                prop_assert!(!problem.path.is_empty() && !problem.what.is_empty());
            }
        }
    }
}
