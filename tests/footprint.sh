#!/usr/bin/env bash
# Prints the size of the release binary and its anonymous memory when idle, and fails over the bounds:
# 1,000,000 bytes, and 2 MiB. Starts the server on free loopback ports and stops it.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet
binary=${CARGO_TARGET_DIR:-target}/release/luat-ota
size=$(stat -c %s "$binary")

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir "$work/firmware"
cp -r firmware/LUAT-OTA-SAMPLE "$work/firmware/"
"$binary" "$work/firmware" --state "$work/state" --http 127.0.0.1:0 --udp 127.0.0.1:0 2>"$work/log" &
server=$!
for _ in $(seq 200); do
  grep -q ' ready' "$work/log" && break
  kill -0 "$server" || { cat "$work/log"; exit 1; }
  sleep 0.05
done
port=$(sed -n 's/.*proto=http address=127\.0\.0\.1:\([0-9]*\).*/\1/p' "$work/log")
# One update, so that what a first request brings in is counted.
curl -fsS -o "$work/got" "http://127.0.0.1:$port/luat/update?imei=004999010640000&firmware_name=LUAT-OTA-SAMPLE_Luat_V0007_ASR1802&version=1.0.0"
cmp "$work/got" firmware/LUAT-OTA-SAMPLE/1.0.1/update.bin
anonymous=$(awk '/^RssAnon/ {print $2}' "/proc/$server/status")

echo "binary: $size bytes (bound 1000000)"
echo "idle anonymous memory: $anonymous KiB (bound 2048)"
[ "$size" -le 1000000 ] && [ "$anonymous" -le 2048 ]
