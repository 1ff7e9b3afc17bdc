#!/usr/bin/env bash
# Tests the OpenWrt package: packaging/test-openwrt.sh BINARY
#
# BINARY runs here, and says which flags there are. The init script runs with stubs of procd's
# functions, which write down what they are told. Needs shellcheck; for the commands of docs/guide-openwrt.md, busybox and
# root.
# shellcheck disable=SC2016 # what other shells expand
set -euo pipefail
binary=$(realpath -- "${1:?a binary}")
cd "$(dirname "$0")"
init=openwrt/luat-ota/files/luat-ota.init config=openwrt/luat-ota/files/luat-ota.config
hotplug=openwrt/luat-ota/files/luat-ota.hotplug
. ./preamble.sh
trap 'rm -rf "$work"' EXIT

shellcheck -s sh "$init" "$hotplug" || fail 'shellcheck'
pass 'the init script has no word from shellcheck'

# rc.common, UCI and procd, as far as the script asks them: options are OPTION=VALUE lines in $UCI, a list
# being several of them.
cat >"$work/stubs" <<'STUBS'
config_load() { :; }
config_foreach() { "$1" main; }
config_get() { eval "$1=\$(sed -n \"s|^$3=||p\" \"\$UCI\" | head -n 1)"; eval "[ -n \"\$$1\" ] || $1=\${4-}"; }
config_get_bool() { config_get "$@"; }
config_list_foreach() {
  while read -r line; do case $line in "$2="*) "$3" "${line#*=}" ;; esac; done <"$UCI"
}
for name in procd_open_instance procd_close_instance procd_set_param procd_append_param procd_open_data \
  procd_close_data json_add_array json_close_array json_add_object json_close_object json_add_string \
  procd_set_config_changed procd_add_reload_trigger procd_send_signal logger; do
  eval "$name() { echo \"$name|\$(IFS='|'; echo \"\$*\")\"; }"
done
# The targets of /etc/config/fstab that hold one of the folders: lines fstab=TARGET.
procd_get_mountpoints() {
  for folder in "$@"; do
    sed -n 's/^fstab=//p' "$UCI" | while read -r target; do case $folder/ in "$target"/*) echo "$target" ;; esac; done
  done
}
STUBS

# run FUNCTION, with UCI lines on stdin; what procd is told, to stdout. Under the strictest shell at hand.
run() {
  cat >"$work/uci"
  UCI=$work/uci dash -uc '. "$1"; . "$2"; "$3"' sh "$work/stubs" "./$init" "$1"
}
has() { grep -qxF -- "$1" "$work/out" || { cat "$work/out"; fail "$2: no line $1"; }; }
has_not() { ! grep -q -- "$1" "$work/out" || { cat "$work/out"; fail "$2: a line with $1"; }; }

run start_service <<<'enabled=0' >"$work/out"
[ ! -s "$work/out" ] || fail 'it starts though it is not enabled'
pass 'nothing starts that is not enabled'

run start_service >"$work/out" <<'UCI'
enabled=1
dir=/mnt/a stick/firmware
http=8080
http=192.168.1.1:80
udp_gets=500
known_devices_only=1
UCI
what='what is set is handed over'
has 'procd_set_param|command|/usr/bin/luat-ota|serve' "$what"
has 'procd_set_param|env|LUAT_OTA_DIR=/mnt/a stick/firmware' "$what"
has 'procd_set_param|respawn|3600|5|0' "$what"
has 'procd_append_param|env|LUAT_OTA_HTTP=8080,192.168.1.1:80' "$what"
has 'procd_append_param|env|LUAT_OTA_UDP_GETS=500' "$what"
has 'procd_append_param|env|LUAT_OTA_KNOWN_DEVICES_ONLY=1' "$what"
has_not 'LUAT_OTA_UDP=' "$what"
has_not firewall 'no port is opened unasked'
pass "$what, lists with commas, and no port is opened unasked"

run start_service >"$work/out" <<'UCI'
enabled=1
open_firewall=1
firewall_zone=lan
http=[::]:8088
UCI
what='asked to, it opens the ports of HTTP and UDP in the zone'
for rule in luat-ota-tcp-8088 luat-ota-udp-2234 luat-ota-tcp-2234; do has "json_add_string|name|$rule" "$what"; done
[ "$(grep -c '^json_add_object' "$work/out")" = 3 ] || fail "$what: not three rules"
[ "$(grep -c '^json_add_string|src|lan' "$work/out")" = 3 ] || fail "$what: another zone"
has_not '|8081' "$what"
pass "$what, and no other"

for line in dir state; do
  printf '%s\n' enabled=1 dir=/proc/firmware fstab=/proc fstab=/mnt/none "$line=/mnt/none/folder" | tac >"$work/late"
  run start_service <"$work/late" >"$work/out"
  has_not procd_open_instance "a drive for $line that is not mounted"
  has 'logger|-t|luat-ota|-p|daemon.warn|not started: /mnt/none is not mounted; it starts when it is' "$line"
done
printf '%s\n' enabled=1 dir=/proc/firmware fstab=/proc fstab=/mnt/none >"$work/late"
run start_service <"$work/late" >"$work/out"
has 'procd_set_param|env|LUAT_OTA_DIR=/proc/firmware' 'the drive is mounted'
mkdir -p "$work/init.d"
for answer in true false; do
  printf '%s\n' '#!/bin/sh' 'case $1 in enabled) '"$answer"' ;; *) echo "$1" ;; esac' >"$work/init.d/luat-ota"
  chmod +x "$work/init.d/luat-ota"
  sed "s|/etc/init.d|$work/init.d|g" "$hotplug" >"$work/hotplug"
  for action in add remove; do echo "$answer $action $(ACTION=$action dash -c '. "$1"' sh "$work/hotplug")"; done
done >"$work/out"
printf '%s\n' 'true add start' 'true remove ' 'false add ' 'false remove ' | diff - "$work/out" || fail 'the hotplug script'
pass 'it waits for the drive of its folders, and starts when that is mounted'

run rescan </dev/null >"$work/out"
has 'procd_send_signal|luat-ota|*|HUP' 'rescan'
run service_stopped </dev/null >"$work/out"
has 'procd_set_config_changed|firewall' 'its rules go with it'
pass 'rescan sends SIGHUP; its rules in the firewall go with it'

# Every flag of the program, and none that it does not have.
"$binary" serve --help | sed -n 's/^  --\([a-z-]*\).*/\1/p' | sort >"$work/flags"
[ -s "$work/flags" ] || fail 'no flag in the help'
dash -c '. "$1"; echo $LISTS $OPTIONS' sh "./$init" | tr ' ' '\n' | sort >"$work/handed"
diff "$work/flags" "$work/handed" || fail 'the flags of the program (<) are not those of the init script (>)'
"$binary" serve --help | sed -n 's/^  --\([a-z-]*\).*(repeatable)$/\1/p' | sort >"$work/flags"
dash -c '. "$1"; echo $LISTS' sh "./$init" | tr ' ' '\n' | sort | diff "$work/flags" - || fail 'other flags are repeatable'
sed -n 's/^\t#\{0,1\}\(option\|list\) \([a-z_]*\) .*/\2/p' "$config" | tr _ - | sort -u |
  grep -vxE 'enabled|dir|open-firewall|firewall-zone' | comm -23 - "$work/handed" >"$work/unknown"
[ ! -s "$work/unknown" ] || fail "the configuration has options that are no flags: $(cat "$work/unknown")"
pass "each of its $(wc -l <"$work/handed") flags is an option"

# The server takes what the shipped configuration says.
sed -n "s/^\t\(option\|list\) \([a-z_]*\) '\(.*\)'/\2=\3/p" "$config" | sed -e "s|^dir=.*|dir=$work/firmware|" \
  -e 's/^http=.*/http=127.0.0.1:0/' -e 's/^udp=.*/udp=127.0.0.1:0/' >"$work/shipped"
run start_service <"$work/shipped" >"$work/out"
mapfile -t variables < <(sed -n 's/^procd_[a-z]*_param|env|//p' "$work/out")
env -i "${variables[@]}" "$binary" serve 2>"$work/log" &
server=$!
for _ in $(seq 200); do
  grep -q ' ready ready' "$work/log" && break
  kill -0 $server 2>/dev/null || break
  sleep 0.05
done
kill $server 2>/dev/null || { cat "$work/log"; fail 'the server does not take the shipped configuration'; }
wait $server || { cat "$work/log"; fail 'the server does not start with the shipped configuration'; }
! grep -E ' (WARN|ERROR) ' "$work/log" | grep -v ' listen a cellular module cannot reach ' || fail 'the server has a word on the shipped configuration'
pass 'the server takes the shipped configuration'

# The archive: made twice, and taken apart.
mkdir "$work/one" "$work/two"
for dist in one two; do
  cp "$binary" "$work/$dist/luat-ota-mipsel-router"
  ./ipk.sh --dist "$work/$dist" mipsel=mipsel_24kc >/dev/null
  touch -d '1 hour ago' "$work/$dist/luat-ota-mipsel-router"
done
cmp "$work"/one/*.ipk "$work"/two/*.ipk || fail 'the same input gives other bytes'
mkdir "$work/ipk" "$work/control" "$work/data"
tar -xzf "$work"/one/*.ipk -C "$work/ipk"
tar -xzf "$work/ipk/control.tar.gz" -C "$work/control"
tar -xzf "$work/ipk/data.tar.gz" -C "$work/data"
[ "$(cat "$work/ipk/debian-binary")" = 2.0 ] || fail 'no debian-binary'
grep -qx 'Architecture: mipsel_24kc' "$work/control/control" || fail 'the architecture'
cmp "$binary" "$work/data/usr/bin/luat-ota"
[ -x "$work/data/etc/init.d/luat-ota" ] || fail 'the init script cannot be run'
cmp "$hotplug" "$work/data/etc/hotplug.d/mount/50-luat-ota"
[ -f "$work/data$(cat "$work/control/conffiles")" ] || fail 'a conffile is not there'
for script in postinst prerm; do sh -n "$work/control/$script"; done
[ "$(tar -tvzf "$work/ipk/data.tar.gz" | awk '{print $2}' | sort -u)" = 0/0 ] || fail 'files that are not of root'
pass 'the .ipk has what it must, and the same input gives the same bytes'

# docs/guide-openwrt.md: its blocks that name this script, in their order, with the tools of BusyBox.
if [ "$(id -u)" != 0 ] || ! command -v busybox >/dev/null; then
  echo 'SKIP  the guide: needs root and busybox'
  exit 0
fi
python3 - "$work" <<'PYTHON' || fail 'the blocks of the guide'
import pathlib, re, sys
mark = r"<!-- run by packaging/test-openwrt\.sh -->\n```sh\n(.*?)```\n"
english, chinese = (re.findall(mark, pathlib.Path(f"../docs/{name}guide-openwrt.md").read_text(), re.S) for name in ("", "zh-CN/"))
assert english == chinese and len(english) == 4, (english, chinese)
for number, text in enumerate(english):
    (pathlib.Path(sys.argv[1]) / f"block{number}").write_text("set -e\n" + text)
PYTHON
root=$work/root
mkdir -p "$root"/bin "$root"/tmp "$root"/dev "$root"/mnt/sda1/firmware
mknod -m 666 "$root/dev/urandom" c 1 9
mknod -m 666 "$root/dev/null" c 1 3
mapfile -t parts < <({ command -v busybox; ldd "$(command -v busybox)" 2>/dev/null | grep -o '/[^ ]*'; } | sort -u)
for part in "${parts[@]}"; do install -D "$part" "$root$part"; done
for applet in sh tar gzip mkdir echo head wget cmp rm ls; do ln -sf "$(command -v busybox)" "$root/bin/$applet"; done
cp "$work"/one/*.ipk "$work"/block? "$root/tmp/"
cat >"$work/follow" <<'FOLLOW'
set -eu
root=$1
block() { chroot "$root" /bin/sh -c "export PATH=/bin:/usr/bin; . /tmp/block$1"; }
busybox ip link set lo up
block 0
chroot "$root" /usr/bin/luat-ota serve /mnt/sda1/firmware --state /mnt/sda1/luat-ota-state 2>"$root/tmp/log" &
server=$!
trap 'kill $server; wait $server' EXIT
# until TEXT: the log has a line with it.
until_logged() {
  for _ in $(seq 200); do
    ! grep -q "$1" "$root/tmp/log" || return 0
    sleep 0.05
  done
  cat "$root/tmp/log"
  return 1
}
until_logged ' ready ready'
block 1
until_logged 'DEMO/1.0.1/update.bin is available'
block 2
block 3
[ ! -e "$root/mnt/sda1/firmware/DEMO" ]
FOLLOW
unshare --net bash "$work/follow" "$root" >"$work/out" 2>&1 || { cat "$work/out"; fail 'the guide'; }
grep -q 'DEMO' "$work/out" || { cat "$work/out"; fail 'the guide: check does not show the release'; }
pass 'the commands of docs/guide-openwrt.md work with the tools of BusyBox'
