#!/usr/bin/env bash
# Follows docs/guide-vps.md: packaging/test-guide-vps.sh [--dist DIR]
#
# Types every block of the document that names this script, as it is, on a bare Debian 12 (machine.sh) with
# real systemd, nginx and firewalls, and prints the time of each section. What differs from a VPS: the names
# ota.example.com and operator.example.com are in /etc/hosts, the files of the release come from dist/, and
# an authority made here signs the certificates that certbot would get.
#
# Needs root, debootstrap, iproute2, curl, and in dist/ luat-ota-x86_64 and its package (packaging/deb.sh).
set -euo pipefail
cd "$(dirname "$0")"
. ./preamble.sh
. ./machine.sh
cleanup() {
  stop_machine
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

bare_debian "$root"
echo '192.0.2.10 ota.example.com operator.example.com' >>"$root/etc/hosts"
read_guide guide-vps.md
start_machine
visit() {
  from_outside curl -sS --connect-timeout 2 --max-time 20 --resolve '*:80:192.0.2.10' --resolve '*:443:192.0.2.10' "$@"
}

section 'With the Debian package'
said 'Active: active (running)'
section '2. Try the first update'
said ' updated, '
inside bash -c 'dpkg -P luat-ota && userdel luat-ota && rm -r /srv/luat-ota /root/got.bin' >"$work/log" 2>&1 ||
  fail 'the package cannot be purged'
section 'With the binary'
said 'Active: active (running)'
section '2. Try the first update'
said ' updated, '

section '3. Open the ports'
# Nobody listens on 22 here: what is allowed is refused at once (7), what is not has no answer (28).
status=0
visit -o "$work/log" http://192.0.2.10:22/ 2>/dev/null || status=$?
[ $status = 7 ] || fail "ssh is not allowed: $status"
status=0
visit -o "$work/log" http://192.0.2.10:8081/ 2>/dev/null || status=$?
[ $status = 28 ] || fail "8081 answers to the outside: $status"
from_outside "$dist/luat-ota-x86_64" probe --http http://192.0.2.10:8080/luat/update --udp 192.0.2.10:2234 \
  --tcp 192.0.2.10:2234 --project DEMO >"$work/log" 2>&1 || fail 'modules outside'
pass 'modules outside update over HTTP, UDP and TCP; the operator port does not answer'

section '4. Get the certificates'
mkdir -p "$root/var/www/html/.well-known/acme-challenge"
echo challenge >"$root/var/www/html/.well-known/acme-challenge/token"
for name in ota operator; do
  [ "$(visit "http://$name.example.com/.well-known/acme-challenge/token")" = challenge ] || fail "a challenge for $name"
done
pass 'certbot would find its challenges'
# shellcheck disable=SC2016 # what the shell inside expands
# What certbot would get: an RSA certificate for modules, and its default for the page.
inside bash -euc 'cd /etc/letsencrypt
  openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj "/CN=Test authority" -days 2
  for name in ota:rsa:2048 operator:ec; do
    folder=live/${name%%:*}.example.com
    key=(-newkey "${name#*:}")
    [ "${name#*:}" != ec ] || key+=(-pkeyopt ec_paramgen_curve:prime256v1)
    mkdir -p "$folder"
    openssl req "${key[@]}" -nodes -keyout "$folder/privkey.pem" -out request -subj "/CN=${folder#live/}"
    openssl x509 -req -in request -CA ca.pem -CAkey ca.key -days 2 -out "$folder/cert.pem" \
      -extfile <(echo "subjectAltName=DNS:${folder#live/}")
    cat "$folder/cert.pem" ca.pem >"$folder/fullchain.pem"
  done
  cp ca.pem /usr/local/share/ca-certificates/test.crt
  update-ca-certificates' >"$work/log" 2>&1 || fail 'the certificates'

section '5. Serve modules over HTTPS'
said ' updated, '
inside openssl s_client -connect ota.example.com:443 -tls1_2 -cipher AES128-SHA </dev/null >"$work/log" 2>&1 ||
  fail 'the cipher that every TLS 1.2 client has'
grep -q 'Cipher *: AES128-SHA' "$work/log" || fail 'another cipher'
update='luat/update?project_key=k&imei=862991443753386&firmware_name=DEMO_Luat_V0017_ASR1802&version=1.0.1'
status=$(visit -o /dev/null -w '%{http_code}' -H 'Host: unexpected' "http://ota.example.com/$update")
[ "$status" = 404 ] || fail "plain HTTP gives $status"
for scheme in http https; do
  visit -k -o /dev/null -D "$work/log" "$scheme://ota.example.com/$update"
  tr -d '\r' <"$work/log" | grep -qx 'Connection: close' || fail "$scheme: the connection stays open"
done
# Only these three requests come from this device with this version, all through nginx.
for _ in $(seq 100); do
  inside journalctl -u luat-ota --no-pager >"$work/log"
  grep 'check .*device=862991443753386 .*from=1.0.1 ' "$work/log" >"$work/seen" || true
  [ "$(wc -l <"$work/seen")" -lt 3 ] || break
  sleep 0.1
done
[ "$(wc -l <"$work/seen")" = 3 ] || fail 'the log does not have the three checks'
if grep -v 'peer=192.0.2.1:' "$work/seen"; then fail 'the server does not see where modules are'; fi
pass 'old clients can use the certificate; plain HTTP is not redirected; the server sees where modules are'

section '6. Give the operator page its own host name'
[ "$(cat "$work/log")" = "401
200" ] || fail 'the tokens'
page() { inside curl -sS -o /dev/null -w '%{http_code}' "$@"; }
[ "$(page https://operator.example.com/)" = 200 ] || fail 'the page'
[ "$(page http://operator.example.com/)" = 301 ] || fail 'the page over HTTP'
[ "$(page https://ota.example.com/api/v1/summary)" = 404 ] || fail 'the API under the name for modules'
[ "$(page -H 'Host: other.example.com' http://127.0.0.1:8081/)" = 421 ] || fail 'another name'
token="Authorization: Bearer $(cat "$root/var/lib/luat-ota/operator-token")"
inside curl -sS --max-time 2 -N -H "$token" https://operator.example.com/api/v1/events >"$work/log" 2>/dev/null || true
said ': hello'
head -c 9000000 /dev/urandom >"$root/root/large.bin"
[ "$(page -T /root/large.bin -H "$token" https://operator.example.com/api/v1/firmware/DEMO/1.0.2/update.bin)" = 201 ] ||
  fail 'an upload of 9 MB'
pass 'the page, its events and an upload of 9 MB work under its own name, and under no other'

section '7. Operate it'
tar -tzf "$root/root/luat-ota-backup.tar.gz" >"$work/log"
said 'srv/luat-ota/DEMO/1.0.2/update.bin'
said 'var/lib/luat-ota/journal.jsonl'
end_of_guide
