//! Every document that `--json` prints is of the schema in `docs/schema`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::damage::{find, flip};
use super::{Place, build, indelible};

fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/indelible-1.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Whether a value has a type by the name that a schema gives it.
fn is_of(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the schema has a type {other}"),
    }
}

/// What is wrong with a value by a schema: nothing, or a place and a reason.
fn wrong(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    let Some(rules) = schema.as_object() else {
        return (schema == &Value::Bool(false)).then(|| format!("{at}: never valid"));
    };
    if let Some(name) = rules.get("$ref").and_then(Value::as_str) {
        let found = root.pointer(name.trim_start_matches('#')).unwrap();
        if let Some(wrong) = wrong(root, found, value, at) {
            return Some(wrong);
        }
    }
    let fits = |types: &Value| match types {
        Value::String(name) => is_of(value, name),
        Value::Array(names) => names.iter().any(|name| is_of(value, name.as_str().unwrap())),
        _ => true,
    };
    if !rules.get("type").is_none_or(fits) {
        return Some(format!("{at}: {value} is not of {:?}", rules.get("type")));
    }
    if rules.get("const").is_some_and(|expected| expected != value)
        || rules.get("enum").is_some_and(|all| !all.as_array().unwrap().contains(value))
    {
        return Some(format!("{at}: {value} is not one of the values"));
    }
    for key in ["oneOf", "anyOf"] {
        if let Some(all) = rules.get(key).and_then(Value::as_array) {
            let fit = all.iter().filter(|it| wrong(root, it, value, at).is_none()).count();
            if fit == 0 || key == "oneOf" && fit != 1 {
                return Some(format!("{at}: {fit} of {} choices fit {value}", all.len()));
            }
        }
    }
    let required = rules.get("required").and_then(Value::as_array).into_iter().flatten();
    for name in required {
        if value.get(name.as_str().unwrap()).is_none() {
            return Some(format!("{at}: lacks {name}"));
        }
    }
    let properties = rules.get("properties").and_then(Value::as_object).into_iter().flatten();
    for (name, rule) in properties {
        let inner = value.get(name).and_then(|it| wrong(root, rule, it, &format!("{at}.{name}")));
        if inner.is_some() {
            return inner;
        }
    }
    let items = rules.get("items").zip(value.as_array());
    items.and_then(|(rule, all)| all.iter().find_map(|it| wrong(root, rule, it, at)))
}

/// Runs a command, checks each line it prints, and returns the names of the documents.
pub(super) fn checked(arguments: &[&str], paths: &[&Path]) -> Vec<String> {
    let schema = schema();
    let output = indelible(&[&["--quiet"], arguments].concat(), paths);
    let mut names = Vec::new();
    for text in [output.stdout, output.stderr] {
        for line in String::from_utf8(text).unwrap().lines() {
            let document: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(document.get("version"), Some(&Value::from(1)));
            if let Some(wrong) = wrong(&schema, &schema, &document, "document") {
                panic!("{arguments:?}: {wrong}\n{line}");
            }
            let name = document.as_object().unwrap().keys().find(|key| *key != "version");
            names.push(name.unwrap().clone());
        }
    }
    names
}

#[test]
fn every_document_is_of_the_schema() {
    let place = Place::new();
    let log = place.closed();
    let copy = place.path("copy");
    assert_eq!(checked(&["inspect", "--json"], &[&log]), ["inspection"]);
    let page = place.path("page.html");
    let both = ["inspect", "--json", "--html", page.to_str().unwrap()];
    assert_eq!(checked(&both, &[&log]), ["inspection"]);
    assert!(page.exists());
    assert_eq!(checked(&["verify", "--json"], &[&log]), ["verification"]);
    assert_eq!(checked(&["backup", "--json"], &[&log, &copy]), ["backup"]);
    assert_eq!(checked(&["compare", "--json"], &[&log, &copy]), ["comparison"]);
    assert_eq!(checked(&["dump", "--json"], &[&log]), ["entry"; 12]);
    assert_eq!(checked(&["dump", "--json", "--state"], &[&log]), ["cell"; 3]);
    assert_eq!(checked(&["dump", "--json", "--frames"], &[&log]).len(), 18);
    assert_eq!(checked(&["repair", "--plan", "--json"], &[&log]), ["plan"]);
    assert_eq!(checked(&["inspect", "--json"], &[&place.path("nowhere")]), ["error"]);
    assert_eq!(checked(&["backup", "--json"], &[&log, &copy]), ["error"]);
    assert_eq!(checked(&["inspect", "--json", "--nonsense"], &[&log]), ["error"]);
}

#[test]
fn documents_of_damaged_logs_are_of_the_schema() {
    let place = Place::new();
    let log = place.closed();
    let sealed = place.segment(2);
    flip(&sealed, find(&sealed, "entry 8 ") + 5000);
    fs::remove_file(place.segment(1)).unwrap();
    assert_eq!(checked(&["inspect", "--json"], &[&log]), ["inspection"]);
    assert_eq!(checked(&["verify", "--json"], &[&log]), ["verification"]);
    assert!(checked(&["dump", "--json", "--frames"], &[&log]).contains(&"gap".to_owned()));
    assert_eq!(checked(&["repair", "--plan", "--json"], &[&log]), ["plan"]);
    assert_eq!(checked(&["repair", "--apply", "--json"], &[&log]), ["repair"]);
    let peer = place.path("peer");
    build(&peer).close().unwrap();
    let from = peer.to_str().unwrap();
    assert_eq!(checked(&["refill", "--json", "--from", from], &[&log]), ["refill"]);
    assert_eq!(checked(&["compare", "--json"], &[&log, &peer]), ["comparison"]);
}

#[test]
fn a_document_that_is_not_of_the_schema_is_noticed() {
    let schema = schema();
    let document = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for text in [
        r#"{"version":1}"#,
        r#"{"version":1,"entry":{"index":1,"bytes":2}}"#,
        r#"{"version":1,"entry":{"index":"1","bytes":2,"hex":"00","decoded":null}}"#,
        r#"{"entry":{"index":1,"bytes":2,"hex":"0000","decoded":null}}"#,
    ] {
        assert!(wrong(&schema, &schema, &document(text), "document").is_some(), "{text}");
    }
}
