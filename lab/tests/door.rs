//! How much of the library is public in the default build, as rustdoc lists it.
//!
//! Counted are modules, types, traits, functions, methods and constants; not fields, variants, nor
//! what an `impl` of a trait repeats.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Most public items of the default build (docs/DESIGN.md, "The house, low to high").
const ITEMS_MAX: usize = 250;

/// Kinds of items, as rustdoc names them.
const KINDS: [&str; 10] = [
    "assoc_const",
    "assoc_type",
    "constant",
    "enum",
    "function",
    "macro",
    "module",
    "struct",
    "trait",
    "type_alias",
];

/// The public items of the default build, each with its kind.
fn public_items() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("door");
    let status = Command::new(env!("CARGO"))
        .current_dir(&root)
        // The list as JSON is not stable yet; only few of its names are used here.
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["rustdoc", "--quiet", "-p", "indelible", "--lib", "--target-dir"])
        .arg(&target)
        // The front page links to what other features add.
        .args(["--", "--cap-lints", "allow", "-Zunstable-options", "--output-format", "json"])
        .status();
    assert!(status.unwrap().success());
    let said = std::fs::read(target.join("doc/indelible.json")).unwrap();
    let said: Value = serde_json::from_slice(&said).unwrap();
    let index = said["index"].as_object().unwrap();
    let ids = |of: &Value| -> BTreeSet<String> {
        of.as_array().into_iter().flatten().map(ToString::to_string).collect()
    };
    let mut left_out: BTreeSet<String> = BTreeSet::new();
    for item in index.values() {
        if !item["inner"]["impl"]["trait"].is_null() {
            left_out.extend(ids(&item["inner"]["impl"]["items"]));
        } else if item["name"] == "docs" {
            // The documents are no part of a build.
            left_out.extend(ids(&item["inner"]["module"]["items"]));
            left_out.insert(item["id"].to_string());
        }
    }
    let own = index.iter().filter(|(id, item)| item["crate_id"] == 0 && !left_out.contains(*id));
    let named = own.filter_map(|(_, item)| {
        let kind = item["inner"].as_object()?.keys().next()?;
        KINDS.contains(&kind.as_str()).then(|| format!("{kind} {}", item["name"]))
    });
    named.collect()
}

#[test]
fn default_build_has_a_small_door() {
    let mut items = public_items();
    items.sort_unstable();
    assert!(items.len() > 100, "only {} items found: has the count gone blind?", items.len());
    let (count, list) = (items.len(), items.join("\n"));
    assert!(count <= ITEMS_MAX, "{list}\n{count} public items: who outside needs the new ones?");
}
