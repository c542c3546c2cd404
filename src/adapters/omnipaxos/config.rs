//! Where a storage lives and how it is run. Owns: the path and its absence. Does not own: what the
//! options mean (`crate::Options`).

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::options::{Durability, Options};

/// The path and the options of a [`LogStorage`](super::LogStorage).
///
/// There is no default path: opening without one is an error.
///
/// ```
/// use indelible::omnipaxos::StorageConfig;
/// use indelible::{Durability, Options};
///
/// let config = StorageConfig::with_path("/var/lib/node-1").durability(Durability::Barrier);
/// let options = Options::new().durability(Durability::Barrier);
/// assert_eq!(config, StorageConfig::with("/var/lib/node-1", options));
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
        self.path = Some(path.into());
        self
    }

    /// The same with these options.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The same with another durability; [`Synced`](super::Synced) has no need of it. The default,
    /// `Always`, is the one that is safe with a host loop that knows nothing of barriers.
    /// docs/ADAPTERS.md helps to choose.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.options = self.options.durability(durability);
        self
    }

    /// The same with another size of each segment file of a new log, in bytes: the same on all nodes
    /// of a cluster, because an entry must fit into a segment of each of them.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.options = self.options.segment_bytes(bytes);
        self
    }

    /// The directory of the log, if it was set.
    pub fn get_path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The options of the log.
    pub const fn get_options(&self) -> &Options {
        &self.options
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
        let options = Options::new().durability(Durability::Barrier).segment_bytes(65536);
        let config = StorageConfig::default().path("a");
        let config = config.durability(Durability::Barrier).segment_bytes(65536);
        assert_eq!((config.get_path(), config.get_options()), (Some(Path::new("a")), &options));
        assert_eq!(config, StorageConfig::default().path("a").options(options));
    }
}
