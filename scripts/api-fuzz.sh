#!/usr/bin/env bash
# Runs a property-based tester against the API as /openapi.json describes it: schemathesis, from PyPI, in a Python
# environment of its own below the target folder. A server on examples/ runs meanwhile, with a token, on a free port of
# loopback and in a temporary folder. Fails when the tester finds something, or the server ends badly or logs an error.
# Arguments go to schemathesis: `scripts/api-fuzz.sh --include-path /tasks --max-time 10`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/postgres.sh # say, die, install_packages

root=$PWD
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tester=$target/api-fuzz
wanted=scripts/api-fuzz/requirements.txt

need_python() {
    python3 -c 'import venv, ensurepip' 2>/dev/null && return 0
    install_packages python3 python3-venv || say "could not install Python here (no apt-get, not root and no sudo, or no packages)"
    command -v python3 >/dev/null || die "python3 is missing (Debian, Ubuntu: apt-get install python3 python3-venv)"
    python3 -c 'import venv, ensurepip' 2>/dev/null ||
        die "python3 can't make environments: venv is missing (Debian, Ubuntu: apt-get install python3-venv)"
}

# Makes the environment, unless it is there with exactly these packages.
need_tester() {
    cmp -s "$wanted" "$tester/installed.txt" && "$tester/bin/schemathesis" --version >/dev/null 2>&1 && return 0
    need_python
    say "installing schemathesis into $tester"
    rm -rf -- "$tester"
    python3 -m venv "$tester"
    "$tester/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" ||
        die "pip could not install what $wanted lists"
    cp "$wanted" "$tester/installed.txt"
}

folder=""
server=""
child=""
# shellcheck disable=SC2317 # the traps call it
clean_up() {
    if [[ -n $server ]]; then
        kill -KILL "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    [[ -z $folder ]] || rm -rf -- "$folder"
}
# shellcheck disable=SC2317
interrupted() {
    trap '' INT TERM HUP
    [[ -z $child ]] || { kill -s "$1" "$child" 2>/dev/null && wait "$child"; } || true
    exit "$2" # through the EXIT trap
}
trap clean_up EXIT
trap 'interrupted INT 130' INT
trap 'interrupted TERM 143' TERM
trap 'interrupted HUP 129' HUP

# Waits for the line of the log that says where the API is, and prints that.
address() {
    local found
    for ((tries = 0; tries < 600; tries++)); do
        found=$(sed -n 's/.*the API listens on \(http[^ ]*\).*/\1/p' "$folder/log")
        [[ -z $found ]] || { echo "$found" && return 0; }
        kill -0 "$server" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

need_tester
cargo build --quiet --locked -p botticelli_actor --bin actor-server
folder=$(mktemp -d)
cp -r examples/. "$folder"
cat >>"$folder/actor_server.toml" <<'END'

[[actors]]
name = "on_builds"
config_file = "actors/welcome.toml"

[[actors.triggers]]
type = "webhook"
name = "builds"

[api]
listen = "127.0.0.1:0"
END
cp "$target/debug/actor-server" "$folder/"
cd "$folder"
env -i PATH="$PATH" ./actor-server migrate >/dev/null
API_FUZZ_TOKEN=$(env -i PATH="$PATH" ./actor-server token new --name api-fuzz --scope admin)
export API_FUZZ_TOKEN
touch log
env -i PATH="$PATH" ./actor-server >posts.txt 2>>log &
server=$!
url=$(address) || { cat log >&2 && die "the server did not start"; }
say "a server for the tester listens on $url"

status=0
env -u PYTHONPATH "$tester/bin/schemathesis" --config-file "$root/scripts/api-fuzz/schemathesis.toml" \
    run "$url/openapi.json" "$@" </dev/null &
child=$!
wait "$child" || status=$?
child=""
kill -TERM "$server" 2>/dev/null || true
ended=0
wait "$server" || ended=$?
server=""
if ((ended != 0)) || grep -n ' ERROR \|panicked' log >&2; then
    tail -n 40 log >&2
    die "the server ended with exit code $ended; above stand the last lines of its log"
fi
exit "$status"
