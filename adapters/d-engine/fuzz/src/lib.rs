//! The bodies of the fuzz targets of d-engine's storage: one module per target, each with the
//! invariants it checks, a `run` that panics when one is broken, and the `seeds` it starts from.
//!
//! `cargo run --manifest-path adapters/d-engine/Cargo.toml -p indelible-d-engine-fuzz --example
//! seeds` writes the seeds anew.

pub mod codec_d_engine;
pub mod documented;
pub mod store_d_engine;

/// A name and the bytes of an input.
pub type Seed = (String, Vec<u8>);

/// A target: its name, how it runs, what it starts from.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Seed>);

/// Every target.
pub const TARGETS: [Target; 2] = [
    ("codec_d_engine", codec_d_engine::run, codec_d_engine::seeds),
    ("store_d_engine", store_d_engine::run, store_d_engine::seeds),
];

#[cfg(test)]
mod tests {
    /// Counts for both, as in the targets.
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
