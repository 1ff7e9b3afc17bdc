# shellcheck shell=bash
# What the tests of this folder begin with. Sourced in packaging/, with the arguments of the test.
#
# $dist becomes the folder of the binaries (--dist DIR, by default ../dist), $work a new folder that the test removes.

dist=../dist
[ "${1-}" != --dist ] || dist=${2:?a folder}
dist=$(realpath -- "$dist")
work=$(mktemp -d)

fail() {
  echo "FAIL  $*"
  [ ! -s "$work/log" ] || tail -n 30 "$work/log"
  exit 1
}
pass() { echo "PASS  $*"; }
