//! The bodies of the fuzz targets: one module per target, each with the invariants it checks, a
//! `run` that panics when one is broken, and the `seeds` it starts from.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --example seeds` writes the seeds anew.

pub mod codec_omnipaxos;
pub mod codec_raft;
pub mod frame_decode;
pub mod groups_open;
pub mod groups_operations;
pub mod images;
pub mod metadata_slots;
pub mod open_directory;
pub mod operations;
pub mod raft_seeds;
pub mod script;
pub mod segment_scan;
pub mod stores_raft;

/// A name and the bytes of an input.
pub type Seed = (String, Vec<u8>);

/// A target: its name, how it runs, what it starts from.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Seed>);

/// Every target.
pub const TARGETS: [Target; 10] = [
    ("frame_decode", frame_decode::run, frame_decode::seeds),
    ("segment_scan", segment_scan::run, segment_scan::seeds),
    ("metadata_slots", metadata_slots::run, metadata_slots::seeds),
    ("codec_omnipaxos", codec_omnipaxos::run, codec_omnipaxos::seeds),
    ("codec_raft", codec_raft::run, codec_raft::seeds),
    ("stores_raft", stores_raft::run, stores_raft::seeds),
    ("open_directory", open_directory::run, open_directory::seeds),
    ("operations", operations::run, operations::seeds),
    ("groups_open", groups_open::run, groups_open::seeds),
    ("groups_operations", groups_operations::run, groups_operations::seeds),
];

#[cfg(test)]
mod tests {
    /// Counts for `codec_raft`, as in its target.
    #[global_allocator]
    static COUNTED: &stats_alloc::StatsAlloc<std::alloc::System> =
        &stats_alloc::INSTRUMENTED_SYSTEM;

    #[test]
    fn every_seed_passes_its_target() {
        for (name, run, seeds) in super::TARGETS {
            let seeds = seeds();
            assert!(!seeds.is_empty(), "{name} has no seeds");
            for (seed, bytes) in seeds {
                println!("{name}/{seed}");
                run(&bytes);
            }
        }
    }
}
