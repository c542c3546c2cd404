//! Runs `indelible_fuzz::codec_raft`, whose header lists the invariants.
#![no_main]

/// What a decoder allocates is counted.
#[global_allocator]
static COUNTED: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| indelible_fuzz::codec_raft::run(bytes));
