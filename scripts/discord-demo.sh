#!/usr/bin/env bash
# Runs examples/discord.toml against a Discord of its own on this machine, until Ctrl-C. No bot and no token needed.
# Arguments go to the server: `scripts/discord-demo.sh --dry-run`.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
cargo build --quiet -p discord_double -p botticelli_actor --bin discord-double --bin actor-server
target=${CARGO_TARGET_DIR:-target}/debug

"$target/discord-double" --ledger "$folder/ledger.jsonl" >"$folder/about.json" &
double=$!
stop() {
    kill "$double" 2>/dev/null || true
    echo "what people saw: $folder/ledger.jsonl" >&2
}
trap stop EXIT
trap : INT # the server gets it too, and ends by itself

# Its first line says where it is.
until [ -s "$folder/about.json" ]; do
    kill -0 "$double"
    sleep 0.1
done
about() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$folder/about.json"; }

export DISCORD_API_BASE_URL DISCORD_TOKEN=double-bot-token DISCORD_CHANNEL_ID=1300000000000000100
DISCORD_API_BASE_URL=$(about base_url)
"$target/actor-server" --config examples/discord.toml --database-url "sqlite://$folder/demo.db" "$@"
