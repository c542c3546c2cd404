#!/usr/bin/env bash
# Builds the fuzz targets and runs each, or those named, for a bounded number of executions.
#
#   fuzz/run-bounded.sh [EXECUTIONS_OF_DECODERS [EXECUTIONS_OF_WHOLE_LOGS [TARGET...]]]
#
# Fails on the first crash, and leaves the input in fuzz/artifacts. Without cargo-fuzz it says so and
# fails: a lane that did not run is not a pass.
set -euo pipefail
cd "$(dirname "$0")/.."

# What an execution frees stays with the process: the next one would fault the same pages in again.
export MALLOC_TRIM_THRESHOLD_=1000000000 MALLOC_MMAP_THRESHOLD_=1000000000

decoders=${1:-200000}
whole_logs=${2:-3000}
targets=("${@:3}")

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: SKIPPED, cargo-fuzz is not installed (cargo install cargo-fuzz --version 0.13.2)" >&2
    exit 3
fi

# Sanitizers, which need a nightly compiler, are off.
toolchain=
! rustup toolchain list 2>/dev/null | grep -q '^stable' || toolchain=+stable

binaries=fuzz/target/$(rustc -vV | sed -n 's/^host: //p')/release

# d-engine's targets are apart, because their host needs protoc to build.
apart=adapters/d-engine/fuzz
if [ ${#targets[@]} = 0 ]; then
    listed=$(cargo fuzz list && cargo fuzz list --fuzz-dir $apart)
    mapfile -t targets <<<"$listed"
fi

for target in "${targets[@]}"; do
    package=fuzz
    [ -e "fuzz/fuzz_targets/$target.rs" ] || package=$apart
    # Comparisons are not traced: these targets make their checksums right themselves and read
    # scripts, so tracing finds nothing more in as many executions, and halves their rate.
    cargo $toolchain fuzz build --fuzz-dir $package --target-dir fuzz/target -s none --no-trace-compares "$target"
    case $target in
    groups_open | groups_operations | open_directory | operations | stores_raft | store_d_engine) runs=$whole_logs ;;
    *) runs=$decoders ;;
    esac
    # Longer inputs say nothing new and are slower. Programs are long from the start: left alone, the
    # fuzzer keeps them short for hundreds of thousands of executions.
    case $target in
    segment_scan) lengths=(-max_len=2049) ;;
    codec_raft | stores_raft | codec_d_engine | store_d_engine) lengths=(-max_len=1024) ;;
    metadata_slots) lengths=(-max_len=4097) ;;
    operations) lengths=(-max_len=256 -len_control=0) ;;
    *) lengths=() ;;
    esac
    corpus=$(mktemp -d)
    log=$corpus/.log
    mkdir -p "fuzz/artifacts/$target"
    if ! "$binaries/$target" -runs="$runs" -seed=1 "${lengths[@]}" -timeout=120 \
        -rss_limit_mb=1024 -artifact_prefix="fuzz/artifacts/$target/" \
        "$corpus" "$package/seeds/$target" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "fuzz: $target FAILED" >&2
        exit 1
    fi
    done=$(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$log")
    if [ -z "$done" ] || [ "$done" -lt "$runs" ]; then
        echo "fuzz: $target ran ${done:-0} of $runs executions" >&2
        exit 1
    fi
    echo "fuzz: $target $done executions, no crash"
    rm -rf "$corpus"
done
