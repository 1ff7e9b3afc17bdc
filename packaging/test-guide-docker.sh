#!/usr/bin/env bash
# Follows docs/guide-docker.md as a new user: packaging/test-guide-docker.sh [--dist DIR]
#
# Runs the blocks of the guide that name this script, byte for byte and in their order, from an empty folder, with the
# real Docker daemon and Compose of Debian 13. The daemon has a network, processes and files of its own, and reaches
# nothing outside. Prints the seconds of each block. Needs root, mmdebstrap, a Debian mirror, and what oci.py needs.
# $LUAT_OTA_DOCKER_ROOT names a fresh system to copy instead of making one.
set -euo pipefail
cd "$(dirname "$0")"
. ./preamble.sh
root=$work/root home=$work/root/home/user
daemon='' client=''
cleanup() {
  [ -z "$client" ] || kill "$client" 2>/dev/null || true
  if [ -n "$daemon" ]; then
    kill "$daemon" 2>/dev/null || true
    for _ in $(seq 150); do
      [ -e "/proc/$daemon" ] || break
      sleep 0.2
    done
  fi
  find /sys/fs/cgroup -depth -type d -path '*/docker*' -empty -delete 2>/dev/null || true
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
pass() { printf 'PASS  %4ss  %s\n' "$SECONDS" "$*"; }

# The blocks: NUMBER.LANGUAGE.
python3 - "$work" <<'PYTHON' || fail 'the blocks of the guide'
import pathlib, re, sys
mark = r"<!-- run by packaging/test-guide-docker\.sh -->\n```(\w+)\n(.*?)```\n"
english, chinese = (
    re.findall(mark, pathlib.Path(f"../docs/{name}guide-docker.md").read_text(), re.S) for name in ("", "zh-CN/")
)
assert english == chinese, [pair for pair in zip(english, chinese) if pair[0] != pair[1]][:1]
assert len(english) >= 15, len(english)
for number, (language, text) in enumerate(english):
    (pathlib.Path(sys.argv[1]) / f"{number:02}.{language}").write_text(text)
PYTHON
./oci.py --dist "$dist" >"$work/log"
pass 'the image is made, and both languages of the guide have the same blocks'

# Debian 13, unpacked and not configured: that is enough, and takes a third of the time.
if [ -n "${LUAT_OTA_DOCKER_ROOT-}" ]; then
  cp -a "$LUAT_OTA_DOCKER_ROOT" "$root"
else
  packages=base-files,bash,coreutils,diffutils,tar,gzip,curl,mount,iptables,docker.io,docker-cli,docker-compose
  mmdebstrap --mode=root --variant=extract --include="$packages" trixie "$root" \
    'deb http://deb.debian.org/debian trixie main' >"$work/log" 2>&1 || fail mmdebstrap
fi
printf '%s\n' 'root:x:0:0::/root:/bin/bash' 'user:x:1000:1000::/home/user:/bin/bash' >"$root/etc/passwd"
printf '%s\n' 'root:x:0:' 'docker:x:999:user' 'user:x:1000:' >"$root/etc/group"
echo '127.0.0.1 localhost' >"$root/etc/hosts"
ln -sf bash "$root/usr/bin/sh"
kind=nft
chroot "$root" iptables-nft -t nat -L >/dev/null 2>&1 || kind=legacy
ln -sf "iptables-$kind" "$root/usr/sbin/iptables"
ln -sf "ip6tables-$kind" "$root/usr/sbin/ip6tables"
mkdir -p "$root/etc/docker" "$home/luat-ota" "$root/root/luat-ota"
cp "$work"/*.json "$root/etc/docker/daemon.json"
pass "a Debian $(cat "$root/etc/debian_version") with Docker"

cat >"$work/start" <<'START'
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount -t sysfs sysfs "$1/sys"
mount --rbind /sys/fs/cgroup "$1/sys/fs/cgroup"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/run"
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
ip link set lo up
mkdir -p "$1/mnt/host"
cd "$1"
pivot_root . mnt/host
umount -l /mnt/host
exec env -i PATH=/usr/sbin:/usr/bin HOME=/root dockerd --group user
START
unshare --mount --net --pid --fork --kill-child bash "$work/start" "$root" >"$work/dockerd.log" 2>&1 &
launcher=$!
for _ in $(seq 50); do
  daemon=$(pgrep -P $launcher) && break
  sleep 0.1
done
inside() { nsenter -t "$daemon" -m -n -p env -i PATH=/usr/sbin:/usr/bin HOME=/root "$@"; }
as_user() {
  nsenter -t "$daemon" -m -n -p -S 1000 -G 1000 env -i PATH=/usr/bin HOME=/home/user "$@"
}
for _ in $(seq 150); do
  inside docker version >/dev/null 2>&1 && break
  [ -e "/proc/$daemon" ] || break
  sleep 0.2
done
cp "$work/dockerd.log" "$work/log"
inside docker info >"$work/info" 2>&1 || fail 'Docker does not start'
grep -A1 'Registry Mirrors' "$work/info" | grep -q 'https://mirror.example.com/' || fail 'the registry mirror'
pass "Docker $(inside docker version --format '{{.Server.Version}}'), Compose $(inside docker compose version --short), with the mirror"

who() { [ "$1" = as_user ] && echo user || echo root; }
# block WHO FOLDER NUMBER: one block, as it stands. One with curl is repeated: a release settles for some seconds.
block() {
  local began=$SECONDS text
  text=$(cat "$work/$3.sh")
  for _ in $(seq 100); do
    if "$1" bash -ec "umask 022; cd '$2'; $text" >"$work/log" 2>&1; then
      printf 'PASS  %4ss  %s: %s (%s s)\n' "$SECONDS" "$(who "$1")" "$(tail -n 1 <<<"$text")" $((SECONDS - began))
      return
    fi
    case $text in *curl*) sleep 0.2 ;; *) break ;; esac
  done
  inside docker ps -a >>"$work/log" 2>&1 || true
  fail "block $3: $text"
}
# follow WHO FOLDER NUMBER...: the blocks that WHO runs. The guide has one line for a user and another for root.
follow() {
  local who=$1 folder=$2 number
  shift 2
  for number in "$@"; do
    case $who:$(cat "$work/$number.sh") in
      as_user:chown* | inside:*'> .env') ;;
      *) block "$who" "$folder" "$number" ;;
    esac
  done
}
api() { # WHO FOLDER METHOD PATH [CURL ARGUMENTS]
  local who=$1 folder=$2 method=$3 path=$4
  shift 4
  # shellcheck disable=SC2016 # the shell inside
  "$who" bash -ec 'cd "$1"; shift; token=$(cat state/operator-token 2>/dev/null || cat operator-token)
    curl -fsS -X "$@" -H "Authorization: Bearer $token"' sh "$folder" "$method" "http://127.0.0.1:8081/api/v1/$path" "$@"
}
down() { "$1" bash -ec "cd '$2'; docker compose down -v" >"$work/log" 2>&1 || fail 'docker compose down'; }
shell=("$work"/*.sh)
shell=("${shell[@]##*/}")
shell=("${shell[@]%.sh}")

folder=/home/user/luat-ota
cp oci/compose.yaml "$dist/luat-ota-docker-x86_64.tar" "$home/luat-ota/"
chown -R 1000:1000 "$home"
began=$SECONDS
follow as_user $folder "${shell[@]}"
pass "the guide, from its first block to its last, took $((SECONDS - began)) s"

# What the guide says beside its blocks.
log=$(as_user bash -c "cd $folder; docker compose logs")
[[ $log == *' ready ready'* && $log != *' ERROR '* ]] || { echo "$log"; fail 'the log'; }
[[ $log != *'now need a token'* ]] || fail 'a first start is no upgrade'
[ "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8081/ || true)" = 000 ] || fail 'the page is reached from outside'
api as_user $folder GET releases >/dev/null || fail 'the operator page'
echo 'a package of some bytes' | head -c 20 >"$home/update.bin"
head -c 3000 /dev/urandom >>"$home/update.bin"
api as_user $folder PUT firmware/PAGE/1.0.1/update.bin -T /home/user/update.bin >"$work/log" 2>&1 || fail 'an upload'
cmp "$home/update.bin" "$home/luat-ota/firmware/PAGE/1.0.1/update.bin" || fail 'an upload'
[ "$(stat -c %u "$home/luat-ota/firmware/PAGE")" = 1000 ] || fail 'the owner of an upload'
[ "$(stat -c %u:%a "$home/luat-ota/state")" = 1000:700 ] || fail 'the state folder'
[ -s "$home/luat-ota/state/journal.jsonl" ] || fail 'nothing is kept in the state folder'
pass 'the page is on loopback alone; what it uploads belongs to the user; the state is kept'

name=$(as_user bash -c "cd $folder; docker compose ps -q")
[ "$(inside docker inspect -f '{{.HostConfig.LogConfig.Config}}' "$name")" = 'map[max-file:3 max-size:10m]' ] || fail 'the limit of the log'
pass 'the log is limited'

# A machine on a network of its own is a module. Which address does the server see?
unshare --net sleep 600 &
client=$!
until [ "$(readlink "/proc/$client/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
nsenter -t "$daemon" -n ip link add outside type veth peer name module netns "$client"
for side in "$daemon outside 1" "$client module 77"; do
  read -r process link number <<<"$side"
  nsenter -t "$process" -n ip address add "203.0.113.$number/24" dev "$link"
  nsenter -t "$process" -n ip address add "2001:db8::$number/64" dev "$link" nodad
  nsenter -t "$process" -n ip link set "$link" up
done
peers() { # how the server sees it over IPv4 and IPv6, of which each asks for a version of its own
  local host version=0
  for host in 203.0.113.1 '[2001:db8::1]'; do
    version=$((version + 1))
    for _ in $(seq 100); do
      nsenter -t "$client" -n curl -s -m 5 -o /dev/null \
        "http://$host:8080/luat/update?imei=004999010640009&firmware_name=PEER_Luat_V0017_ASR1802&version=$version.0.0" || true
      as_user bash -c "cd $folder; docker compose logs" >"$work/log" 2>&1
      grep -q " project=PEER from=$version.0.0 " "$work/log" && break
      sleep 0.1
    done
    sed -n "s/.* project=PEER from=$version.0.0 .* peer=\(.*\):[0-9]*$/\1/p" "$work/log" | tail -n 1
  done | tr '\n' ' '
}
seen=$(peers)
[[ $seen == '203.0.113.77 172.'*'.1 ' ]] || fail "published ports: the server sees $seen"
pass "published ports: the server sees $seen"

# The override files, in their order: the host network, and a named volume.
yaml=("$work"/*.yaml)
up() { as_user bash -ec "cd $folder; docker compose up -d" >"$work/log" 2>&1 || fail "docker compose up with $1"; }
cp "${yaml[0]}" "$home/luat-ota/compose.override.yaml"
# Docker asks for the first time after the interval, which is half a minute.
echo '    healthcheck: {interval: 1s}' >>"$home/luat-ota/compose.override.yaml"
up 'the host network'
seen=$(peers)
[ "$seen" = '203.0.113.77 [2001:db8::77] ' ] || fail "the host network: the server sees $seen"
api as_user $folder GET releases >/dev/null || fail 'the operator page on the host network'
nsenter -t "$client" -n curl -s -m 2 -o /dev/null http://203.0.113.1:8081/ && fail 'the page is reached from outside'
pass "the host network: the server sees $seen"
name=$(as_user bash -c "cd $folder; docker compose ps -q")
for _ in $(seq 100); do
  state=$(inside docker inspect -f '{{.State.Health.Status}}' "$name")
  [ "$state" = starting ] || break
  sleep 0.1
done
[ "$state" = healthy ] || fail "the container is $state"
pass 'Docker calls the container healthy'
down as_user $folder

cp "${yaml[1]}" "$home/luat-ota/compose.override.yaml"
rm "$home/luat-ota/.env"
mv "$home/luat-ota/state/operator-token" "$home/luat-ota/"
rm -r "$home/luat-ota/state"
chown -R 65532:65532 "$home/luat-ota/firmware" "$home/luat-ota/operator-token"
up 'a named volume'
for _ in $(seq 100); do
  api as_user $folder GET releases >"$work/log" 2>&1 && break
  sleep 0.1
done
api inside $folder PUT firmware/PAGE/1.0.2/update.bin -T /home/user/update.bin >"$work/log" 2>&1 || fail 'an upload'
as_user bash -ec "cd $folder; docker compose cp luat-ota:/state - >../state.tar" 2>"$work/log" || fail 'docker compose cp'
tar -tf "$home/state.tar" >"$work/log"
grep -qx 'state/journal.jsonl' "$work/log" || fail 'the state in the volume'
[ ! -e "$home/luat-ota/state" ] || fail 'a state folder beside the volume'
pass 'a named volume keeps the state, and is copied out of the container'
down as_user $folder

# As root, with the folders of the image's user.
folder=/root/luat-ota
cp oci/compose.yaml "$dist/luat-ota-docker-x86_64.tar" "$root/root/luat-ota/"
steps=()
for number in "${shell[@]}"; do
  # Behind the first update the guide is the same.
  steps+=("$number")
  ! grep -q 'rm -r firmware' "$work/$number.sh" || break
done
follow inside $folder "${steps[@]}"
api inside $folder PUT firmware/PAGE/1.0.1/update.bin -T /home/user/update.bin >"$work/log" 2>&1 || fail 'an upload'
[ "$(stat -c %u "$root$folder/firmware/PAGE")" = 65532 ] || fail 'the owner of an upload'
down inside $folder
pass 'the guide as root, with the user of the image'
