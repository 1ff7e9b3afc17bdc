#!/usr/bin/env bash
# Tests the Debian package: packaging/test-deb.sh [--dist DIR]
#
# Lintian, then a Debian 12 in a chroot: installs, upgrades, removes, installs again, purges. Needs root,
# debootstrap, lintian, and dist/luat-ota-x86_64.
set -euo pipefail
cd "$(dirname "$0")"
. ./preamble.sh
. ./machine.sh
server=
cleanup() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  for folder in dev/null proc; do umount "$root/$folder" 2>/dev/null || true; done
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
install_package() { inside dpkg --force-confold -i "/$1" >"$work/log" 2>&1 || { cat "$work/log"; fail "dpkg -i $1"; }; }

./deb.sh --dist "$dist" all
package=$(echo "$dist"/luat-ota_*_amd64.deb)
cp "$package" "$work/first.deb"
./deb.sh --dist "$dist" amd64 >/dev/null
cmp "$work/first.deb" "$package" || fail 'the same input gives other bytes'
pass 'the same input gives the same bytes'

for each in "$dist"/luat-ota_*.deb; do
  lintian --allow-root --fail-on error --tag-display-limit 0 "$each" >"$work/lintian" 2>&1 ||
    { cat "$work/lintian"; fail "lintian: ${each##*/}"; }
  cat "$work/lintian"
done
pass 'lintian finds no error'

gzip -dc <(dpkg-deb --fsys-tarfile "$package" | tar -xO ./usr/share/man/man1/luat-ota.1.gz) >"$work/luat-ota.1"
if command -v mandoc >/dev/null; then
  mandoc -T lint -W error "$work/luat-ota.1" >"$work/log" 2>&1 || { cat "$work/log"; fail 'the manual page'; }
  pass 'the manual page is well formed'
fi
dpkg-deb --fsys-tarfile "$package" | tar -x -C "$work" ./usr/share
# What a person gets who presses Tab behind `luat-ota ch` and `luat-ota check --st`.
complete() {
  bash -c '. "$1"; shift; compopt() { :; }; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _luat_ota; echo "${COMPREPLY[*]}"' \
    bash "$work/usr/share/bash-completion/completions/luat-ota" luat-ota "$@"
}
[ "$(complete ch)" = check ] || fail "bash completes ch to $(complete ch)"
[ "$(complete devices --st)" = --state ] || fail "bash completes --st to $(complete devices --st)"
[ "$(complete serve --log-format j)" = json ] || fail "bash completes j to $(complete serve --log-format j)"
for shell in zsh:zsh/vendor-completions/_luat-ota fish:fish/vendor_completions.d/luat-ota.fish; do
  command -v "${shell%%:*}" >/dev/null || continue
  "${shell%%:*}" -n "$work/usr/share/${shell#*:}" || fail "the completions of ${shell%%:*}"
done
if command -v fish >/dev/null; then
  got=$(HOME=$work fish --no-config -c "source $work/usr/share/fish/vendor_completions.d/luat-ota.fish; complete -C 'luat-ota ch'")
  [ "${got%%$'\t'*}" = check ] || fail "fish completes ch to $got"
fi
pass 'the completions are read by their shells, and complete'

bare_debian "$root"
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
if ! { : >"$root/dev/null"; } 2>/dev/null || [ ! -c "$root/dev/null" ]; then
  # A device on a file system that has none.
  rm -f "$root/dev/null"
  touch "$root/dev/null"
  mount --bind /dev/null "$root/dev/null"
fi

# A newer version of the same, and one for the start.
cp "$package" "$root/old.deb"
dpkg-deb -R "$package" "$work/newer"
sed -i 's/^Version: .*/&+newer/' "$work/newer/DEBIAN/control"
echo '# newer' >>"$work/newer/etc/default/luat-ota"
(cd "$work/newer" && find . -type f -not -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
dpkg-deb --root-owner-group --build "$work/newer" "$root/new.deb" >/dev/null

install_package old.deb
inside luat-ota --version >/dev/null || fail 'it does not run'
inside id luat-ota >/dev/null || fail 'no user'
[ "$(inside stat -c '%U:%G %a' /srv/luat-ota)" = 'luat-ota:luat-ota 2775' ] || fail 'the firmware folder'
[ "$(inside stat -c '%U:%G %a' /var/lib/luat-ota)" = 'luat-ota:luat-ota 750' ] || fail 'the state folder'
[ -L "$root/etc/systemd/system/multi-user.target.wants/luat-ota.service" ] || fail 'the unit is not enabled'
pass 'installs: program, user, folders, an enabled unit'

# It runs as the unit runs it, and makes state; an update is there to survive.
mkdir -p "$root/srv/luat-ota/P/1.0.1"
head -c 5000 /dev/urandom >"$root/srv/luat-ota/P/1.0.1/update.bin"
chroot --userspec=luat-ota:luat-ota "$root" env -i LUAT_OTA_DIR=/srv/luat-ota STATE_DIRECTORY=/var/lib/luat-ota \
  /usr/bin/luat-ota serve --http 127.0.0.1:0 --udp 127.0.0.1:0 --operator off 2>"$work/log" &
server=$!
for _ in $(seq 200); do
  [ -e "$root/var/lib/luat-ota/secret" ] && grep -q ' ready ready' "$work/log" && break
  sleep 0.05
done
kill $server
wait $server || { cat "$work/log"; fail 'it does not serve as its user'; }
server=
# The commands find its folders without a flag.
inside luat-ota check >"$work/log" || { cat "$work/log"; fail 'check does not find the folder'; }
grep -q 'P *1.0.1' "$work/log" || fail 'check reads another folder'
inside luat-ota devices >/dev/null || fail 'devices does not find the state'
if inside luat-ota lift --imei 999 2>"$work/log"; then fail 'lift of no device'; fi
grep -q 'no such device' "$work/log" || fail 'lift of no device says something else'
pass 'check, devices and lift find the folders of the installed server'
secret=$(sha256sum <"$root/var/lib/luat-ota/secret") || fail 'no state'
echo 'LUAT_OTA_HTTP=8088' >>"$root/etc/default/luat-ota"
survived() {
  [ "$(sha256sum <"$root/var/lib/luat-ota/secret")" = "$secret" ] || fail "$1: the state"
  [ "$(stat -c %s "$root/srv/luat-ota/P/1.0.1/update.bin")" = 5000 ] || fail "$1: the firmware"
  grep -qx 'LUAT_OTA_HTTP=8088' "$root/etc/default/luat-ota" || fail "$1: the settings"
}
chmod 2750 "$root/srv/luat-ota"
install_package new.deb
survived 'an upgrade'
[ "$(stat -c %a "$root/srv/luat-ota")" = 2750 ] || fail 'an upgrade changes what the administrator set'
inside dpkg -r luat-ota >/dev/null 2>&1 || fail 'dpkg -r'
survived 'a remove'
[ ! -e "$root/usr/bin/luat-ota" ] || fail 'a remove leaves the program'
pass 'firmware, state and settings survive an upgrade and a remove'
install_package new.deb
survived 'a second installation'
[ -L "$root/etc/systemd/system/multi-user.target.wants/luat-ota.service" ] || fail 'not enabled again'
inside dpkg -P luat-ota >/dev/null 2>&1 || fail 'dpkg -P'
for gone in etc/default/luat-ota var/lib/luat-ota etc/systemd/system/multi-user.target.wants/luat-ota.service \
  etc/systemd/system/luat-ota.service; do
  if [ -e "$root/$gone" ] || [ -L "$root/$gone" ]; then fail "a purge leaves /$gone"; fi
done
[ -e "$root/srv/luat-ota/P/1.0.1/update.bin" ] || fail 'a purge takes the firmware'
pass 'a purge takes the state and the settings, and leaves the firmware'
