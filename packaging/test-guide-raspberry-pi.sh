#!/usr/bin/env bash
# Follows docs/guide-raspberry-pi.md: packaging/test-guide-raspberry-pi.sh [--dist DIR]
#
# Types every block of the document that names this script, as it is, on a bare Debian 12 (machine.sh) with
# a real systemd, and prints the time of each section. What differs from a Pi: the processor, and with it
# the package. There is no stick, and the kernel may have no vfat: the lines for /etc/fstab are only parsed.
#
# Needs root, debootstrap, iproute2, and in dist/ luat-ota-x86_64 and its package (packaging/deb.sh).
set -euo pipefail
cd "$(dirname "$0")"
. ./preamble.sh
. ./machine.sh
cleanup() {
  stop_machine
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

bare_debian "$root"
read_guide guide-raspberry-pi.md
start_machine

section '1. Choose the file'
section '2. Install the server'
said 'Active: active (running)'
section '3. Try the first update'
said ' updated, '

section '4. Put the firmware on a USB stick'
# The lines of the table. systemd makes a unit of each, which the service then needs.
# shellcheck disable=SC2016 # the marks of the document
lines=$(sed -n 's/^|.*`\(UUID=… [^`]*\)` |$/\1/p' ../docs/guide-raspberry-pi.md)
[ "$(wc -l <<<"$lines")" = 3 ] || fail 'the lines for /etc/fstab'
while read -r line; do
  echo "${line/UUID=…/UUID=1234-ABCD}" >"$root/fstab"
  # Not inside: in a container, systemd ignores devices.
  chroot "$root" env -i SYSTEMD_FSTAB=/fstab sh -euc 'rm -rf /units; mkdir /units
    /lib/systemd/system-generators/systemd-fstab-generator /units /units /units
    cat /units/srv-luat\\x2dota.mount' >"$work/log" 2>&1 || fail "$line"
  said "Options=$(cut -d ' ' -f 4 <<<"$line")"
done <<<"$lines"
# libmount replaces the names by numbers; tmpfs, as vfat, takes only these.
inside bash -euc 'mount -t tmpfs -o uid=luat-ota,gid=luat-ota tmpfs /mnt
  stat -c %U:%G /mnt
  umount /mnt' >"$work/log" 2>&1 || fail 'names of owners in options'
said luat-ota:luat-ota
inside systemctl restart luat-ota
inside systemctl show luat-ota -p RequiresMountsFor >"$work/log"
said /srv/luat-ota
pass 'the lines for /etc/fstab are understood, and the service waits for the stick'

section '7. Live without a clock'
section '8. Write less to the card'
inside journalctl --header >"$work/log"
said 'File path: /run/log/journal/'
section '9. Back up'
tar -tzf "$root/root/luat-ota-backup.tar.gz" >"$work/log"
said 'srv/luat-ota/DEMO/1.0.1/update.bin'
inside luat-ota check >"$work/log" || fail 'check after restoring'
said DEMO
end_of_guide
