#!/usr/bin/env bash
# Runs the benchmark with a private PostgreSQL in its default settings: every commit is on disk before it counts.
# Arguments go to the benchmark. TEST_DATABASE_URL names another server to measure; BENCH_DIR another folder for
# the cluster (default /var/tmp, which on most machines is on a disk).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/postgres.sh

bench=(cargo bench --locked -p botticelli_actor --bench server -- "$@")
if [[ -n ${TEST_DATABASE_URL-} ]]; then
    exec "${bench[@]}"
fi
# shellcheck disable=SC2034 # read by postgres.sh
pg_parent=${BENCH_DIR:-/var/tmp}
if [[ $(stat -f -c %T "$pg_parent") == tmpfs ]]; then
    say "warning: $pg_parent is in memory, so commits look faster than they are: set BENCH_DIR to a folder on a disk"
fi
with_private_postgres "${bench[@]}"
