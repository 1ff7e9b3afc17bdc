#!/usr/bin/env bash
# Publishes from nothing, as docs/publish.md describes it: packaging/ci/test.sh BINARY
#
# Starts in an empty folder: makes a package, publishes it to one device, then to 5 % of 200 emulated modules at 1.0.0, then
# to all of them. Every image is compared. Needs Linux, curl and jq; free ports on loopback, a temporary folder; stops
# what it started.
set -euo pipefail
if [ $# != 1 ] || [ ! -x "$1" ]; then
  sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
binary=$(realpath -- "$1")
ci=$(dirname "$(realpath -- "$0")")
work=$(mktemp -d)
cd "$work"
server='' fleet=''
cleanup() {
  status=$?
  for pid in $fleet $server; do kill "$pid" 2>/dev/null || true; done
  wait
  [ $status = 0 ] || { echo "== the server's log without checks"; grep -Ev ' (check|download) ' "$work/log" | tail -n 30; } >&2 || true
  rm -rf "$work"
}
trap cleanup EXIT
fail() { echo "FAIL  $*" >&2; exit 1; }
pass() { echo "PASS  $*"; }

devices=200 first=862991440000000
name=update.bin
{ printf '\247'; head -c 30000 /dev/urandom; } >"$name"

"$binary" serve folder --http 127.0.0.1:0 --udp 127.0.0.1:0 --operator 127.0.0.1:0 2>log &
server=$!
for _ in $(seq 100); do ! grep -q ' ready ready$' log || break; sleep 0.1; done
address() { sed -n "s/.* proto=$1 address=//p" log; }
export OTA_INTERVAL=1
OTA_URL=http://$(address operator) OTA_TOKEN=$(cat folder/.luat-ota/operator-token)
export OTA_URL OTA_TOKEN

# Each module asks every 40 s of its clock, which is 2 s of ours, until it has the update and has confirmed it.
"$binary" simulate --http "http://$(address http)/luat/update" --devices $devices --imei $first --project FOTA --version 1.0.0 --to 1.0.1 \
  --mix libfota2=1 --interval 40 --speed 20 --rounds 1000 --duration 12000 --expect "$name" --json >fleet.json &
fleet=$!

# The number of devices that have the release or may have it now, by the rule that decides it.
selected() {
  for n in $(seq 0 $((devices - 1))); do
    [ "$n" != 7 ] || { echo named; continue; }
    ! "$binary" explain folder --imei $((first + n)) --firmware-name FOTA_LuatOS-SoC_Air780E --version 2012.1.0 >/dev/null || echo "$n"
  done | wc -l
}
# Devices that have at least been offered the release.
reached() {
  curl -fsS -H "Authorization: Bearer $OTA_TOKEN" "$OTA_URL/api/v1/releases?project=FOTA" |
    jq '[.releases[0].counts[]] | add'
}

echo '== one device'
"$ci/push.sh" --to FOTA/1.0.1 --rules "{\"allow\": [\"$((first + 7))\"]}" --wait confirmed=1 --for 1m "$name"
cmp "$name" "folder/FOTA/1.0.1/$name" || fail 'the server has other bytes'
[ "$(reached)" = 1 ] || fail "$(reached) devices were offered it, not the one that was named"
pass 'one device has it, and no other was offered it'

echo '== 5 %'
"$ci/push.sh" --to FOTA/1.0.1 --rules '{"percent": 5}' "$name"
expected=$(selected)
if [ "$expected" -lt 2 ] || [ "$expected" -gt 30 ]; then fail "5 % of $devices are $expected"; fi
"$ci/push.sh" --to FOTA/1.0.1 --rules '{"percent": 5}' --wait "confirmed=$expected" --for 2m "$name"
[ "$(reached)" = "$expected" ] || fail "$(reached) devices were offered it, not $expected"
pass "5 % and the named one are $expected of $devices"

echo '== all'
"$ci/push.sh" --to FOTA/1.0.1 --rules '{}' --wait "confirmed=$devices" --for 2m "$name"
# Its status is 1 if a module was told to come back later, which the server does while it reads a project's first file.
wait "$fleet" || true
fleet=''
jq -e --argjson devices $devices '.updated == $devices and .updates == $devices and .corrupt_images == 0' fleet.json >/dev/null ||
  fail "the fleet: $(cat fleet.json)"
pass "all $devices have exactly the package's bytes"
