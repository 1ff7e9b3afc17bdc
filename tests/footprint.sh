#!/usr/bin/env bash
# tests/footprint.sh [BINARY]
#
# Prints the anonymous memory of BINARY when idle, and fails above the bound. Without BINARY, builds the two sizes with
# cargo, prints how large they are, and measures the one for routers. Starts the server on free loopback ports and stops
# it.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1-}
if [ -z "$binary" ]; then
  target=${CARGO_TARGET_DIR:-target}
  cargo build --release --locked --quiet
  cargo build --profile router --locked --quiet --no-default-features --target-dir "$target/footprint"
  binary=$target/footprint/router/luat-ota
  # As `cargo build` makes them, with the standard library's stack traces and unwind tables. packaging/build.sh enforces
  # the bounds of what is shipped.
  echo "binary for routers: $(stat -c %s "$binary") bytes"
  echo "binary, with everything: $(stat -c %s "$target/release/luat-ota") bytes"
fi

# fetch URL FILE; fails on any status but 200.
fetch() {
  python3 -c 'import sys, urllib.request as u; open(sys.argv[2], "wb").write(u.urlopen(sys.argv[1]).read())' \
    "$1" "$2" 2>/dev/null
}

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir "$work/firmware"
cp -r firmware/LUAT-OTA-SAMPLE "$work/firmware/"
"$binary" "$work/firmware" --state "$work/state" --http 127.0.0.1:0 --udp 127.0.0.1:0 2>"$work/log" &
server=$!
# One update, so that what a first request brings in is counted. The sample has to settle first.
check='/luat/update?imei=004999010640000&firmware_name=LUAT-OTA-SAMPLE_Luat_V0007_ASR1802&version=1.0.0'
for _ in $(seq 400); do
  kill -0 "$server" || { cat "$work/log"; exit 1; }
  port=$(sed -n 's/.*proto=http address=127\.0\.0\.1:\([0-9]*\).*/\1/p' "$work/log")
  if [ -n "$port" ] && fetch "http://127.0.0.1:$port$check" "$work/got"; then break; fi
  sleep 0.05
done
cmp "$work/got" firmware/LUAT-OTA-SAMPLE/1.0.1/update.bin
anonymous=$(awk '/^RssAnon/ {print $2}' "/proc/$server/status")

echo "idle anonymous memory: $anonymous KiB (bound 1536)"
[ "$anonymous" -le 1536 ]
