#!/usr/bin/env bash
# Makes Debian packages out of the static binaries: packaging/deb.sh [--dist DIR] ARCH...
#
# ARCH: amd64, arm64, armhf, or all of which dist/ has the binary (packaging/build.sh x86_64 aarch64
# armv7). The same input gives the same bytes. The manual page and the completions come from a program
# that runs here: $LUAT_OTA_NATIVE, else the one of dist/ for x86_64.
#
# By dpkg-deb alone: cargo-deb makes the same, and takes minutes to compile.
set -euo pipefail
cd "$(dirname "$0")/.."
dist=dist
[ "${1-}" != --dist ] || { dist=$2; shift 2; }
[ $# -gt 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
dist=$(realpath -- "$dist")
version=$(sed -n '0,/^version/s/^version = "\(.*\)"/\1/p' Cargo.toml)
native=$(realpath -- "${LUAT_OTA_NATIVE:-$dist/luat-ota-x86_64}")
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)} LC_ALL=C
umask 022

declare -A binaries=([amd64]=x86_64 [arm64]=aarch64 [armhf]=armv7)
wanted=("$@")
[ "$*" != all ] || wanted=(amd64 arm64 armhf)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

put() { install -D -m "$1" "$2" "$tree/$3"; }
# From stdin.
put_text() {
  mkdir -p "$(dirname "$tree/$1")"
  cat >"$tree/$1"
}

for arch in "${wanted[@]}"; do
  binary=$dist/luat-ota-${binaries[$arch]:?there is no package for this architecture}
  if [ ! -e "$binary" ]; then
    [ "$*" = all ] && continue
    echo "deb.sh: $binary is missing: packaging/build.sh ${binaries[$arch]}" >&2
    exit 1
  fi
  tree=$work/$arch
  put 755 "$binary" usr/bin/luat-ota
  for unit in packaging/systemd/*; do put 644 "$unit" "lib/systemd/system/${unit##*/}"; done
  put 644 packaging/deb/default etc/default/luat-ota
  for script in packaging/events/*.sh; do put 755 "$script" "usr/share/luat-ota/${script##*/}"; done
  "$native" man | gzip -9n | put_text usr/share/man/man1/luat-ota.1.gz
  "$native" completions bash | put_text usr/share/bash-completion/completions/luat-ota
  "$native" completions zsh | put_text usr/share/zsh/vendor-completions/_luat-ota
  "$native" completions fish | put_text usr/share/fish/vendor_completions.d/luat-ota.fish
  {
    printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n'
    printf 'Upstream-Name: luat-ota\n\nFiles: *\nCopyright: %s\nLicense: Expat\n' \
      "$(sed -n 's/^Copyright (c) //p' LICENSE)"
    # The text below its heading and its line of copyright, in the form of the file.
    sed -e '1,/^Copyright/d' LICENSE | sed -e '/./,$!d' -e 's/^$/./' -e 's/^/ /'
    printf '\nComment: the parts that are linked in have their licences in LICENSES.txt.gz beside this.\n'
  } | put_text usr/share/doc/luat-ota/copyright
  gzip -9n <"$dist/LICENSES.txt" | put_text usr/share/doc/luat-ota/LICENSES.txt.gz
  {
    printf 'luat-ota (%s) stable; urgency=medium\n\n  * See CHANGELOG.md of the project.\n\n' "$version"
    printf ' -- luat-ota <luat-ota@localhost>  %s\n' "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
  } | gzip -9n | put_text usr/share/doc/luat-ota/changelog.gz
  put_text usr/share/lintian/overrides/luat-ota <<'OVERRIDES'
# One file for every machine, whatever its C library.
luat-ota: statically-linked-binary *
# The project has no address for mail.
luat-ota: bogus-mail-host *
luat-ota: bogus-mail-host-in-debian-changelog *
OVERRIDES
  for script in postinst prerm postrm; do put 755 "packaging/deb/$script" "DEBIAN/$script"; done
  echo /etc/default/luat-ota >"$tree/DEBIAN/conffiles"
  cat >"$tree/DEBIAN/control" <<CONTROL
Package: luat-ota
Version: $version
Architecture: $arch
Maintainer: luat-ota <luat-ota@localhost>
Installed-Size: $(du -sk --apparent-size --exclude=DEBIAN "$tree" | cut -f 1)
Depends: adduser, init-system-helpers (>= 1.54~)
Section: net
Priority: optional
Homepage: $(tools/repository.py)
Description: update server for Luat and LuatOS cellular modules
 Serves the firmware in a folder to modules of all generations, over HTTP, UDP
 and TCP, and resumes what a bad connection cut off. A file that is dropped into
 the folder is offered at once to the modules that it is for.
CONTROL
  (cd "$tree" && find . -type f -not -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
  find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  package=$dist/luat-ota_${version}_$arch.deb
  dpkg-deb --root-owner-group -Zxz --build "$tree" "$package" >/dev/null
  stat -c '%12s  %n' "$package"
done
