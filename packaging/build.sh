#!/usr/bin/env bash
# Builds static binaries into dist/: packaging/build.sh TARGET..., or all; --list names them.
#
# Each target comes in two sizes: `full`, and `router` without the emulated modules. The same commit and
# the same tools give the same bytes, in whatever folder. Beside the binaries: SHA256SUMS, the bill of
# materials, all licences, and a file that says what they were built from.
#
# For Debian 12 on amd64. As root it installs what is missing; else it says what. Tools that are not in
# Debian go to $LUAT_OTA_TOOLS (~/.cache/luat-ota-tools), products to $CARGO_TARGET_DIR/packaging.
set -euo pipefail
shopt -s nullglob

# Our name for it, which is what people call their machine; Rust's name; which machines.
targets='x86_64  x86_64-unknown-linux-musl       PCs and servers
aarch64 aarch64-unknown-linux-musl      64-bit ARM: Raspberry Pi 3 and newer, most boards and cloud servers
armv7   armv7-unknown-linux-musleabihf  32-bit ARM: Raspberry Pi 2 and newer with a 32-bit system
armv6   arm-unknown-linux-musleabihf    Raspberry Pi 1 and Zero
mipsel  mipsel-unknown-linux-musl       little-endian MIPS: routers with MT7620, MT7621, MT7628, MT7688
mips    mips-unknown-linux-musl         big-endian MIPS: routers with AR71xx, AR93xx, QCA95xx'

usage() {
  cat <<'TEXT'
packaging/build.sh [--size full|router|both] [--dist DIR] TARGET...

TARGET: one of --list, its Rust triple, or all. Both sizes without --size; into dist/ without --dist.
TEXT
}

fail() {
  echo "build.sh: $*" >&2
  exit 1
}

wanted=() sizes=(full router) dist=
while [ $# -gt 0 ]; do
  case $1 in
    --list) echo "$targets"; exit ;;
    -h | --help) usage; exit ;;
    --size)
      case ${2-} in
        full | router) sizes=("$2") ;;
        both) ;;
        *) fail "--size is full, router or both" ;;
      esac
      shift ;;
    --dist) dist=$(realpath -m -- "${2:?--dist needs a folder}"); shift ;;
    all) mapfile -t wanted < <(awk '{print $2}' <<<"$targets") ;;
    *)
      triple=$(awk -v name="$1" '$1 == name || $2 == name {print $2}' <<<"$targets")
      [ -n "$triple" ] || fail "no target is called $1: see packaging/build.sh --list"
      wanted+=("$triple") ;;
  esac
  shift
done
[ ${#wanted[@]} -gt 0 ] || { usage >&2; exit 2; }

cd "$(dirname "$0")/.."
root=$PWD
dist=${dist:-$root/dist}
tools=${LUAT_OTA_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/luat-ota-tools}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
case "$root$tools$cargo_home${CARGO_TARGET_DIR-}" in
  *[[:space:]]*) fail "a folder with a space in its name cannot be handed to the compiler: $root, $tools, $cargo_home" ;;
esac

# --- What is needed: Debian's newest Rust with the source of its library, and two wheels.

[ "$(uname -m)" = x86_64 ] || fail "this builds on amd64 only"
packages=()
need() { [ -e "$1" ] || packages+=("$2"); }
need /usr/bin/rustc rustc-web
need /usr/bin/cargo cargo-web
need /usr/lib/rustlib/src/rust/library/Cargo.lock rust-web-src
need /usr/bin/cc gcc
need /usr/share/doc/libc6-dev libc6-dev
need /usr/bin/python3 python3
compgen -G '/usr/lib/python3.*/ensurepip' >/dev/null || packages+=(python3-venv)
need /usr/bin/git git
need /etc/ssl/certs/ca-certificates.crt ca-certificates
if [ ${#packages[@]} -gt 0 ]; then
  # The list of packages first: an old one has an old compiler.
  install="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
  [ "$(id -u)" = 0 ] || fail "these are missing; as root: $install"
  echo "== $install"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -q && apt-get install -q -y --no-install-recommends "${packages[@]}"; } >&2 ||
    fail "the packages cannot be installed: $install"
fi
wheels=$(sha256sum packaging/tools.txt | cut -c 1-12)
bin=$tools/$wheels/bin
if [ ! -e "$tools/$wheels/complete" ]; then
  echo "== Zig and cargo-zigbuild into $tools/$wheels"
  /usr/bin/python3 -m venv --clear "$tools/$wheels"
  "$bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    -r packaging/tools.txt || fail "they cannot be installed: $bin/pip install -r packaging/tools.txt"
  touch "$tools/$wheels/complete"
fi
zig=$(echo "$tools/$wheels"/lib/python3*/site-packages/ziglang)

# Nothing of the caller's environment that could change the bytes; Debian's compiler before rustup's.
for name in $(compgen -e | grep -E '^(CARGO_(BUILD|PROFILE|TARGET|UNSTABLE|ENCODED)_|RUST|CFLAGS|CC|CXX|AR|LD)' || true); do
  case $name in CARGO_TARGET_DIR) ;; *) unset "$name" ;; esac
done
umask 022
export PATH=$bin:/usr/bin:/bin LC_ALL=C TZ=UTC CARGO_HOME=$cargo_home
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/packaging
export ZIG_GLOBAL_CACHE_DIR=$tools/zig CARGO_ZIGBUILD_CACHE_DIR=$tools/zigbuild
# The library is built from source, which stable compilers allow to nobody else.
export RUSTC_BOOTSTRAP=1
rust=/usr/lib/rustlib/src/rust
least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
compiler=$(rustc -V | awk '{print $2}')
[ "$(printf '%s\n' "$least" "$compiler" | sort -V | head -1)" = "$least" ] ||
  fail "Rust $compiler of /usr/bin is older than $least: apt-get update && apt-get install rustc-web cargo-web rust-web-src"

if commit=$(git rev-parse HEAD 2>/dev/null); then
  [ -z "$(git status --porcelain --untracked-files=no)" ] || commit+=' with changes'
  SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
else
  commit='no commit'
fi
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}

# --- Flags.

cargo fetch --locked --quiet
flags=(
  # The start files of Zig's C library, not those that Rust would bring.
  -C link-self-contained=no
  # With panic=abort nothing unwinds: the tables would be a sixth of the file.
  -C force-unwind-tables=no
  # What functions have in common is kept once: three parts in a hundred of the code.
  -C llvm-args=-enable-machine-outliner=always
  # SHA-256 as a loop, a hundredth of the file less, for processors that have no instructions for it: there it takes an
  # eighth longer.
  --cfg 'sha2_backend_soft="compact"'
  # At a fixed address: with the C library linked in, MIPS programs crash at any other.
  -C relocation-model=static
  # Without the unwinder of the C library and its printf, which the linker could not know to be never called: 32 kB.
  -C link-arg=packaging/instead.c
  # Without the C library's unwind tables, 8 kB: the linker's scripts below leave them out, this their index.
  -C 'link-arg=-Wl,--no-eh-frame-hdr'
  # Folders of this machine. What comes later wins.
  "--remap-path-prefix=$root=luat-ota"
  "--remap-path-prefix=$CARGO_TARGET_DIR=target"
  "--remap-path-prefix=$rust/library=rust"
)
for crates in "$CARGO_HOME"/registry/src/*; do
  flags+=("--remap-path-prefix=$crates=crates")
done
for triple in MIPS MIPSEL; do
  # By a path that is the same everywhere, for it goes into the names of symbols.
  export "CARGO_TARGET_${triple}_UNKNOWN_LINUX_MUSL_RUSTFLAGS=${flags[*]} -C link-arg=-Wl,-T,packaging/mips.ld"
done
for triple in X86_64_UNKNOWN_LINUX_MUSL AARCH64_UNKNOWN_LINUX_MUSL ARM{,V7}_UNKNOWN_LINUX_MUSLEABIHF; do
  export "CARGO_TARGET_${triple}_RUSTFLAGS=${flags[*]} -C link-arg=-Wl,-T,packaging/all.ld"
done
# Without the library's other features there are no stack traces, nor what they need; a panic still says
# what and where.
build=(cargo zigbuild --release --locked --bin luat-ota -Z 'build-std=std,panic_abort'
  -Z 'build-std-features=optimize_for_size')
for triple in "${wanted[@]}"; do build+=(--target "$triple"); done

# --- Build.

# What lies in dist/ from other input must not be summed up with this.
mkdir -p "$dist"
about="luat-ota $(sed -n '0,/^version/s/^version = "\(.*\)"/\1/p' Cargo.toml)
commit: $commit
date: $(date -u -d "@$SOURCE_DATE_EPOCH" +%FT%TZ)
compiler: $(rustc -V)
library and linker: Zig $("$zig/zig" version)"
if [ "$(cat "$dist/BUILD.txt" 2>/dev/null)" != "$about" ] || [[ $commit == *'with changes' ]]; then
  rm -f "$dist"/luat-ota-* "$dist/SHA256SUMS"
fi
echo "$about" >"$dist/BUILD.txt"

for size in "${sizes[@]}"; do
  case $size in
    full) features=() suffix= ;;
    router) features=(--no-default-features) suffix=-router ;;
  esac
  echo "== $size: ${wanted[*]}"
  "${build[@]}" "${features[@]}"
  for triple in "${wanted[@]}"; do
    name=$(awk -v triple="$triple" '$2 == triple {print $1}' <<<"$targets")
    install -m 755 "$CARGO_TARGET_DIR/$triple/release/luat-ota" "$dist/luat-ota-$name$suffix"
  done
done

echo '== what they are made of'
mapfile -t triples < <(awk '{print $2}' <<<"$targets")
/usr/bin/python3 packaging/bill.py "$dist" "$rust" "$zig" "${triples[@]}"
cd "$dist"
sha256sum BUILD.txt LICENSES.txt luat-ota* >SHA256SUMS
stat -c '%12s  %n' luat-ota-*
