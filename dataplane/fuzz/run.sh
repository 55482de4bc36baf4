#!/bin/sh
# Runs every fuzz target of the data plane for SECONDS each (default 30): run.sh [SECONDS] [TARGET]…
#
# Stable Rust: the coverage counters that libFuzzer reads are switched on by hand. What it learns
# stays under target/learned; an input that fails is kept under findings/ and ends the run with an
# error. Put it into corpus/TARGET with the fix: the ordinary tests replay that folder.
set -eu
seconds=${1:-30}
[ $# -eq 0 ] || shift
case $seconds in '' | *[!0-9]*) echo "usage: $0 [SECONDS] [TARGET]..." >&2; exit 2 ;; esac
cd "$(dirname "$0")"
[ $# -gt 0 ] || set -- esp http_head if_t inner_packet link ncp probe too_big vnet

# A named target keeps these flags away from build scripts, which have no libFuzzer to talk to.
host=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-target}
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cdebuginfo=1" \
    cargo build --quiet --release --locked --target "$host" --target-dir "$target"

mkdir -p findings
for name; do
    learned=$target/learned/$name
    mkdir -p "$learned"
    echo "== $name, $seconds s"
    "$target/$host/release/$name" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -max_len=4096 \
        -artifact_prefix="findings/$name-" -print_final_stats=1 "$learned" "corpus/$name" 2>"$learned.log" || {
        tail -n 40 "$learned.log" >&2
        echo "$name: FAILED; the input is in findings/" >&2
        exit 1
    }
    grep -E '^stat::number_of_executed_units|DONE' "$learned.log"
done
echo "fuzz: no findings"
