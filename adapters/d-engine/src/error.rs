//! How a failure of the log reads to d-engine.
//!
//! Owns: the one mapping from [`indelible::Error`] to the host's error, and the way back. d-engine
//! stops a node on `Error::Fatal` and on `StorageError::DataCorruption` only; everything else it
//! logs and tries again. So:
//!
//! | the log says                                      | the host gets                          |
//! |---------------------------------------------------|----------------------------------------|
//! | a handle that is dead: `Io`, `Poisoned`, `Closed` | `Fatal`                                |
//! | bytes that are gone: `Damaged`, `Hole`, `Incomplete` | `StorageError::DataCorruption`      |
//! | anything else                                     | `StorageError::IoError`, see [`cause`] |

use std::io::{self, ErrorKind};

use d_engine_core::{Error as HostError, StorageError, SystemError};
use indelible::Error;

/// What a call of the host's traits returns.
pub(crate) type HostResult<T> = Result<T, HostError>;

/// The log's own error behind an error that one of the stores returned, if the host's error could
/// carry it: all but the fatal ones, which the host keeps as text.
pub fn cause(error: &HostError) -> Option<&Error> {
    match error {
        HostError::System(SystemError::Storage(StorageError::IoError(error))) => {
            error.get_ref()?.downcast_ref()
        }
        _ => None,
    }
}

/// The host's error for an error of the log.
pub(crate) fn to_host(error: Error) -> HostError {
    let kind = match &error {
        Error::Io { .. } | Error::Poisoned { .. } | Error::Closed => {
            return HostError::Fatal(error.to_string());
        }
        Error::Damaged { .. } | Error::Hole { .. } | Error::Incomplete { .. } => {
            return corruption(error.to_string());
        }
        Error::DiskFull { .. } => ErrorKind::StorageFull,
        Error::Locked { .. } => ErrorKind::ResourceBusy,
        Error::Missing { .. } => ErrorKind::NotFound,
        Error::AlreadyExists { .. } => ErrorKind::AlreadyExists,
        Error::UnsupportedVersion { .. } | Error::UnsupportedFeature { .. } => {
            ErrorKind::Unsupported
        }
        _ => ErrorKind::InvalidInput,
    };
    StorageError::IoError(io::Error::new(kind, error)).into()
}

/// The host's error for bytes that passed their checksum and still are not what they must be.
pub(crate) fn corruption(location: String) -> HostError {
    StorageError::DataCorruption { location }.into()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_dead_handle_and_lost_bytes_stop_the_node() {
        let poisoned = Error::Poisoned { cause: Error::Closed.into() };
        let incomplete = Error::Incomplete { path: PathBuf::new(), count: 3 };
        for error in [Error::Closed, poisoned, incomplete] {
            assert!(to_host(error).is_fatal());
        }
    }

    #[test]
    fn a_full_disk_is_retried_and_keeps_its_cause() {
        let error = to_host(Error::DiskFull { path: PathBuf::from("d"), needed: 7 });
        assert!(!error.is_fatal());
        assert!(matches!(cause(&error), Some(Error::DiskFull { needed: 7, .. })));
    }
}
