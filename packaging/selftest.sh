#!/usr/bin/env bash
# Runs a built binary through its whole main job, as modules would ask: packaging/selftest.sh BINARY
#
# Needs Python 3, and for the binary of another machine qemu-user-static. Free ports on loopback, a
# temporary folder; stops what it started. Ends with `N passed, N failed`; exit status 1 if any failed.
set -euo pipefail
case ${1-} in
  '' | -*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
exec python3 "$(dirname "$0")/selftest.py" "$1"
