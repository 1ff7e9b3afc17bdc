#!/usr/bin/env bash
# Runs the self-test as on a small router: packaging/test-small.sh BINARY
#
# The server has 64 MB of memory (a control group, without swap) and half a megabyte for its state (a tmpfs).
# Needs root, and says so where this machine allows neither.
set -euo pipefail
binary=$(realpath -- "${1:?a binary}")
cd "$(dirname "$0")"
. ./preamble.sh
group=
skip() {
  echo "SKIPPED  a small machine: $*"
  exit 0
}
cleanup() {
  umount "$work/state" 2>/dev/null || true
  [ -z "$group" ] || rmdir "$group" 2>/dev/null || true
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
[ "$(id -u)" = 0 ] || skip 'only root may make one'

mkdir "$work/state"
mount -t tmpfs -o size=512k tmpfs "$work/state" 2>"$work/why" || skip "$(cat "$work/why")"
limit=$((64 << 20))
# The old kind of control groups has a hierarchy for memory alone.
if [ -e /sys/fs/cgroup/memory/memory.limit_in_bytes ]; then
  parent=/sys/fs/cgroup/memory maximum=memory.limit_in_bytes peak=memory.max_usage_in_bytes kills=memory.oom_control
elif grep -qw memory /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null; then
  parent=/sys/fs/cgroup maximum=memory.max peak=memory.peak kills=memory.events
else
  skip 'there is no control group for memory here'
fi
mkdir "$parent/luat-ota-$$" 2>"$work/why" || skip "$(cat "$work/why")"
group=$parent/luat-ota-$$
echo $limit >"$group/$maximum" || skip 'a control group takes no limit'
printf '#!/bin/sh\necho $$ >%s/cgroup.procs\nexec "$@"\n' "$group" >"$work/launcher"
chmod +x "$work/launcher"

# It counts on what the group has, not on what the machine has.
SELFTEST_LAUNCHER=$work/launcher SELFTEST_STATE=$work/state ./selftest.sh "$binary"
killed=$(awk '$1 == "oom_kill" {print $2}' "$group/$kills")
[ "${killed:-0}" = 0 ] || { echo 'FAIL  killed for its memory'; exit 1; }
[ -n "$(ls -A "$work/state")" ] || { echo 'FAIL  nothing is kept in the state folder'; exit 1; }
echo "PASS  with 64 MB of memory, of which at most $(($(cat "$group/$peak" 2>/dev/null || echo 0) >> 10)) kB were taken, files and all"
