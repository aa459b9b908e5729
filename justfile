# Shows the recipes.
default:
    @just --list

# Builds a binary for release: `just build actor-server`.
build bin="actor-server":
    cargo build --release --locked --bin {{bin}}

# Runs the whole test suite, with a private PostgreSQL. Arguments as for scripts/test.sh.
test *args:
    ./scripts/test.sh {{args}}

# Runs all that CI runs.
check:
    .ci/run

# Runs the benchmark, with a private PostgreSQL that writes durably.
bench *args:
    ./scripts/bench.sh {{args}}

# Asks the API whatever `/openapi.json` allows, and what it does not: two minutes. Arguments go to schemathesis.
api-fuzz *args:
    ./scripts/api-fuzz.sh {{args}}

# Runs the suite with far more cases: hours.
soak *args:
    ./scripts/soak.sh {{args}}

# Formats the code.
fmt:
    cargo fmt --all

# Builds the documentation and opens it.
docs:
    cargo doc --workspace --no-deps --all-features --open

# Checks dependencies: licences, duplicates, sources. `just deny advisories` needs the network.
deny *checks="bans licenses sources":
    cargo deny --all-features --locked check {{checks}}
