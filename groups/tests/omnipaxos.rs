//! OmniPaxos on groups: the conformance kit on one of many, and storages that share a sync.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::Arc;

use indelible::codec::{Codec, CodecError};
use indelible::io::sim::SimDisk;
use indelible::omnipaxos::LogStorage;
use indelible::{Durability, Log, Options};
use indelible_groups::{Group, Groups, GroupsOptions};
use omnipaxos::storage::{Entry, Snapshot, Storage};
use omnipaxos_conformance::{Conformance, Finding};

#[derive(Debug, Clone, PartialEq)]
struct Value(Vec<u8>);

#[derive(Debug, Clone, PartialEq)]
struct Joined(Vec<u8>);

impl Entry for Value {
    type Snapshot = Joined;
}

impl Snapshot<Value> for Joined {
    fn create(entries: &[Value]) -> Self {
        Self(entries.iter().flat_map(|entry| entry.0.iter().copied()).collect())
    }
    fn merge(&mut self, delta: Self) {
        self.0.extend(delta.0);
    }
    fn use_snapshots() -> bool {
        true
    }
}

struct Plain;

impl Codec<Value> for Plain {
    fn encode(value: &Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(&value.0);
        Ok(())
    }
    fn decode(bytes: &[u8]) -> Result<Value, CodecError> {
        Ok(Value(bytes.to_vec()))
    }
}

impl Codec<Joined> for Plain {
    fn encode(joined: &Joined, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(&joined.0);
        Ok(())
    }
    fn decode(bytes: &[u8]) -> Result<Joined, CodecError> {
        Ok(Joined(bytes.to_vec()))
    }
}

type Store = LogStorage<Value, Plain, Group>;

fn value(number: u64) -> Value {
    Value(number.to_le_bytes().to_vec())
}

fn open(disk: &SimDisk, durability: Durability) -> Groups {
    let options = Options::new().background(false).segment_bytes(128 * 1024).durability(durability);
    let (log, _) = Log::open_or_create_in(Arc::new(disk.clone()), &options).unwrap();
    Groups::from_log(log, &GroupsOptions::new()).unwrap()
}

#[test]
fn group_conforms() {
    for durability in [Durability::Always, Durability::Barrier] {
        let disk = SimDisk::new(3);
        let shared = open(&disk, durability);
        let mut id = 0;
        let fresh = move || {
            id += 1;
            Store::from_store(shared.create_group(id).unwrap()).unwrap()
        };
        let report = Conformance::new(fresh, value)
            .reopening(|storage: Store| {
                // The log is shared, so the group alone begins anew.
                let handle = storage.handle();
                drop(storage);
                handle.close().unwrap();
                Store::from_store(handle.log().clone()).unwrap()
            })
            .snapshots(|number| Joined(vec![7; usize::try_from(number).unwrap() * 700]))
            .seed(13)
            .run();
        assert!(report.holds(), "{report}");
        let skipped = report.findings().filter(|(_, finding)| **finding == Finding::Skipped);
        assert_eq!(skipped.count(), 0);
    }
}

#[test]
fn storages_of_many_groups_share_a_sync() {
    let disk = SimDisk::new(4);
    let groups = open(&disk, Durability::Barrier);
    let store = |id| Store::from_store(groups.create_group(id).unwrap()).unwrap();
    let mut stores: Vec<Store> = (0..64).map(store).collect();
    let before = groups.stats().log.syncs;
    for store in &mut stores {
        store.append_entry(value(1)).unwrap();
    }
    for store in &stores {
        store.handle().barrier().unwrap();
    }
    assert_eq!(groups.stats().log.syncs, before + 1);
    drop((stores, groups));
    let groups = open(&disk, Durability::Barrier);
    for id in groups.ids() {
        let store = Store::from_store(groups.group(id).unwrap()).unwrap();
        assert_eq!(store.get_suffix(0).unwrap(), [value(1)]);
    }
}
