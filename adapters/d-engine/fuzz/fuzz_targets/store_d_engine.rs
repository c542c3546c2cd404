//! Runs `indelible_d_engine_fuzz::store_d_engine`, whose header lists the invariants.
#![no_main]

/// What a storage allocates is counted.
#[global_allocator]
static COUNTED: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| indelible_d_engine_fuzz::store_d_engine::run(bytes));
