#!/bin/sh
# Starts a program for each event of a luat-ota server, from another container or machine (docs/events.md):
#
#     follow.sh http://127.0.0.1:8081 FILE PROGRAM [ARGUMENT...]
#
# FILE contains the read token. The program gets the event on its standard input, as with --on-event. What happens while
# the server cannot be reached is missed. Needs curl and jq.
set -eu
server=$1 token=$2
shift 2
while :; do
  {
    printf 'header = "Authorization: Bearer %s"\n' "$(cat "$token")" |
      curl --config - --silent --show-error --fail --no-buffer "$server/api/v1/events" |
      jq -Rc --unbuffered 'ltrimstr("data: ") | fromjson? | select(type == "object" and has("event"))' |
      while IFS= read -r event; do
        printf '%s\n' "$event" | "$@" || echo "follow.sh: $1 failed for $event" >&2
      done
  } || :
  sleep 5
done
