#!/usr/bin/env bash
# Measures the server against nginx, a minimal UDP server, the seed's server and tftpd-hpa, on this machine, on
# loopback: docs/performance.md. Prints a table, or with --json one object a line.
#
#   benches/compare.sh [--quick] [--json | --markdown] [--only NAME] [--list]
#
# --markdown prints the short table that stands in the README; --quick takes three minutes in place of fifteen; --only
# measures the rows whose name begins with NAME (may be given several times); --list names them. A group with a row that
# misses its "must" is measured twice more, and the medians count. The exit status is 1 if one misses it then.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
built=$target/compare

case " $* " in
  *" --list "* | *" --help "* | *" -h "*) exec python3 benches/compare "$@" ;;
esac

missing=() packages=()
# needs COMMAND PACKAGE
needs() {
  command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || { missing+=("$1"); packages+=("$2"); }
}
needs cargo cargo
needs python3 python3
needs gcc gcc
needs nginx nginx-light
needs wrk wrk
needs in.tftpd tftpd-hpa
needs strace strace
if [ ${#missing[@]} -gt 0 ]; then
  echo "missing: ${missing[*]}; install them with: apt-get install ${packages[*]}" >&2
  exit 2
fi

mkdir -p "$built"
# With what packaging/build.sh adds for this profile.
RUSTFLAGS='-C llvm-args=-inline-threshold=50' cargo build --release --locked --quiet --all-features
cargo build --profile router --locked --quiet --no-default-features --target-dir "$target/footprint"
for program in peers/constant load/datagrams load/tftp; do
  gcc -O2 -Wall -Wextra -o "$built/$(basename "$program")" "benches/$program.c"
done
if ! "$built/venv/bin/python" -c 'import gevent, sqlalchemy' 2>/dev/null; then
  echo "installing what the seed's server needs (gevent, SQLAlchemy) into $built/venv" >&2
  python3 -m venv "$built/venv"
  "$built/venv/bin/pip" install --quiet gevent 'SQLAlchemy<1.4' ||
    echo "it cannot be installed; the row against the seed's server is left out" >&2
fi
exec python3 benches/compare --target "$target" "$@"
