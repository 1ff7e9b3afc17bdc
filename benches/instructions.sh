#!/usr/bin/env bash
# Counts the instructions of our own code on the way of a check and of a packet (callgrind) and compares them
# with the recorded bounds: unlike times, these are the same on a busy machine. The counts are those of x86-64.
#
#   benches/instructions.sh           fails over a bound
#   benches/instructions.sh --print   the counts alone
#
# A bound is a tenth above what was counted when it was last set. Where a change is worth more instructions, or
# saves many, set it anew.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(uname -m)" != x86_64 ]; then
  echo "the bounds are those of x86-64: nothing counted here"
  echo "0 passed, 0 failed"
  exit 0
fi
command -v valgrind >/dev/null || { echo "missing: valgrind; apt-get install valgrind" >&2; exit 2; }

# case             bound (instructions)
bounds="
head                 3370
query                5929
decide_nothing_newer 1847
decide_offer         3377
decide_among_many    2577
refusal              33
check                11201
datagram_get         926
datagram_check       3492
upgrade_id           91
imei_ranges          277
log_line             5907
"

# With what packaging/build.sh adds for the full size.
export RUSTFLAGS='-C llvm-args=-inline-threshold=50'
binary=$(cargo bench --bench paths --no-run --locked --message-format json 2>/dev/null |
  sed -n 's/.*"name":"paths".*"executable":"\([^"]*\)".*/\1/p')
[ -x "$binary" ] || { echo "benches/paths.rs cannot be built: cargo bench --bench paths --no-run" >&2; exit 2; }

# counted CASE TIMES
counted() {
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" --steps "$1" "$2" 2>&1 >/dev/null |
    sed -n 's/.*Collected : \([0-9]*\)$/\1/p'
}

passed=0 failed=0
while read -r case bound; do
  [ -n "$case" ] || continue
  # What gets it ready is in both.
  few=$(counted "$case" 1000)
  many=$(counted "$case" 3000)
  count=$(((many - few) / 2000))
  if [ "${1:-}" = --print ]; then
    echo "$case $count"
  elif [ "$count" -gt 0 ] && [ "$count" -le "$bound" ]; then
    passed=$((passed + 1))
    echo "ok    $case: $count instructions (bound $bound)"
  else
    failed=$((failed + 1))
    echo "FAILS $case: $count instructions (bound $bound)"
  fi
done <<<"$bounds"
[ "${1:-}" = --print ] && exit 0
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
