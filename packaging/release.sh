#!/usr/bin/env bash
# Makes everything that a release publishes, in dist/release, and the release notes in dist/NOTES.md:
#
#   packaging/release.sh TAG                    all targets; TAG is v and the version of Cargo.toml
#   packaging/release.sh --dry-run [TARGET...]  the same without a tag, for these targets (default: x86_64)
#
# Needs what packaging/build.sh needs (Debian 12 on amd64), and qemu-user for the self-test of binaries for other machines.
# .github/workflows/release.yml publishes the result.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() {
  echo "release.sh: $*" >&2
  exit 1
}

# The section of CHANGELOG.md below a heading, without blank lines at its ends.
section() {
  awk -v heading="## $1" '$0 == heading || index($0, heading " ") == 1 {on = 1; next} on && /^## / {exit} on' CHANGELOG.md |
    sed -e '/./,$!d' | sed -e ':end' -e '/^\n*$/{$d;N;b end' -e '}'
}

version=$(sed -n '0,/^version/s/^version = "\(.*\)"/\1/p' Cargo.toml)
case ${1-} in
  --dry-run)
    shift
    targets=("${@:-x86_64}")
    ;;
  v?*)
    [ "$1" = "v$version" ] || fail "the tag is $1, Cargo.toml has $version"
    [ -z "$(section Unreleased)" ] || fail "CHANGELOG.md has changes under Unreleased: move them to $version"
    [ -z "$(git status --porcelain --untracked-files=no)" ] || fail 'there are changes that are not committed'
    targets=(all)
    ;;
  *)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
[ "${targets[*]}" != all ] || mapfile -t targets < <(packaging/build.sh --list | awk '{print $1}')
tools/repository.py --check
mkdir -p dist
# On the page of a release, links do not begin in the repository.
section "$version" | sed "s|](docs/|]($(tools/repository.py)/blob/v$version/docs/|g" >dist/NOTES.md
[ -s dist/NOTES.md ] || fail "CHANGELOG.md has no section for $version"

# Packages of another version or of other targets.
rm -rf dist/luat-ota_* dist/luat-ota-*.tar dist/release
packaging/build.sh "${targets[@]}"
if [ "${targets[*]}" != x86_64 ] && ! command -v qemu-mips-static >/dev/null; then
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends qemu-user-static >/dev/null
fi
for target in "${targets[@]}"; do
  for binary in "dist/luat-ota-$target"{,-router}; do
    echo "== self-test of $binary"
    packaging/selftest.sh "$binary"
  done
done
echo '== packages'
if [ -e dist/luat-ota-x86_64 ]; then packaging/deb.sh all; fi
packaging/ipk.sh all
packaging/oci.py

mkdir dist/release
cp dist/luat-ota-* dist/luat-ota_* dist/luat-ota.cdx.json dist/LICENSES.txt dist/BUILD.txt packaging/oci/compose.yaml \
  dist/release/
(cd dist/release && sha256sum -- * >SHA256SUMS)
ls -l dist/release
