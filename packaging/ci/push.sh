#!/bin/sh
# Publishes a firmware file on a luat-ota server, with its rules. docs/publish.md explains it.
#
#   push.sh --rules JSON [FLAGS] FILE
#
# If the server does not have FILE, it is uploaded together with the rules, so that no other device is offered it in
# between. If the server has it, the rules of its release are replaced: this is the next stage of a rollout.
#
#   --url URL              operator address, for example https://ota.example.com   [env: OTA_URL]
#   --token-file FILE      file with the operator token   [default: the token in the environment, OTA_TOKEN]
#   --rules JSON           release.json in ASCII (other characters as \uXXXX); {} offers the release to every device
#   --to PROJECT/VERSION   for a FILE whose name does not state them
#   --wait confirmed=N     wait until N devices are confirmed
#   --for TIME             wait for at most this time: 90s, 30m, 2h, 1d   [default: 2h]
#
# OTA_INTERVAL is the number of seconds between two looks at the release while it waits, by default 5.
#
# Exit status: 0 done; 1 refused, or the server cannot be reached; 2 wrong usage; 3 the release is paused, fused or held
# back; 4 too few devices are confirmed in time. Needs curl 7.55, jq 1.5, sha256sum, base64.
set -eu

fail() {
  code=$1
  shift
  printf 'push.sh: %s\n' "$*" >&2
  exit "$code"
}

url=${OTA_URL-} token=${OTA_TOKEN-} rules='' to='' wait='' time=2h file=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --*) [ $# -ge 2 ] || fail 2 "$1 is unknown or needs a value; push.sh --help lists the flags" ;;
  esac
  case $1 in
    --url) url=$2 ;;
    --token-file) token=$(cat -- "$2") || fail 2 "the token cannot be read" ;;
    --rules) rules=$2 ;;
    --to) to=$2 ;;
    --wait) wait=$2 ;;
    --for) time=$2 ;;
    -*) fail 2 "$1 is unknown; push.sh --help lists the flags" ;;
    *) [ -z "$file" ] || fail 2 "give one file, not $file and $1"; file=$1; shift; continue ;;
  esac
  shift 2
done
[ -f "$file" ] || fail 2 "${file:-no file}: there is no such file; push.sh --help shows the usage"
[ -n "$url" ] || fail 2 "give the operator address of the server with --url or in OTA_URL"
[ -n "$token" ] || fail 2 "give the operator token with --token-file or in OTA_TOKEN"
[ -n "$rules" ] || fail 2 "say with --rules which devices are offered the release; {} means every device"
case $wait in '' | confirmed=[1-9]*) ;; *) fail 2 "--wait $wait: write confirmed=N" ;; esac
wanted=${wait#confirmed=} number=${time%[smhd]}
case $wanted$number in *[!0-9]*) fail 2 "--wait takes confirmed=N, --for a time like 90s, 30m, 2h or 1d" ;; esac
case $time in
  [1-9]*s) seconds=$number ;;
  [1-9]*m) seconds=$((number * 60)) ;;
  [1-9]*h) seconds=$((number * 3600)) ;;
  [1-9]*d) seconds=$((number * 86400)) ;;
  *) fail 2 "--for $time: write a time like 90s, 30m, 2h or 1d" ;;
esac
# A header is one line.
rules=$(printf %s "$rules" | tr '\r\n\t' '   ')
case $rules in *[!\ -~]*) fail 2 '--rules: write characters outside ASCII as \uXXXX' ;; esac
printf %s "$rules" | jq -e 'type == "object"' >/dev/null 2>&1 || fail 2 "--rules is no JSON object: $rules"
case $url in
  https://* | http://127.0.0.1[:/]* | http://localhost[:/]* | http://\[::1\]*) ;;
  *) echo "push.sh: warning: $url is not HTTPS, so the token and the file are sent in plain text" >&2 ;;
esac
url=${url%/}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# api METHOD PATH [CURL ARGUMENT...]: the reply is in $work/reply, its status in $status, and if it is no success the
# reason in $problem. The token goes to curl through a pipe: a command line can be read by other users.
api() {
  api_method=$1 api_path=$2
  shift 2
  status=$(printf 'Authorization: Bearer %s\n' "$token" | curl -sS -X "$api_method" -H @- -o "$work/reply" -w '%{http_code}' \
    --connect-timeout 20 --speed-limit 1 --speed-time 60 "$@" "$url/api/v1/$api_path" 2>"$work/problem") || status=000
  case $status in
    2??) return 0 ;;
    000) problem=$(cat "$work/problem") ;;
    *) problem="$status $(jq -r '.detail // .title // ""' "$work/reply" 2>/dev/null || true)" ;;
  esac
  return 1
}

# The same, again if the connection is lost or the server asks to: an upload that arrived, but whose reply was lost, is
# answered as one that is there.
again() {
  for pause in 1 2 4 8 15 30 30 30 0; do
    if api "$@"; then return 0; fi
    case $status in 000 | 408 | 429 | 502 | 503 | 504) ;; *) return 1 ;; esac
    [ "$pause" = 0 ] || { echo "push.sh: $problem; trying again in $pause s" >&2; sleep "$pause"; }
  done
  return 1
}

name=${file##*/}
place=${to:+$to/}$name
size=$(($(wc -c <"$file")))
sha256=$(sha256sum <"$file" | cut -c 1-64)
head -c 4096 "$file" | base64 | tr -d '\n' >"$work/head"
jq -n --arg path "$place" --argjson size "$size" --arg head "$(cat "$work/head")" --argjson rules "$rules" \
  '{$path, $size, $head, $rules}' >"$work/file"
api POST recognise -H 'Content-Type: application/json' --data-binary "@$work/file" || fail 1 "$url: $problem"
problem=$(jq -r '.problem // ""' "$work/reply")
[ -z "$problem" ] || fail 1 "$place: $problem"
project=$(jq -r '.project' "$work/reply") version=$(jq -r '.version' "$work/reply")
mv "$work/reply" "$work/recognised"

# Percent-encodes the parts of a path.
encode() { jq -nr --arg path "$1" '$path | split("/") | map(@uri) | join("/")'; }

# The release with exactly this file, as the server shows it, in $work/release; fails if there is none.
find_release() {
  again GET "releases?limit=500&project=$(encode "$project")" || fail 1 "$project $version: $problem"
  jq -e --arg path "$place" --arg sha256 "$sha256" \
    '[.releases[] | select(any(.packages[]; .path == $path and .sha256 == $sha256))][0]' "$work/reply" >"$work/release"
}

# Fails if a person or the fuse has paused the release.
fail_if_paused() {
  state=$(jq -r '"\(.state)\(if .reason then " (\(.reason))" else "" end)"' "$work/release")
  case $state in paused* | fused* | held_back*) fail 3 "$project $version is $state" ;; esac
}

if find_release; then
  fail_if_paused
  version=$(jq -r '.version' "$work/release") tag=$(jq -r '.rules_etag' "$work/release")
  if [ -n "$tag" ]; then condition="If-Match: $tag"; else condition='If-None-Match: *'; fi
  # Not again: after a lost reply the condition no longer holds, although the rules are there.
  api PUT "rules/$(encode "$project/$version")" -H "$condition" --data-binary "$rules" || fail 1 "$project $version: $problem"
  echo "$place is on the server, SHA-256 $sha256; its rules are now $rules"
else
  jq -r '"\(.project) \(.version): \(.kind), for \(.platform // "any platform")",
    "\(.bill.devices) of \(.bill.of) known devices would be offered it now",
    (.bill.others[] | "  not offered to \(.devices): \(.reason)"), (.warnings[] | "warning: \(.)")' "$work/recognised"
  # The server refuses bytes with another hash before any device is offered them.
  digest=$(for byte in $(echo "$sha256" | sed 's/../0x& /g'); do printf %b "$(printf '\\0%03o' "$byte")"; done | base64)
  again PUT "firmware/$(encode "$place")" -T "$file" -H "Repr-Digest: sha-256=:$digest:" -H "Release-Rules: $rules" ||
    fail 1 "$place: $problem"
  [ "$(jq -r '.sha256' "$work/reply")" = "$sha256" ] || fail 1 "$place: the server has other bytes than $file"
  echo "uploaded $place, $size bytes, SHA-256 $sha256"
  deadline=$(($(date +%s) + 60))
  until find_release; do
    [ "$(date +%s)" -lt "$deadline" ] || fail 1 "$project $version is still no release after 60 s: look into the server's log"
    sleep 1
  done
fi
[ -n "$wait" ] || exit 0

deadline=$(($(date +%s) + seconds)) before=''
while :; do
  find_release || fail 1 "$project $version is no longer there"
  confirmed=$(jq -r '.counts.confirmed' "$work/release")
  line=$(jq -r '"\(.project) \(.version) is \(.state)\(if .reason then " (\(.reason))" else "" end): " +
    ([.counts | to_entries[] | select(.value > 0) | "\(.key) \(.value)"] | join(", ") |
    if . == "" then "no device has asked for it yet" else . end)' "$work/release")
  [ "$line" = "$before" ] || printf '%s\n' "$line"
  before=$line
  fail_if_paused
  [ "$confirmed" -lt "$wanted" ] || exit 0
  [ "$(date +%s)" -lt "$deadline" ] || fail 4 "after $time $confirmed of $wanted devices are confirmed"
  sleep "${OTA_INTERVAL-5}"
done
