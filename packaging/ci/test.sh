#!/usr/bin/env bash
# Publishes from nothing, as docs/publish.md describes it: packaging/ci/test.sh BINARY
#
# Starts in an empty folder: writes a script, packs it, publishes it to one device, then to 5 % of 200 emulated modules at 1.0.0, then
# to all of them. Every image is compared. Needs Linux, curl, jq and Python 3; free ports on loopback, a temporary folder; stops
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
# A stand-in for the vendor's factory file: only info.json and the name count when scripts are given.
core=LuatOS-SoC_V2012_Air780E.soc
python3 - "$core" <<'PYTHON'
import json, sys, zipfile
info = {
    "chip": {"type": "ec618"},
    "rom": {"version-bsp": "V2012", "fs": {"script": {"size": 512}}},
    "script": {"file": "script.bin"},
    "download": {"script_addr": "2CC000"},
}
with zipfile.ZipFile(sys.argv[1], "w") as archive:
    archive.writestr("info.json", json.dumps(info))
PYTHON
mkdir src
printf '%s\n' 'PROJECT = "FOTA"' 'VERSION = "1.0.1"' 'log.info("main", PROJECT, VERSION)' >src/main.lua
head -c 20000 /dev/urandom >src/picture.jpg
"$binary" pack --core "$core" src
name=FOTA_2012.1.1_LuatOS-SoC_Air780E.bin
[ -s "$name" ] || fail "pack made $(ls), not $name"

"$binary" serve folder --http 127.0.0.1:0 --udp 127.0.0.1:0 --operator 127.0.0.1:0 2>log &
server=$!
for _ in $(seq 100); do ! grep -q ' ready ready$' log || break; sleep 0.1; done
address() { sed -n "s/.* proto=$1 address=//p" log; }
export OTA_INTERVAL=1
OTA_URL=http://$(address operator) OTA_TOKEN=$(cat folder/.luat-ota/operator-token)
export OTA_URL OTA_TOKEN

# Each module asks every 40 s of its clock, which is 2 s of ours, until it has the update and has confirmed it.
"$binary" simulate --http "http://$(address http)/luat/update" --devices $devices --imei $first --project FOTA --version 1.0.0 --to 1.0.1 --core 2012 --bsp Air780E \
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
LUAT_OTA=$binary CORE=$core SCRIPTS=src RULES="{\"allow\": [\"$((first + 7))\"]}" WAIT=confirmed=1 FOR=1m "$ci/publish.sh"
cmp "$name" "folder/$name" || fail 'the server has other bytes'
[ "$(reached)" = 1 ] || fail "$(reached) devices were offered it, not the one that was named"
pass 'one device has it, and no other was offered it'

echo '== 5 %'
"$ci/push.sh" --rules '{"percent": 5}' "$name"
expected=$(selected)
if [ "$expected" -lt 2 ] || [ "$expected" -gt 30 ]; then fail "5 % of $devices are $expected"; fi
"$ci/push.sh" --rules '{"percent": 5}' --wait "confirmed=$expected" --for 2m "$name"
[ "$(reached)" = "$expected" ] || fail "$(reached) devices were offered it, not $expected"
pass "5 % and the named one are $expected of $devices"

echo '== all'
"$ci/push.sh" --rules '{}' --wait "confirmed=$devices" --for 2m "$name"
# Its status is 1 if a module was told to come back later, which the server does while it reads a project's first file.
wait "$fleet" || true
fleet=''
jq -e --argjson devices $devices '.updated == $devices and .updates == $devices and .corrupt_images == 0' fleet.json >/dev/null ||
  fail "the fleet: $(cat fleet.json)"
pass "all $devices have exactly the package's bytes"
