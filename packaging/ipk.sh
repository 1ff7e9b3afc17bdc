#!/usr/bin/env bash
# Makes OpenWrt packages (.ipk) out of the router binaries of dist/:
#
#   packaging/ipk.sh [--dist DIR] TARGET[=OPENWRT_ARCH]...     or all
#
# The same input gives the same bytes. `opkg print-architecture` shows OPENWRT_ARCH on a router; where
# it is not given, those that are usual for the target are made.
set -euo pipefail
cd "$(dirname "$0")/.."
dist=dist
[ "${1-}" != --dist ] || { dist=$2; shift 2; }
[ $# -gt 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
dist=$(realpath -- "$dist")
version=$(sed -n '0,/^version/s/^version = "\(.*\)"/\1/p' Cargo.toml)-1
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)} LC_ALL=C
umask 022

declare -A usual=(
  [x86_64]=x86_64
  [aarch64]='aarch64_generic aarch64_cortex-a53 aarch64_cortex-a72'
  [armv7]='arm_cortex-a7_neon-vfpv4 arm_cortex-a9_vfpv3-d16'
  [armv6]=arm_arm1176jzf-s_vfp
  [mipsel]='mipsel_24kc mipsel_74kc'
  [mips]=mips_24kc
)
wanted=("$@")
[ "$*" != all ] || wanted=("${!usual[@]}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The files of a folder, owned by root, in one order and of one date; to stdout.
pack() {
  tar --format=gnu --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$1" -c . | gzip -9n
}

for one in "${wanted[@]}"; do
  target=${one%%=*}
  binary=$dist/luat-ota-$target-router
  if [ ! -e "$binary" ]; then
    [ "$*" = all ] && continue
    echo "ipk.sh: $binary is missing: packaging/build.sh --size router $target" >&2
    exit 1
  fi
  case $one in
    *=*) architectures=${one#*=} ;;
    *) architectures=${usual[$target]} ;;
  esac
  for arch in $architectures; do
    tree=$work/$target-$arch
    mkdir -p "$tree"/{data,control,ipk}
    files=packaging/openwrt/luat-ota/files
    install -D -m 755 "$binary" "$tree/data/usr/bin/luat-ota"
    install -D -m 755 $files/luat-ota.init "$tree/data/etc/init.d/luat-ota"
    install -D -m 644 $files/luat-ota.config "$tree/data/etc/config/luat-ota"
    install -D -m 644 $files/luat-ota.hotplug "$tree/data/etc/hotplug.d/mount/50-luat-ota"
    echo /etc/config/luat-ota >"$tree/control/conffiles"
    cat >"$tree/control/control" <<CONTROL
Package: luat-ota
Version: $version
Depends: libc
License: MIT
URL: $(tools/repository.py)
Section: net
Architecture: $arch
Installed-Size: $(stat -c %s "$binary")
Description: Update server for Luat and LuatOS cellular modules.
CONTROL
    # What OpenWrt's own build puts there.
    cat >"$tree/control/postinst" <<'SCRIPT'
#!/bin/sh
[ "${IPKG_NO_SCRIPT}" = 1 ] && exit 0
[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. "${IPKG_INSTROOT}/lib/functions.sh"
default_postinst "$0" "$@"
SCRIPT
    sed 's/default_postinst/default_prerm/' "$tree/control/postinst" >"$tree/control/prerm"
    chmod 755 "$tree"/control/p*
    echo 2.0 >"$tree/ipk/debian-binary"
    pack "$tree/data" >"$tree/ipk/data.tar.gz"
    pack "$tree/control" >"$tree/ipk/control.tar.gz"
    package=$dist/luat-ota_${version}_$arch.ipk
    pack "$tree/ipk" >"$package"
    stat -c '%12s  %n' "$package"
  done
done
