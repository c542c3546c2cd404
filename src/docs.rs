//! The documents of the repository, as pages. Links between them lead to files of the repository.
//!
//! Owns: nothing; the texts are in `docs/`.

#[doc = include_str!("../docs/ADAPTERS.md")]
pub mod adapters {}
#[doc = include_str!("../docs/BENCHMARKS.md")]
pub mod benchmarks {}
#[doc = include_str!("../docs/DESIGN.md")]
pub mod design {}
#[doc = include_str!("../docs/DISKS.md")]
pub mod disks {}
#[doc = include_str!("../docs/FORMAT.md")]
pub mod format {}
#[doc = include_str!("../docs/GLOSSARY.md")]
pub mod glossary {}
#[doc = include_str!("../docs/GROUPS.md")]
pub mod groups {}
#[doc = include_str!("../docs/MIGRATION.md")]
pub mod migration {}
#[doc = include_str!("../docs/OPERATIONS.md")]
pub mod operations {}
#[doc = include_str!("../docs/OPTIONS.md")]
pub mod options {}
#[doc = include_str!("../docs/RECOVERY.md")]
pub mod recovery {}
#[doc = include_str!("../docs/TESTING.md")]
pub mod testing {}
