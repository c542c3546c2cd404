//! The conformance kit on both our backends, and on what upstream's `MemoryStorage` does.

use indelible::Durability;
use omnipaxos_conformance::{Conformance, Finding};

use super::support::{Joined, Store, config, memory, reopen, value};

#[test]
fn memory_backend_conforms() {
    for durability in [Durability::Always, Durability::Barrier] {
        let report = Conformance::new(move || memory(durability), value)
            .snapshots(|number| Joined(vec![7; usize::try_from(number).unwrap() * 700]))
            .seed(11)
            .run();
        assert!(report.holds(), "{report}");
    }
}

#[test]
fn file_backend_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let mut stores = 0;
    let fresh = move || {
        stores += 1;
        Store::create(&config(&directory.path().join(stores.to_string()))).unwrap()
    };
    let report = Conformance::new(fresh, value)
        .reopening(reopen)
        .snapshots(|number| Joined(vec![7; usize::try_from(number).unwrap() * 700]))
        .seed(12)
        .run();
    assert!(report.holds(), "{report}");
    let skipped = report.findings().filter(|(_, finding)| **finding == Finding::Skipped);
    assert_eq!(skipped.count(), 0);
}
