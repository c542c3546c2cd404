//! Where a storage lives and how it is run. Owns: the path and its absence. Does not own: what the
//! options mean (`crate::Options`).

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::options::{Durability, Options, SyncMethod, WriteMode};

/// The path and the options of a [`LogStorage`](super::LogStorage).
///
/// It is used as upstream's `PersistentStorageConfig` is: made with [`Self::default`],
/// [`Self::with_path`] or [`Self::with`], changed with setters, or chained. There is no default path:
/// opening without one is an error.
///
/// ```
/// use indelible::omnipaxos::StorageConfig;
/// use indelible::{Durability, Options, WriteMode};
///
/// let chained = StorageConfig::with_path("/var/lib/node-1")
///     .durability(Durability::Barrier)
///     .segment_bytes(16 * 1024 * 1024);
///
/// let mut set = StorageConfig::default();
/// set.set_path("/var/lib/node-1");
/// set.set_durability(Durability::Barrier);
/// set.set_segment_bytes(16 * 1024 * 1024);
/// assert_eq!(set, chained);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StorageConfig {
    path: Option<PathBuf>,
    options: Options,
}

impl StorageConfig {
    /// This path, and the default options.
    pub fn with_path(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), options: Options::default() }
    }

    /// This path and these options.
    pub fn with(path: impl Into<PathBuf>, options: Options) -> Self {
        Self { path: Some(path.into()), options }
    }

    /// The same with another path.
    #[must_use]
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.set_path(path);
        self
    }

    /// The same with these options.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.set_options(options);
        self
    }

    /// The same with another durability.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.set_durability(durability);
        self
    }

    /// The same with another segment size, in bytes.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.set_segment_bytes(bytes);
        self
    }

    /// The same with another write mode.
    #[must_use]
    pub fn write_mode(mut self, mode: WriteMode) -> Self {
        self.set_write_mode(mode);
        self
    }

    /// The same with another sync method.
    #[must_use]
    pub fn sync_method(mut self, method: SyncMethod) -> Self {
        self.set_sync_method(method);
        self
    }

    /// The directory of the log, if it was set.
    pub fn get_path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Sets the directory of the log.
    pub fn set_path(&mut self, path: impl Into<PathBuf>) {
        self.path = Some(path.into());
    }

    /// The options of the log.
    pub const fn get_options(&self) -> &Options {
        &self.options
    }

    /// Sets every option of the log.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// When a write becomes durable.
    pub const fn get_durability(&self) -> Durability {
        self.options.durability
    }

    /// Sets when a write becomes durable; [`Synced`](super::Synced) has no need of it. The default,
    /// `Always`, is the one that is safe with a host loop that knows nothing of barriers.
    /// docs/ADAPTERS.md helps to choose.
    pub fn set_durability(&mut self, durability: Durability) {
        self.options.durability = durability;
    }

    /// The size of each segment file of a new log, in bytes.
    pub const fn get_segment_bytes(&self) -> u64 {
        self.options.segment_bytes
    }

    /// Sets the size of each segment file of a new log, in bytes: the same on all nodes of a cluster,
    /// because an entry must fit into a segment of each of them.
    pub fn set_segment_bytes(&mut self, bytes: u64) {
        self.options.segment_bytes = bytes;
    }

    /// How bytes get into the log.
    pub const fn get_write_mode(&self) -> WriteMode {
        self.options.write_mode_in_force()
    }

    /// Sets how bytes get into the log.
    pub fn set_write_mode(&mut self, mode: WriteMode) {
        self.options.write_mode = Some(mode);
    }

    /// How bytes are put on media.
    pub const fn get_sync_method(&self) -> SyncMethod {
        self.options.sync_method_in_force()
    }

    /// Sets how bytes are put on media.
    pub fn set_sync_method(&mut self, method: SyncMethod) {
        self.options.sync_method = Some(method);
    }

    /// The path, which must have been set.
    pub(super) fn checked_path(&self) -> Result<&Path> {
        const UNSET: Error = Error::InvalidOption {
            option: "path",
            reason: "it was not set, and there is no default: name a directory of this node's own",
        };
        self.get_path().filter(|path| !path.as_os_str().is_empty()).ok_or(UNSET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unset_path_is_refused() {
        let refused = StorageConfig::default().checked_path().unwrap_err();
        assert!(matches!(refused, Error::InvalidOption { option: "path", .. }));
        assert!(StorageConfig::with_path("").checked_path().is_err());
    }

    #[test]
    fn getters_give_back_what_was_set() {
        let config = StorageConfig::default()
            .path("a")
            .durability(Durability::Barrier)
            .segment_bytes(65536)
            .write_mode(WriteMode::Pwrite)
            .sync_method(SyncMethod::Fsync);
        assert_eq!(config.get_path(), Some(Path::new("a")));
        assert_eq!(config.get_durability(), Durability::Barrier);
        assert_eq!(config.get_segment_bytes(), 65536);
        assert_eq!(config.get_write_mode(), WriteMode::Pwrite);
        assert_eq!(config.get_sync_method(), SyncMethod::Fsync);
        assert_eq!(config, StorageConfig::with("a", config.get_options().clone()));
    }
}
