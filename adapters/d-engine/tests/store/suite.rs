//! d-engine's own `StorageEngineTestSuite`: on files, on a simulated disk that loses its power, and on
//! a group of a log.

use std::sync::Arc;

use async_trait::async_trait;
use d_engine_core::Error;
use d_engine_core::storage_engine_test::{StorageEngineBuilder, StorageEngineTestSuite};
use indelible::Log;
use indelible::io::sim::{Persistence, SimDisk};
use indelible_d_engine::{DEngineStorage, Options};
use indelible_groups::{Group, Groups, GroupsOptions};
use parking_lot::Mutex;
use tempfile::TempDir;

struct Files(TempDir);

#[async_trait]
impl StorageEngineBuilder for Files {
    type Engine = DEngineStorage;

    async fn build(&self) -> Result<Arc<DEngineStorage>, Error> {
        DEngineStorage::open_or_create(self.0.path().join("log"), &Options::new()).map(Arc::new)
    }

    async fn cleanup(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// A simulated disk in memory, whose power is cut before every build: what the suite calls a crash is
/// a storage that is dropped, so what it finds again is what dropping one has put on the medium.
struct PowerCuts(Mutex<SimDisk>);

#[async_trait]
impl StorageEngineBuilder for PowerCuts {
    type Engine = DEngineStorage;

    async fn build(&self) -> Result<Arc<DEngineStorage>, Error> {
        let mut disk = self.0.lock();
        *disk = disk.crash_with(Persistence::Nothing);
        let (log, _report) = Log::open_or_create_in(Arc::new(disk.clone()), &Options::new())
            .map_err(|error| Error::Fatal(error.to_string()))?;
        DEngineStorage::from_log(log).map(Arc::new)
    }

    async fn cleanup(&self) -> Result<(), Error> {
        Ok(())
    }
}

#[tokio::test]
async fn official_suite_passes_on_files() {
    let files = Files(TempDir::new().unwrap());
    StorageEngineTestSuite::run_all_tests(files).await.unwrap();
}

#[tokio::test]
async fn official_suite_passes_over_power_cuts() {
    let disk = PowerCuts(Mutex::new(SimDisk::new(1)));
    StorageEngineTestSuite::run_all_tests(disk).await.unwrap();
}

/// One of three groups in a log on files.
struct OfGroups(TempDir);

#[async_trait]
impl StorageEngineBuilder for OfGroups {
    type Engine = DEngineStorage<Group>;

    async fn build(&self) -> Result<Arc<DEngineStorage<Group>>, Error> {
        let path = self.0.path().join("log");
        let groups = Groups::open_or_create(path, &GroupsOptions::new()).unwrap();
        let [_, group, _] = [1, 2, 3].map(|id| groups.open_or_create_group(id).unwrap());
        DEngineStorage::from_log(group).map(Arc::new)
    }

    async fn cleanup(&self) -> Result<(), Error> {
        Ok(())
    }
}

#[tokio::test]
async fn official_suite_passes_on_a_group() {
    let groups = OfGroups(TempDir::new().unwrap());
    StorageEngineTestSuite::run_all_tests(groups).await.unwrap();
}
