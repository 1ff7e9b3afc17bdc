#!/usr/bin/env bash
# Builds a script package and publishes one stage of it: the step of action.yml and gitee.yml.
#
# Takes its settings from the environment: CORE, SCRIPTS (separated by spaces), RULES, WAIT and FOR (push.sh --help), OTA_URL and
# OTA_TOKEN; DOWNLOAD, the address of the program, or LUAT_OTA, the program itself.
set -euo pipefail
ci=$(dirname "$(realpath -- "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
program=${LUAT_OTA-}
if [ -z "$program" ]; then
  program=$work/luat-ota
  curl -fsSL --retry 3 -o "$program" "${DOWNLOAD:?give the address of the program in DOWNLOAD, or the program in LUAT_OTA}"
  chmod +x "$program"
fi
mkdir "$work/package"
# shellcheck disable=SC2086 # several names
"$program" pack --core "${CORE:?give the factory file of the core in CORE}" --output "$work/package" ${SCRIPTS:?name the scripts in SCRIPTS}
wait=()
[ -z "${WAIT-}" ] || wait=(--wait "$WAIT" --for "${FOR:-2h}")
"$ci/push.sh" --rules "${RULES:?give the rules of the stage in RULES}" "${wait[@]}" "$work"/package/*.bin
