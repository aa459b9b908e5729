# shellcheck shell=bash
# A private PostgreSQL cluster for the time of one command. Sourced by test.sh and bench.sh; defines functions,
# and two variables that the caller may set first:
#   pg_settings  lines for postgresql.conf, such as fsync=off
#   pg_parent    where the cluster's folder is made (default /tmp; keep it short: it also holds the socket,
#                whose path may have no more than 100 bytes)
#
# `with_private_postgres COMMAND…` starts a cluster in a new folder, as a user that is not root, reachable only
# through a Unix socket in that folder; runs COMMAND with TEST_DATABASE_URL set; and then, whatever happened to
# COMMAND or to this script (kill -9 excepted), stops that cluster and removes its folder.

pg_settings=${pg_settings-}
pg_parent=${pg_parent-/tmp}
pg_bin=""
pg_dir=""
pg_run_as=()
pg_child=""

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

# as_root COMMAND…: runs it as root, directly or through sudo. Asks for a password only where a person can answer.
as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [[ -t 0 && -z ${CI-} ]] && sudo -v; }; }; then
        sudo "$@"
    else
        return 1
    fi
}

# install_packages PACKAGE…: from the system's own packages (Debian, Ubuntu). Fails where that is not possible.
install_packages() {
    command -v apt-get >/dev/null || return 1
    say "installing $* with apt-get"
    # Installing PostgreSQL on Debian also makes and starts a cluster for the whole machine. We need the binaries only.
    # This setting is read while the packages are set up, and is taken away again.
    local quiet=/etc/postgresql-common/createcluster.d/botticelli-tests.conf
    # shellcheck disable=SC2016 # the inner shell expands these
    as_root env DEBIAN_FRONTEND=noninteractive sh -c '
        quiet=$1
        shift
        mkdir -p "${quiet%/*}" && echo "create_main_cluster = false" >"$quiet" || exit 1
        trap "rm -f \"$quiet\"" EXIT
        apt-get update -q </dev/null && apt-get install -q -y --no-install-recommends "$@" </dev/null' sh "$quiet" "$@" >&2
}

# Prints the folders in which PostgreSQL's server binaries may be, the best first.
pg_candidates() {
    local found
    if found=$(command -v initdb); then dirname "$found"; fi
    if command -v pg_config >/dev/null; then pg_config --bindir; fi
    printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV
}

# Sets pg_bin to the first folder that has all we need and that the cluster's user can run.
find_postgres() {
    local candidate
    while read -r candidate; do
        if [[ -x $candidate/initdb && -x $candidate/pg_ctl && -x $candidate/postgres ]] &&
            pg_as "$candidate/postgres" --version >/dev/null 2>&1; then
            pg_bin=$candidate
            return 0
        fi
    done < <(pg_candidates)
    return 1
}

# Runs a command as the cluster's user. Not in our folder: that user may not be allowed to read it.
pg_as() { (cd / && exec "${pg_run_as[@]}" "$@" </dev/null); }

# PostgreSQL refuses to run as root. Sets pg_run_as to what turns root into `postgres`, else `nobody`, with
# whichever tool works here.
choose_cluster_user() {
    pg_run_as=(env)
    [[ $EUID -eq 0 ]] || return 0
    local user uid gid
    for user in postgres nobody; do
        if ! uid=$(id -u "$user" 2>/dev/null) || ! gid=$(id -g "$user") || [[ $uid -eq 0 ]]; then continue; fi
        pg_run_as=(setpriv --reuid "$uid" --regid "$gid" --clear-groups --)
        [[ $(pg_as id -u 2>/dev/null) != "$uid" ]] || return 0
        pg_run_as=(runuser -u "$user" --)
        [[ $(pg_as id -u 2>/dev/null) != "$uid" ]] || return 0
        # shellcheck disable=SC2016 # the inner shell expands this
        pg_run_as=(su -s /bin/sh -c 'exec "$@"' -- "$user" sh)
        [[ $(pg_as id -u 2>/dev/null) != "$uid" ]] || return 0
    done
    die "PostgreSQL does not run as root, and neither setpriv, runuser nor su could become 'postgres' or 'nobody'." \
        "Run this script as another user, or set TEST_DATABASE_URL to a server that runs already."
}

# Makes sure that pg_bin and pg_run_as are set, or says what to do and fails.
need_postgres() {
    choose_cluster_user
    find_postgres && return 0
    install_packages postgresql || say "could not install PostgreSQL here (no apt-get, not root and no sudo, or no packages)"
    choose_cluster_user # the package brings the user `postgres`
    find_postgres && return 0
    die "PostgreSQL's server binaries (initdb, pg_ctl, postgres) are missing." \
        "Install them (Debian, Ubuntu: apt-get install postgresql), or set TEST_DATABASE_URL to a server that runs already."
}

start_private_postgres() {
    umask 077
    pg_dir=$(mktemp -d "${pg_parent%/}/botticelli-pg.XXXXXX") || die "cannot make a folder in $pg_parent"
    ((${#pg_dir} < 80)) || die "$pg_dir is too long a path for a Unix socket: choose a shorter folder than $pg_parent"
    if [[ $EUID -eq 0 ]]; then chown "$(pg_as id -u):$(pg_as id -g)" "$pg_dir"; fi
    # `trust` is safe: only the cluster's user and root can enter the folder.
    pg_as env -u PGDATA -u PGOPTIONS "$pg_bin/initdb" -D "$pg_dir/data" -U postgres --auth=trust \
        --encoding=UTF8 --no-locale --no-sync >"$pg_dir/initdb.log" 2>&1 ||
        { cat "$pg_dir/initdb.log" >&2 && die "initdb failed"; }
    printf '%s\n' "listen_addresses=''" "unix_socket_directories='$pg_dir'" "port=5432" "max_connections=200" \
        "$pg_settings" >>"$pg_dir/data/postgresql.conf"
    pg_as env -u PGDATA -u PGOPTIONS -u PGPORT "$pg_bin/pg_ctl" start -w -t 60 -s -D "$pg_dir/data" -l "$pg_dir/data/server.log" ||
        { cat "$pg_dir/data/server.log" >&2 && die "PostgreSQL did not start"; }
    export TEST_DATABASE_URL="postgresql:///postgres?host=$pg_dir&user=postgres"
}

# Can be called at any moment, and more than once.
stop_private_postgres() {
    [[ -n $pg_dir ]] || return 0
    if [[ -e $pg_dir/data/postmaster.pid ]]; then
        pg_as "$pg_bin/pg_ctl" stop -w -t 60 -s -m immediate -D "$pg_dir/data" ||
            { say "could not stop PostgreSQL in $pg_dir" && return 1; }
    fi
    rm -rf -- "$pg_dir"
    pg_dir=""
}

# On a signal: end the command and all it started, then PostgreSQL, then ourselves.
pg_interrupted() {
    trap '' INT TERM HUP
    if [[ -n $pg_child ]]; then
        kill -s "$1" -- "-$pg_child" 2>/dev/null || true
        wait "$pg_child" || true
        kill -s KILL -- "-$pg_child" 2>/dev/null || true
    fi
    exit "$2" # through the EXIT trap
}

with_private_postgres() {
    need_postgres
    trap stop_private_postgres EXIT
    trap 'pg_interrupted INT 130' INT
    trap 'pg_interrupted TERM 143' TERM
    trap 'pg_interrupted HUP 129' HUP
    local mask status=0
    mask=$(umask)
    start_private_postgres
    umask "$mask"
    say "PostgreSQL $("$pg_bin/postgres" --version | sed 's/.*) //;s/ .*//') runs in $pg_dir"
    # In a process group of its own, so that one signal reaches all of it, and in the background, so that the shell
    # acts on a signal at once and not when the command has ended.
    set -m
    "$@" </dev/null &
    pg_child=$!
    set +m
    wait "$pg_child" || status=$?
    pg_child=""
    stop_private_postgres || status=1
    trap - EXIT INT TERM HUP
    return "$status"
}
