//! d-engine's own `StorageEngineTestSuite`: on files, in memory, and on a group of a log.

use std::sync::Arc;

use async_trait::async_trait;
use d_engine_core::Error;
use d_engine_core::storage_engine_test::{StorageEngineBuilder, StorageEngineTestSuite};
use indelible_d_engine::{DEngineStorage, Options};
use indelible_groups::{Group, Groups, GroupsOptions};
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

/// What is in memory survives only as long as a handle: the builder keeps one.
struct Memory(Arc<DEngineStorage>);

#[async_trait]
impl StorageEngineBuilder for Memory {
    type Engine = DEngineStorage;

    async fn build(&self) -> Result<Arc<DEngineStorage>, Error> {
        Ok(Arc::clone(&self.0))
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
async fn official_suite_passes_in_memory() {
    let memory = Memory(Arc::new(DEngineStorage::in_memory().unwrap()));
    StorageEngineTestSuite::run_all_tests(memory).await.unwrap();
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
