#!/usr/bin/env bash
# Runs the whole test suite: on SQLite, and on a private PostgreSQL that lives as long as the tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/postgres.sh

usage() {
    cat <<'END'
usage: scripts/test.sh [--sqlite-only] [-- ARGUMENTS OF cargo test]

Runs `cargo test --workspace --all-features --locked`, on SQLite and on PostgreSQL.
Gets PostgreSQL's server binaries and a C compiler from the system's packages where they are
missing (Debian, Ubuntu; as root or through sudo), starts a private cluster in a temporary folder
as a user that is not root, and ends it afterwards.

  --sqlite-only   go without PostgreSQL; its tests say that they were left out
  -h, --help      this text

  scripts/test.sh -- -p botticelli_server          one crate (then without --workspace)
  scripts/test.sh -- schedule -- --nocapture       the tests whose names contain "schedule"

Environment:
  TEST_DATABASE_URL   use this PostgreSQL server, and start none
END
}

sqlite_only=""
while (($#)); do
    case $1 in
    --sqlite-only) sqlite_only=1 ;;
    -h | --help) usage && exit 0 ;;
    --) shift && break ;;
    *) say "unknown argument: $1 (arguments for cargo test go after --)" && usage >&2 && exit 2 ;;
    esac
    shift
done

scope=(--workspace)
for argument in "$@"; do
    case $argument in
    --) break ;;
    -p* | --package | --package=*) scope=() ;;
    esac
done
tests=(cargo test "${scope[@]}" --all-features --locked "$@")

if ! command -v cargo >/dev/null; then
    [[ -x ${CARGO_HOME:-${HOME-}/.cargo}/bin/cargo ]] || die "cargo is missing: install a Rust toolchain first"
    PATH=${CARGO_HOME:-${HOME-}/.cargo}/bin:$PATH
fi
# SQLite is compiled from C, and Rust links with the C compiler.
if ! command -v cc >/dev/null; then
    install_packages gcc libc6-dev || say "could not install a C compiler here (no apt-get, not root and no sudo, or no packages)"
    command -v cc >/dev/null || die "a C compiler is missing (Debian, Ubuntu: apt-get install gcc libc6-dev)"
fi

unset BOTTICELLI_TEST_SQLITE_ONLY
if [[ -n $sqlite_only ]]; then
    unset TEST_DATABASE_URL
    export BOTTICELLI_TEST_SQLITE_ONLY=1
    say "without PostgreSQL, as asked"
    exec "${tests[@]}"
elif [[ -n ${TEST_DATABASE_URL-} ]]; then
    say "using the PostgreSQL of TEST_DATABASE_URL"
    exec "${tests[@]}"
fi

# The tests kill our own server, never PostgreSQL or the machine, so nothing here needs to survive a power cut.
# What one connection commits, the others see all the same.
pg_settings=$'fsync=off\nsynchronous_commit=off\nfull_page_writes=off'
with_private_postgres "${tests[@]}"
