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
export ZIG_GLOBAL_CACHE_DIR=$tools/zig
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
  # With panic=abort nothing unwinds.
  -C force-unwind-tables=no
  # At a fixed address: with the C library linked in, MIPS programs crash at any other.
  -C relocation-model=static
  # Folders of this machine. The last match wins.
  "--remap-path-prefix=$root=luat-ota"
  "--remap-path-prefix=$CARGO_TARGET_DIR/full=target"
  "--remap-path-prefix=$CARGO_TARGET_DIR/router=target"
  "--remap-path-prefix=$rust/library=rust"
)
for crates in "$CARGO_HOME"/registry/src/*; do
  flags+=("--remap-path-prefix=$crates=crates")
done
# The library is built from source: MIPS has no prebuilt one. Without its default features there are no stack
# traces; a panic still states its message and place. Its sorting and searching are built for size: 100 kB less.
build=(cargo zigbuild --locked --bin luat-ota -Z 'build-std=std,panic_abort' -Z build-std-features=optimize_for_size)

# Exports the flags for a profile.
flags_of() {
  local triple script speed=()
  # Level 2 copies functions into their callers at a cost of up to 225; with 50, the full size is 0.3 MB smaller.
  # Level "z" has a lower limit of its own.
  if [ "$1" = release ]; then speed=(-C llvm-args=-inline-threshold=50); fi
  for triple in {X86_64,AARCH64,MIPS,MIPSEL}_UNKNOWN_LINUX_MUSL ARM{,V7}_UNKNOWN_LINUX_MUSLEABIHF; do
    case $triple in
      MIPS*) script=mips ;;
      *) script=discard ;;
    esac
    # By a path that is the same everywhere, since it goes into the names of symbols.
    export "CARGO_TARGET_${triple}_RUSTFLAGS=${flags[*]} ${speed[*]} -C link-arg=-Wl,-T,packaging/$script.ld"
  done
}

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

# The profile for a size and a target. Machines with MIPS are routers: their full size is built for size, too.
profile_of() {
  case $1-$2 in
    router-* | *-mips*) echo router ;;
    *) echo release ;;
  esac
}

# A job for each size and profile: the last minutes of a build use one core.
jobs=() built=()
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
for size in "${sizes[@]}"; do
  case $size in
    full) features=() suffix= ;;
    router) features=(--no-default-features) suffix=-router ;;
  esac
  for profile in release router; do
    group=()
    for triple in "${wanted[@]}"; do
      if [ "$(profile_of "$size" "$triple")" = "$profile" ]; then group+=("$triple"); fi
    done
    [ ${#group[@]} -gt 0 ] || continue
    echo "== $size: ${group[*]}"
    flags_of "$profile"
    # Cargo lets one job at a time into a folder.
    CARGO_ZIGBUILD_CACHE_DIR=$tools/zigbuild/$size "${build[@]}" --target-dir "$CARGO_TARGET_DIR/$size" --profile "$profile" "${features[@]}" "${group[@]/#/--target=}" &
    jobs+=($!)
    for triple in "${group[@]}"; do
      name=$(awk -v triple="$triple" '$2 == triple {print $1}' <<<"$targets")
      built+=("$CARGO_TARGET_DIR/$size/$triple/$profile/luat-ota" "$dist/luat-ota-$name$suffix")
    done
  done
done
for job in "${jobs[@]}"; do wait "$job" || failed=1; done
[ -z "${failed-}" ] || fail "a build failed"
set -- "${built[@]}"
while [ $# -gt 0 ]; do
  install -m 755 "$1" "$2"
  shift 2
done

echo '== what they are made of'
mapfile -t triples < <(awk '{print $2}' <<<"$targets")
/usr/bin/python3 packaging/bill.py "$dist" "$rust" "$zig" "${triples[@]}"
cd "$dist"
sha256sum BUILD.txt LICENSES.txt luat-ota* >SHA256SUMS

# The bounds of docs/performance.md, in bytes.
over=0
printf '%12s %12s  %s\n' bytes 'xz -9' binary
for binary in luat-ota-*; do
  [ -x "$binary" ] || continue
  case $binary in
    *mips*-router) most=1900000 most_packed=750000 ;;
    *-router) most=1500000 most_packed=650000 ;;
    *) most=3500000 most_packed=$most ;;
  esac
  bytes=$(stat -c %s "$binary")
  packed=$(/usr/bin/python3 -c 'import lzma, sys; print(len(lzma.compress(open(sys.argv[1], "rb").read(), preset=9)))' "$binary")
  printf '%12s %12s  %s\n' "$bytes" "$packed" "$binary"
  if [ "$bytes" -gt "$most" ] || [ "$packed" -gt "$most_packed" ]; then
    echo "build.sh: $binary is larger than $most bytes, or $most_packed packed" >&2
    over=1
  fi
done
exit $over
