#!/bin/sh
# Asks RustSec's advisory database about the crates in Cargo.lock (a part of `make check`).
#
# The database is a git repository on GitHub; crates.io, PyPI and Debian carry no copy of it. In this order:
#   ADVISORY_DB=FOLDER   a clone of it, for machines that reach no GitHub
#   the clone that `cargo deny` keeps, renewed if GitHub answers within half a minute
# Where neither can be had, it says so in one line and succeeds, unless ADVISORIES=required.
set -eu

cargo=${CARGO:-cargo}
origin=https://github.com/RustSec/advisory-db
say() { printf 'advisories: %s\n' "$*"; }

not_checked() {
    say "NOT CHECKED: $*; name a clone of $origin with ADVISORY_DB=FOLDER"
    [ "${ADVISORIES:-}" != required ] || exit 1
    exit 0
}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM
path=${CARGO_HOME:-$HOME/.cargo}/advisory-dbs
if [ -n "${ADVISORY_DB:-}" ]; then
    database=$(cd "$ADVISORY_DB" 2>/dev/null && pwd) || not_checked "there is no folder $ADVISORY_DB"
    # `cargo deny` takes no path, but a clone of its own, which git makes from the one that is here.
    path=$folder/databases
    export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$database.insteadOf" GIT_CONFIG_VALUE_0="$origin"
fi

# The project's own rules, and where the database is.
awk '{ print } /^\[advisories\]/ { print "db-path = \"" path "\""; print "git-fetch-with-cli = true" }' \
    path="$path" deny.toml > "$folder/deny.toml"

if ! GIT_TERMINAL_PROMPT=0 timeout 30 "$cargo" deny --config "$folder/deny.toml" --locked fetch db >"$folder/log" 2>&1; then
    ls -d "$path"/advisory-db-* >/dev/null 2>&1 || not_checked "no advisory database is here, and GitHub does not answer"
    say "the database could not be renewed; asking the one of before"
fi
"$cargo" deny --config "$folder/deny.toml" --offline --locked check advisories
