//! Creating and opening: every refusal has its error.

use indelible::codec::CodecError;
use indelible::omnipaxos::{LogStorage, StorageConfig};
use indelible::{Batch, Durability, Error, Log, Options};
use omnipaxos::storage::Storage;

use super::support::{Store, config, options, reopen, value, values};

#[test]
fn unset_path_is_refused_and_nothing_is_created() {
    let unset = StorageConfig::default();
    for refused in [Store::create(&unset), Store::open(&unset), Store::open_or_create(&unset)] {
        assert!(matches!(refused, Err(Error::InvalidOption { option: "path", .. })));
    }
}

#[test]
fn create_refuses_a_log_that_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory.path().join("node"));
    let storage = Store::create(&config).unwrap();
    storage.handle().close().unwrap();
    drop(storage);
    assert!(matches!(Store::create(&config), Err(Error::AlreadyExists { .. })));
    Store::open_or_create(&config).unwrap();
}

#[test]
fn open_refuses_a_log_that_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory.path().join("node"));
    assert!(matches!(Store::open(&config), Err(Error::Missing { .. })));
}

/// An empty log inside another storage's directory would have forgotten what that one promised.
#[test]
fn directory_of_another_storage_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for file in ["CURRENT", "IDENTITY", "LOCK", "MANIFEST-000005", "000008.sst"] {
        std::fs::write(directory.path().join(file), b"theirs").unwrap();
    }
    let config = config(directory.path());
    for refused in [Store::create(&config), Store::open_or_create(&config)] {
        let refused = refused.map(drop).unwrap_err();
        assert!(
            matches!(refused, Error::ForeignFiles { looks_like: Some("RocksDB"), .. }),
            "{refused}"
        );
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 5);
}

#[test]
fn log_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory.path().join("node"));
    let _held = Store::create(&config).unwrap();
    assert!(matches!(Store::open(&config), Err(Error::Locked { .. })));
}

#[test]
fn log_of_another_host_is_refused() {
    let log = Log::in_memory(&Options::new()).unwrap();
    log.append(b"an entry of somebody else").unwrap();
    let refused = Store::from_log(log);
    assert!(matches!(refused, Err(Error::InvalidArgument { what: "log", .. })));
}

#[test]
fn newer_layout_is_refused_as_newer() {
    let log = Log::in_memory(&Options::new()).unwrap();
    log.commit(Batch::new().set("omnipaxos.format", 2_u32.to_le_bytes().to_vec())).unwrap();
    let refused = Store::from_log(log);
    assert!(matches!(refused, Err(Error::UnsupportedVersion { found: 2, supported: 1, .. })));
}

/// A log with entries `0..3` and this cell.
fn with_cell(cell: &str, bytes: &[u8]) -> Result<Store, Error> {
    let log = Log::in_memory(&options(Durability::Always)).unwrap();
    let mut storage = Store::from_log(log.clone()).unwrap();
    storage.append_entries(values(0..3)).unwrap();
    drop(storage);
    log.commit(Batch::new().set(cell, bytes)).unwrap();
    Store::from_log(log)
}

#[test]
fn state_that_cannot_be_is_refused_with_its_cell() {
    let four = 4_u64.to_le_bytes();
    for (cell, bytes) in [
        ("omnipaxos.decided", &four[..]),
        ("omnipaxos.compacted", &four[..]),
        ("omnipaxos.promise", &[1; 19][..]),
        ("omnipaxos.promise", &[1; 21][..]),
        ("omnipaxos.accepted", &[][..]),
        ("omnipaxos.decided", &[0; 7][..]),
        ("omnipaxos.stopsign", &[0xff; 40][..]),
    ] {
        let refused = with_cell(cell, bytes).err();
        let named =
            |error: &Error| matches!(error, Error::MalformedCell { cell: it, .. } if *it == cell);
        assert!(refused.as_ref().is_some_and(named), "{cell} = {bytes:?}: {refused:?}");
    }
    let short = with_cell("omnipaxos.promise", &[1; 19]).err().unwrap().to_string();
    assert!(short.starts_with("state cell `omnipaxos.promise` of the log in"), "{short}");
    assert!(short.ends_with(" are left"), "{short}");
    assert!(!short.contains("byte 0") && !short.contains("expected"), "{short}");
}

#[test]
fn decided_index_is_raised_to_the_compacted_index() {
    let storage = with_cell("omnipaxos.compacted", &2_u64.to_le_bytes()).unwrap();
    assert_eq!(storage.get_decided_idx().unwrap(), 2);
}

#[test]
fn handle_outlives_the_storage_and_closes_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory.path().join("node"));
    let mut storage = Store::create(&config).unwrap();
    let handle = storage.handle();
    storage.append_entry(value(0)).unwrap();
    let elsewhere = std::thread::spawn(move || {
        storage.append_entry(value(1)).unwrap();
        storage
    });
    let mut storage = elsewhere.join().unwrap();
    handle.clone().close().unwrap();
    let refused = storage.append_entry(value(2)).unwrap_err();
    assert!(refused.to_string().contains("closed"), "{refused}");
    drop(storage);
    let storage = Store::open(&config).unwrap();
    assert_eq!(storage.get_suffix(0).unwrap(), values(0..2));
    assert_eq!(handle.log().path(), storage.handle().log().path());
}

#[test]
fn another_codec_does_not_pass_for_this_one() {
    struct Other;
    impl indelible::codec::Codec<super::support::Value> for Other {
        fn encode(_: &super::support::Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
            out.push(b'?');
            Ok(())
        }
        fn decode(_: &[u8]) -> Result<super::support::Value, CodecError> {
            Err(CodecError::Text { field: "value" })
        }
    }
    impl indelible::codec::Codec<super::support::Joined> for Other {
        fn encode(_: &super::support::Joined, _: &mut Vec<u8>) -> Result<(), CodecError> {
            Ok(())
        }
        fn decode(_: &[u8]) -> Result<super::support::Joined, CodecError> {
            Ok(super::support::Joined::default())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory.path().join("node"));
    let mut storage = LogStorage::<super::support::Value, Other>::create(&config).unwrap();
    storage.append_entry(value(0)).unwrap();
    let handle = storage.handle();
    drop(storage);
    handle.close().unwrap();
    let storage = reopen(Store::open(&config).unwrap());
    assert!(storage.get_suffix(0).is_err());
}
