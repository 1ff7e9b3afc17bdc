#!/usr/bin/env bash
# Runs all tests of the packages: packaging/test.sh [--dist DIR]
#
# DIR (dist) needs the binaries of build.sh: of x86_64 both sizes; of what else is there packages are
# made and looked at, too. Needs root; on Debian it installs what is missing. Each test can be run
# alone, too: packaging/README.md.
set -euo pipefail
cd "$(dirname "$0")"
. ./preamble.sh
trap 'rm -rf --one-file-system "$work"' EXIT
for size in '' -router; do
  [ -x "$dist/luat-ota-x86_64$size" ] || { echo "test.sh: no $dist/luat-ota-x86_64$size: packaging/build.sh x86_64" >&2; exit 1; }
done

packages=()
need() { command -v "$1" >/dev/null || packages+=("$2"); }
need systemd-analyze systemd
need systemd-socket-activate systemd
need shellcheck shellcheck
need dash dash
need runc runc
need umoci umoci
need mmdebstrap mmdebstrap
need skopeo skopeo
need lintian lintian
need debootstrap debootstrap
need ip iproute2
need curl curl
need busybox busybox
need mandoc mandoc
need fish fish
need zsh zsh
python3 -c 'import yaml' 2>/dev/null || packages+=(python3-yaml)
if [ ${#packages[@]} -gt 0 ]; then
  echo "== apt-get install ${packages[*]}"
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}" >/dev/null
fi

echo '== shellcheck'
shellcheck ./*.sh ci/*.sh deb/p*
echo '== systemd'
./test-systemd.sh "$dist/luat-ota-x86_64"
echo '== a small machine'
./test-small.sh "$dist/luat-ota-x86_64-router"
echo '== OpenWrt'
./test-openwrt.sh "$dist/luat-ota-x86_64-router"
./ipk.sh --dist "$dist" all
echo '== container image'
./test-oci.sh --dist "$dist"
echo '== the guide to Docker Compose'
./test-guide-docker.sh --dist "$dist"
echo '== Debian'
# One for all tests below, each of which copies it.
. ./machine.sh
bare_debian "$work/debian"
export LUAT_OTA_CHROOT=$work/debian
./test-deb.sh --dist "$dist"
echo '== the guides for a VPS and for a Raspberry Pi'
./test-guide-vps.sh --dist "$dist"
./test-guide-raspberry-pi.sh --dist "$dist"
