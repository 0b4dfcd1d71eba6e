# shellcheck shell=bash
# Shared by the scripts of this folder. Each checks the real tree, and before that a planted
# violation in a temporary folder, so that a check that finds nothing is known to be able to.

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
  printf 'FAILED: %s\n' "$*"
  failures=$((failures + 1))
}

# finish WHAT: the last line of a script.
finish() {
  ((failures == 0)) && printf '%s: ok\n' "$1"
  exit $((failures > 0))
}
