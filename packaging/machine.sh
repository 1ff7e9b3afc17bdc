# shellcheck shell=bash
# A bare Debian 12 with its own systemd and network, in which the tests of the guides type the commands of
# a document. Sourced in packaging/ by the tests that say so. Needs root, debootstrap and iproute2.
#
# Needs preamble.sh. $root becomes the folder of the machine.

init='' outside='' container='' cgroup=''
root=${work:?}/root

# Makes a bare Debian in the folder $1, which does not exist yet. $LUAT_OTA_CHROOT names one to copy instead
# of fetching it again: packaging/test.sh makes that one for all.
bare_debian() {
  if [ -n "${LUAT_OTA_CHROOT-}" ]; then
    cp -a "$LUAT_OTA_CHROOT" "$1"
  else
    debootstrap --variant=minbase --include=adduser,init bookworm "$1" >"$1.log" 2>&1 || {
      tail "$1.log"
      fail debootstrap
    }
  fi
}

# Kills all of the machine, and of nothing else.
stop_machine() {
  local pid
  for pid in $container $outside; do
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  [ -n "$cgroup" ] || return 0
  # Processes leave a control group a moment after they are gone.
  for _ in $(seq 50); do
    find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null && break
    sleep 0.1
  done
  umount "$work/cgroup"
}

# Boots $root: systemd is process 1 of namespaces of its own. Outside of them is a second, empty network,
# 192.0.2.1, with a cable to the machine, 192.0.2.10.
start_machine() {
  local state=
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  # Nothing of this machine must survive a power cut.
  echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/test"
  mkdir "$work/cgroup"
  mount -t cgroup2 cgroup2 "$work/cgroup"
  cgroup=$work/cgroup/luat-ota-machine-$$
  mkdir "$cgroup"
  cat >"$work/boot" <<'BOOT'
set -euo pipefail
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
# The network of this computer, for apt alone.
: >"$root/host-network"
mount --bind "/proc/$2/ns/net" "$root/host-network"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
  : >"$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
ip link set lo up
cd "$root"
mkdir .outside
pivot_root . .outside
umount -l .outside
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
BOOT
  # shellcheck disable=SC2016 # what the inner shell expands
  bash -c 'echo $$ >"$1/cgroup.procs"
    exec unshare --mount --uts --ipc --net --pid --cgroup --fork --kill-child bash "$2" "$3" "$4"' \
    bash "$cgroup" "$work/boot" "$root" $$ >"$work/log" 2>&1 </dev/null &
  container=$!
  for _ in $(seq 300); do
    init=$(cat "/proc/$container/task/$container/children" 2>/dev/null || true)
    init=${init// /}
    [ -z "$init" ] || [ "$(cat "/proc/$init/comm" 2>/dev/null)" != systemd ] || break
    kill -0 $container 2>/dev/null || fail 'the namespaces'
    sleep 0.1
  done
  for _ in $(seq 600); do
    state=$(inside systemctl is-system-running 2>/dev/null || true)
    case $state in running | degraded) break ;; esac
    sleep 0.1
  done
  [ "$state" = running ] || { inside systemctl --failed --no-pager; fail "systemd is $state"; }
  unshare --net sleep infinity &
  outside=$!
  for _ in $(seq 100); do
    [ "$(readlink /proc/$outside/ns/net)" = "$(readlink /proc/self/ns/net)" ] || break
    sleep 0.05
  done
  nsenter -t "$init" -n ip link add eth0 type veth peer name eth0 netns $outside
  nsenter -t "$init" -n ip address add 192.0.2.10/24 dev eth0
  nsenter -t "$init" -n ip link set eth0 up
  nsenter -t $outside -n ip address add 192.0.2.1/24 dev eth0
  nsenter -t $outside -n ip link set eth0 up
  pass 'a bare Debian 12 with its own systemd runs'
}

inside() {
  nsenter -t "$init" -m -u -i -n -p -C -r -w env -i HOME=/root DEBIAN_FRONTEND=noninteractive \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

from_outside() { nsenter -t "$outside" -n "$@"; }

# --- The blocks of a document that name the test, in order: $work/blocks/NUMBER HEADING.

blocks() { # DOCUMENT FOLDER
  mkdir "$2"
  awk -v folder="$2" -v mark="<!-- run by packaging/${0##*/} -->" '
    !inside && /^##+ / { heading = $0; sub(/^#+ /, "", heading) }
    !inside && $0 == mark { marked = 1; next }
    /^```/ {
      inside = !inside
      if (inside) file = marked ? sprintf("%s/%02d %s", folder, ++n, heading) : "/dev/null"
      else close(file)
      marked = 0
      next
    }
    inside { print > file }' "$1"
}

read_guide() { # NAME
  blocks "../docs/$1" "$work/blocks"
  blocks "../docs/zh-CN/$1" "$work/zh"
  cmp <(cat "$work"/blocks/*) <(cat "$work"/zh/*) || fail "docs/zh-CN/$1 has other commands"
  pass "$(find "$work/blocks" -type f | wc -l) blocks of docs/$1, the same in both languages"
  touch "$work/run"
  # What differs from a machine of the reader.
  mkdir "$root/release"
  cp "${dist:?}"/luat-ota-x86_64 "$dist"/SHA256SUMS "$dist"/luat-ota_*_amd64.deb "$root/release/"
  cat >"$root/stand-ins" <<'STANDINS'
# Packages come over the network of this computer.
apt-get() { nsenter --net=/host-network apt-get -q "$@"; }
# What a release publishes is here, for this processor alone.
curl() {
  local name="$*"
  name=${name##*/}
  case $* in
    *"/releases/latest/download/"*) cp "/release/${name/_arm64/_amd64}" "$name" ;;
    *) command curl "$@" ;;
  esac
}
STANDINS
}

milliseconds() { date +%s%3N; }

# Types a block. A person is slower than a new file, which is offered a moment after it was written, and than
# nginx, whose old processes answer for a moment after a reload: a block that asks a server is typed again
# until the answer is there.
type_block() { # FILE
  local end
  end=$(($(milliseconds) + 15000))
  cp "$1" "$root/block"
  until inside bash -c '. /stand-ins; set -eo pipefail; cd /root; . /block' >"$work/log" 2>&1 </dev/null &&
    # probe does not fail if there is no update.
    { ! grep -q '^luat-ota probe ' "$1" || grep -q ' updated, ' "$work/log"; }; do
    if ! grep -qE '^(curl|luat-ota probe) ' "$1" || [ "$(milliseconds)" -gt "$end" ]; then
      cat "$1"
      fail "this block of \"${1##*/}\""
    fi
    sleep 0.5
  done
  echo "$1" >>"$work/run"
}

# Types all blocks below a heading, and prints how long they took.
section() { # HEADING
  local began block
  began=$(milliseconds)
  for block in "$work/blocks/"*" $1"; do
    [ -e "$block" ] || fail "the guide has no commands below \"$1\""
    type_block "$block"
  done
  began=$(($(milliseconds) - began))
  printf 'PASS  %4d.%d s  %s\n' $((began / 1000)) $((began / 100 % 10)) "$1"
}

# The last block must have printed this.
said() { grep -qF -- "$1" "$work/log" || fail "it does not say: $1"; }

end_of_guide() {
  local block
  for block in "$work/blocks/"*; do grep -qxF "$block" "$work/run" || fail "not run: ${block##*/}"; done
  [ "$(inside systemctl is-system-running)" = running ] ||
    { inside systemctl --failed --no-pager; fail 'a service of the machine has failed'; }
  pass 'every block of the guide was run'
}
