#!/usr/bin/env bash
# Tests the container image: packaging/test-oci.sh [--dist DIR]
#
# The image of this machine runs under runc, as a user that is not root, on a root that cannot be
# written, without a capability; needs root, runc, umoci and skopeo.
set -euo pipefail
cd "$(dirname "$0")"
. ./preamble.sh
name=luat-ota-test-$$
cleanup() {
  runc delete --force "$name" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

./oci.py --dist "$dist"
mkdir "$work/first"
mv "$dist/luat-ota-oci.tar" "$dist/luat-ota-docker-x86_64.tar" "$work/first/"
./oci.py --dist "$dist" >/dev/null
for archive in "$work"/first/*; do
  cmp "$archive" "$dist/${archive##*/}" || fail 'the same input gives other bytes'
done
pass 'the same input gives the same bytes'

for binary in "$dist"/luat-ota-{x86_64,aarch64,armv7,armv6}; do
  case ${binary##*-} in
    x86_64) platform='amd64' variant='' ;;
    aarch64) platform=arm64 variant=v8 ;;
    armv*) platform=arm variant=${binary##*arm} ;;
  esac
  [ -e "$binary" ] || continue
  # Takes it out of the index by its platform, as a registry's client does, and checks every digest.
  skopeo copy --quiet --override-os linux --override-arch "$platform" --override-variant "$variant" \
    "oci-archive:$dist/luat-ota-oci.tar" "oci:$work/$platform$variant:1" >/dev/null
  umoci unpack --image "$work/$platform$variant:1" "$work/bundle-$platform$variant" >/dev/null
  root=$work/bundle-$platform$variant/rootfs
  cmp "$binary" "$root/luat-ota" || fail "$platform$variant has another binary"
  # The archive for `docker load`, in both of its forms.
  single=$dist/luat-ota-docker-${binary##*/luat-ota-}.tar
  for form in oci-archive docker-archive; do
    skopeo inspect --override-arch "$platform" --override-variant "$variant" --config "$form:$single" >"$work/$form"
    skopeo inspect --config "oci:$work/$platform$variant:1" | cmp - "$work/$form" || fail "$form:$single is another image"
  done
  files=$(find "$root" -mindepth 1 -printf '%P\n' | sort | tr '\n' ' ')
  [ "$files" = 'LICENSES.txt firmware luat-ota state ' ] || fail "$platform$variant also has $files"
  pass "linux/$platform$variant is its program, the licences and two folders"
done

bundle=$work/bundle-amd64
skopeo inspect --raw --config "oci:$work/amd64:1" >"$work/config"
python3 - "$work/config" "$bundle/config.json" "$work" <<'PYTHON' || fail 'the configuration'
"""Makes a container of it as the compose file does: a read-only root, no capability, two volumes."""
import json, os, pathlib, sys
image = json.loads(pathlib.Path(sys.argv[1]).read_text())["config"]
assert image["User"] == "65532:65532" and image["StopSignal"] == "SIGTERM", image
path, work = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
config = json.loads(path.read_text())
process = config["process"]
assert process["args"] == ["/luat-ota"] and (process["user"]["uid"], process["user"]["gid"]) == (65532, 65532), process
process["terminal"] = False
process["noNewPrivileges"] = True
process["capabilities"] = {}
process.pop("rlimits", None)
config["root"]["readonly"] = True
mounts = [mount for mount in config["mounts"] if mount["destination"] in ("/proc", "/dev")]
for folder, options in (("firmware", ["rbind", "ro"]), ("state", ["rbind", "rw"])):
    place = work / folder
    place.mkdir()
    if folder == "state":
        os.chown(place, 65532, 65532)
    mounts.append({"destination": f"/{folder}", "type": "bind", "source": str(place), "options": options})
config["mounts"] = mounts
# A network of its own, with loopback alone; the container is asked from inside.
config["linux"]["namespaces"] = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]
config["linux"].pop("resources", None)
path.write_text(json.dumps(config))
PYTHON
mkdir -p "$work/firmware/P/1.0.1"
head -c 50000 /dev/urandom >"$work/firmware/P/1.0.1/update.bin"
chmod -R a+rX "$work" "$work/firmware"
runc run --bundle "$bundle" "$name" >"$work/log" 2>&1 &
runner=$!
for _ in $(seq 200); do
  grep -q ' ready ready' "$work/log" && break
  kill -0 $runner 2>/dev/null || fail 'it does not run'
  sleep 0.1
done
grep -q ' ready ready' "$work/log" || fail 'it is not ready'
pass 'starts as 65532 with a read-only root and no capability'
runc exec "$name" /luat-ota health || fail 'the health check'
! runc exec --env LUAT_OTA_HTTP=9999 "$name" /luat-ota health 2>/dev/null || fail 'healthy where nobody listens'
pass 'the health check tells a server that answers from none'

pid=$(runc state "$name" | python3 -c 'import json, sys; print(json.load(sys.stdin)["pid"])')
[ "$(awk '/^Uid:/ {print $3}' "/proc/$pid/status")" = 65532 ] || fail 'another user'
update='/luat/update?project_key=k&imei=862991443753386&device_key=&firmware_name=P_Luat_V0017_ASR1802&version=1.0.0'
for _ in $(seq 100); do
  nsenter -t "$pid" -n -- python3 -c 'import sys, urllib.request as u
open(sys.argv[2], "wb").write(u.urlopen("http://127.0.0.1:8080" + sys.argv[1]).read())' "$update" "$work/got" 2>/dev/null && break
  sleep 0.1
done
cmp "$work/got" "$work/firmware/P/1.0.1/update.bin" || fail 'an update'
[ -e "$work/state/secret" ] || fail 'nothing is kept in /state'
pass 'a module is updated, and the state is kept'
runc kill "$name" TERM
wait $runner || fail 'SIGTERM: exit status not 0'
pass 'SIGTERM ends it with status 0'
# The compose file: the same image, the same user, and what this test ran with.
python3 -c 'import yaml' 2>/dev/null || { echo 'SKIPPED the compose file: no python3-yaml'; exit 0; }
python3 - oci/compose.yaml "$work/config" ../Cargo.toml <<'PYTHON' || fail 'the compose file'
import json, pathlib, re, sys, yaml
service = yaml.safe_load(pathlib.Path(sys.argv[1]).read_text())["services"]["luat-ota"]
image = json.loads(pathlib.Path(sys.argv[2]).read_text())["config"]
version = re.search(r'^version = "(.*)"', pathlib.Path(sys.argv[3]).read_text(), re.M)[1]
assert service["image"] == f"luat-ota:{version}", service["image"]
assert service["user"] == "${LUAT_OTA_USER:-%s}" % image["User"] and service["read_only"] and service["cap_drop"] == ["ALL"]
assert service["healthcheck"]["test"] == image["Healthcheck"]["Test"]
local = [port for port in service["ports"] if port.startswith("127.0.0.1:")]
ports = {port.split(":")[1] if "/" in port else port.split(":")[1] + "/tcp" for port in service["ports"] if port not in local}
assert ports == set(image["ExposedPorts"]) and local == ["127.0.0.1:8081:8081"], (ports, local)
PYTHON
pass 'the compose file fits the image'
