//! Holds a JSON report to docs/report.schema.json. Knows the keywords of JSON Schema 2020-12 that
//! are in that file, and fails at any other.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::Value;

/// What in the report is not as the schema says.
pub fn violations(report: &Value) -> Vec<String> {
    let schema = schema();
    let mut found = Vec::new();
    check(&schema, &schema, report, "", &mut found);
    found
}

fn schema() -> Value {
    serde_json::from_str(include_str!("../../docs/report.schema.json")).unwrap()
}

/// `rules` is the part of the schema about this value, which stands at the JSON pointer `at`.
fn check(schema: &Value, rules: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    for (keyword, rule) in rules.as_object().unwrap() {
        match keyword.as_str() {
            "$schema" | "$comment" | "$defs" | "title" | "description" => {}
            "$ref" => {
                let rules = schema.pointer(rule.as_str().unwrap().trim_start_matches('#'));
                check(schema, rules.unwrap(), value, at, found);
            }
            "type" if !is_one_of(value, rule) => found.push(format!("{at} is not {rule}")),
            "enum" if !rule.as_array().unwrap().contains(value) => {
                found.push(format!("{at} is none of {rule}"));
            }
            "type" | "enum" => {}
            "items" => {
                for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(schema, rule, item, &format!("{at}/{number}"), found);
                }
            }
            "properties" => {
                for (name, field) in value.as_object().into_iter().flatten() {
                    let at = format!("{at}/{name}");
                    match rule.get(name) {
                        Some(rules) => check(schema, rules, field, &at, found),
                        None => found.push(format!("{at} is not described")),
                    }
                }
            }
            "required" if value.is_object() => {
                let names = rule
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|name| name.as_str().unwrap());
                let missing = names.filter(|name| value.get(name).is_none());
                found.extend(missing.map(|name| format!("{at}/{name} is missing")));
            }
            "required" => {}
            // Where it is false, "properties" does the work.
            "additionalProperties" => assert_eq!(rule, false),
            other => panic!("{at}: this does not know {other}"),
        }
    }
}

/// Whether the value is of the type, or of one of the types, that `rule` names.
fn is_one_of(value: &Value, rule: &Value) -> bool {
    let one = std::slice::from_ref(rule);
    let mut names = rule.as_array().map_or(one, Vec::as_slice).iter();
    names.any(|name| match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("this does not know the type {other}"),
    })
}

#[test]
fn every_field_is_required_and_described() {
    assert_complete(&schema());
}

fn assert_complete(part: &Value) {
    if let Some(fields) = part.get("properties").and_then(Value::as_object) {
        assert_eq!(part["additionalProperties"], false, "{part:#}");
        let required = part["required"].as_array().unwrap();
        for (name, field) in fields {
            assert!(
                required.contains(&name.as_str().into()),
                "{name} is not required"
            );
            assert!(
                field["description"].is_string(),
                "{name} has no description"
            );
        }
    }
    for inner in part.as_object().into_iter().flat_map(|part| part.values()) {
        assert_complete(inner);
    }
}
