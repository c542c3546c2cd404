//! Texts of `snapshots/`, for the tests of the binary and those inside it.

use std::fs;
use std::path::Path;

/// Compares a text with a snapshot; `INDELIBLE_BLESS=1` writes it instead.
pub(crate) fn compare(snapshot: &str, shown: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cli/snapshots")
        .join(format!("{snapshot}.txt"));
    if std::env::var_os("INDELIBLE_BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, shown).unwrap();
        return;
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        expected == shown,
        "{snapshot} differs; expected:\n{expected}\ngot:\n{shown}\n(INDELIBLE_BLESS=1 accepts it)"
    );
}
