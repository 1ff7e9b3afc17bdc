#!/bin/sh
# Sends an event of luat-ota to a group robot of WeCom, DingTalk or Feishu (docs/events.md):
#
#     webhook.sh wecom|dingtalk|feishu FILE
#
# Standard input is the event. FILE contains the address of the robot. The address is a secret: on a command line, other
# users of the machine could read it. Needs curl and jq.
set -eu
case $1 in
wecom | dingtalk) form='{msgtype: "text", text: {content: .}}' ;;
feishu) form='{msg_type: "text", content: {text: .}}' ;;
*)
  echo "webhook.sh: $1 is not wecom, dingtalk or feishu" >&2
  exit 2
  ;;
esac
address=$(cat "$2")
message=$(jq -c "[\"luat-ota\", .event, .project, .version, .device, .name, .reason] | map(values) | join(\" \") | $form")
# The status is 200 even if the robot refuses the message; the number in the reply is then not 0.
taken=$(
  printf 'url = "%s"\n' "$address" |
    curl --config - --silent --show-error --fail --max-time 20 \
      --header 'Content-Type: application/json' --data-binary "$message" |
    jq '(.errcode // .code) == 0'
)
[ "$taken" = true ]
