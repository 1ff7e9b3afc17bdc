#!/usr/bin/env bash
# Tests the systemd units: packaging/test-systemd.sh BINARY
#
# systemd-analyze checks them, and systemd-socket-activate starts BINARY with sockets as the units pass
# them. Whether systemd itself runs them cannot be tried without being process 1.
# shellcheck disable=SC2016 # what other shells expand
set -euo pipefail
binary=$(realpath -- "${1:?a binary}")
cd "$(dirname "$0")"
. ./preamble.sh
server=
cleanup() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

# As they are, but for the program and the page, which are not installed here.
for unit in systemd/*; do
  sed -e "s|^ExecStart=/usr/bin/luat-ota|ExecStart=$binary|" -e '/^Documentation=/d' "$unit" >"$work/${unit##*/}"
done
systemd-analyze verify "$work"/luat-ota* 2>"$work/log" || fail 'systemd-analyze verify'
[ ! -s "$work/log" ] || fail 'systemd-analyze verify has a word on them'
pass 'systemd-analyze verify has no word on the units'
systemd-analyze security --offline=true --threshold=15 "$work/luat-ota.service" >"$work/log" ||
  fail 'systemd-analyze security: over 1.5'
pass "systemd-analyze security: $(sed -n 's/.*Overall exposure level for luat-ota.service: \([0-9.]*\).*/\1/p' "$work/log")"
for needed in Type=notify StartLimitIntervalSec=0 StateDirectory=luat-ota 'ExecReload=/bin/kill -HUP $MAINPID' User=luat-ota; do
  grep -qxF "$needed" systemd/luat-ota.service || fail "no $needed"
done

# What systemd listens on is what the flags' defaults are.
for socket in http:8080 udp:2234; do
  default=$("$binary" serve --help | grep -A9 "^  --${socket%:*} " | sed -n 's/.*\[default: \[::\]:\([0-9]*\)\].*/\1/p' | head -n 1)
  [ "$default" = "${socket#*:}" ] || fail "the default of --${socket%:*} is $default"
  grep -qx "ListenStream=$default" "systemd/luat-ota-${socket%:*}.socket" || fail "luat-ota-${socket%:*}.socket"
done
grep -qx ListenDatagram=2234 systemd/luat-ota-udp.socket || fail 'no datagrams'

# A free port; taken again at once by the launcher.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir -p "$work/firmware/P/1.0.1" "$work/state"
head -c 50000 /dev/urandom >"$work/firmware/P/1.0.1/update.bin"
name=$(sed -n 's/^FileDescriptorName=//p' systemd/luat-ota-http.socket)
# --operator off: another server of this machine may have the port.
systemd-socket-activate -l "127.0.0.1:$port" --fdname="$name" -E "STATE_DIRECTORY=$work/state" \
  "$binary" serve "$work/firmware" --udp 127.0.0.1:0 --operator off 2>"$work/log" &
server=$!
update='/luat/update?project_key=k&imei=862991443753386&device_key=&firmware_name=P_Luat_V0017_ASR1802&version=1.0.0'
for _ in $(seq 200); do
  python3 -c 'import sys, urllib.request as u
open(sys.argv[2], "wb").write(u.urlopen(sys.argv[1]).read())' "http://127.0.0.1:$port$update" "$work/got" 2>/dev/null && break
  kill -0 $server 2>/dev/null || fail 'it does not run'
  sleep 0.1
done
cmp "$work/got" "$work/firmware/P/1.0.1/update.bin" || fail 'an update over a socket that was passed'
[ -e "$work/state/secret" ] || fail 'nothing is kept in $STATE_DIRECTORY'
pass 'started by the first request, it serves the socket that was passed, and keeps its state in $STATE_DIRECTORY'
# As ExecReload= does. The signal is heard by what the launcher became.
kill -HUP $server
for _ in $(seq 100); do
  grep -q 'scanning the folder: SIGHUP' "$work/log" && break
  sleep 0.05
done
grep -q 'scanning the folder: SIGHUP' "$work/log" || fail 'reload does not scan the folder'
pass 'reload looks through the folder'
kill -TERM $server
wait $server || fail 'SIGTERM: exit status not 0'
server=
pass 'stop ends it with status 0'
