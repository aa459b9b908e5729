#!/usr/bin/env bash
# The whole suite, with far more cases than CI has time for: hours, not minutes. Arguments go to `cargo test`.
set -euo pipefail
export SCHEDULE_CASES=${SCHEDULE_CASES:-100000} # sampled schedules that are held against the oracle
export CRASH_KILLS=${CRASH_KILLS:-500}          # moments at which the server is killed, on each database
export CRASH_POINT_RUNS=${CRASH_POINT_RUNS:-1000} # runs of the server that ends at a named point, in each of three tests
export STORMS=${STORMS:-10000}                  # storms over the deliverer and a simulated Discord, on each database
export HOSTILE_TEXTS=${HOSTILE_TEXTS:-1000000}  # hostile texts of which none may ping anybody unasked
exec "$(dirname "${BASH_SOURCE[0]}")/test.sh" -- --release "$@"
