#!/usr/bin/env bash
# Prints the sizes of the release binary and its anonymous memory when idle, and fails over the bounds:
# 1,300,000 bytes for the server alone, 2,100,000 with everything, and 2 MiB. Starts the server on free
# loopback ports and stops it.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
cargo build --release --locked --quiet
cargo build --release --locked --quiet --no-default-features --target-dir "$target/footprint"
everything=$(stat -c %s "$target/release/luat-ota")
binary=$target/footprint/release/luat-ota
alone=$(stat -c %s "$binary")

# fetch URL FILE; fails on any status but 200.
fetch() {
  python3 -c 'import sys, urllib.request as u; open(sys.argv[2], "wb").write(u.urlopen(sys.argv[1]).read())' \
    "$1" "$2" 2>/dev/null
}

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
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

echo "binary, the server alone: $alone bytes (bound 1300000)"
echo "binary, with everything: $everything bytes (bound 2100000)"
echo "idle anonymous memory: $anonymous KiB (bound 2048)"
[ "$alone" -le 1300000 ] && [ "$everything" -le 2100000 ] && [ "$anonymous" -le 2048 ]
