#!/usr/bin/env bash
# Makes everything that a release publishes, in dist/release, and the release notes in dist/NOTES.md:
#
#   packaging/release.sh TAG                    all targets; TAG must be v and the version of Cargo.toml
#   packaging/release.sh --dry-run [TARGET...]  the same without a tag, for these targets (default: x86_64)
#
# Needs what packaging/build.sh needs (Debian 12 on amd64). Runs the self-test of each binary that this machine or
# qemu-user can run. .github/workflows/release.yml publishes the result.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n '0,/^version/s/^version = "\(.*\)"/\1/p' Cargo.toml)
case ${1-} in
  --dry-run)
    shift
    targets=("${@:-x86_64}") section="\\[?($version|Unreleased)"
    ;;
  v?*)
    [ "$1" = "v$version" ] || { echo "release.sh: the tag is $1, Cargo.toml has $version" >&2; exit 1; }
    targets=(all) section="\\[?$version"
    ;;
  *)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

# The section of this version in CHANGELOG.md.
mkdir -p dist
awk -v begin="^## $section" '$0 ~ begin {on = 1; next} on && /^## / {exit} on' CHANGELOG.md >dist/NOTES.md
[ -s dist/NOTES.md ] || { echo "release.sh: CHANGELOG.md has no section for $version" >&2; exit 1; }

packaging/build.sh "${targets[@]}"
if [ "${targets[*]}" = all ] && ! command -v qemu-mips-static >/dev/null; then
  apt-get install -q -y --no-install-recommends qemu-user-static >/dev/null
fi
for binary in dist/luat-ota-*; do
  if [ -x "$binary" ]; then packaging/selftest.sh "$binary"; fi
done
if [ -e dist/luat-ota-x86_64 ]; then packaging/deb.sh all; fi
packaging/ipk.sh "${targets[@]}"
packaging/oci.py

rm -rf dist/release
mkdir dist/release
cp dist/luat-ota-* dist/luat-ota_* dist/luat-ota.cdx.json dist/LICENSES.txt dist/BUILD.txt packaging/oci/compose.yaml \
  dist/release/
(cd dist/release && sha256sum -- * >SHA256SUMS)
ls -l dist/release
