//! The log store of openraft on a [`Log`](indelible::Log): [`v09`] for 0.9 (feature `v09`, on by
//! default), [`v010`] for one alpha of 0.10 (feature `v010`). A log that one of them wrote is read
//! by the other as it is.
//!
//! docs/ADAPTERS.md of `indelible` has the index conventions and what each call does on disk.

mod shared;
pub mod snapshots;
#[cfg(feature = "v010")]
pub mod v010;
#[cfg(feature = "v09")]
pub mod v09;
