"""An S3 server for tests: OpenStack Swift with its S3 API. All four of its servers run in this process, which may be killed.

s3.py FOLDER keeps everything in the folder, whose file system must have extended attributes, and prints the address. The key
is ota:mirror, the secret is secret. Debian: swift-proxy swift-account swift-container swift-object.
"""

import eventlet

eventlet.monkey_patch()

import os
import sys

import eventlet.wsgi
from swift.common.ring import RingBuilder
from swift.common.utils import set_swift_dir
from swift.common.wsgi import loadapp

ROOT = sys.argv[1]

SWIFT = """\
[swift-hash]
swift_hash_path_suffix = test
[storage-policy:0]
name = one
default = yes
"""

COMMON = f"""\
[DEFAULT]
swift_dir = {ROOT}
devices = {ROOT}/disks
mount_check = false
log_level = CRITICAL
"""

STORAGE = """\
[pipeline:main]
pipeline = {0}-server
[app:{0}-server]
use = egg:swift#{0}
"""

PROXY = """\
[pipeline:main]
pipeline = catch_errors cache listing_formats s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_ota_mirror = secret .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


def write(name, text):
    path = os.path.join(ROOT, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def serve(name, text):
    """Starts one of the servers; its port, a free one."""
    app = loadapp(write(f"{name}.conf", COMMON + text), global_conf={"log_name": name})
    socket = eventlet.listen(("127.0.0.1", 0))
    eventlet.spawn(eventlet.wsgi.server, socket, app, log=open(os.devnull, "w"))
    return socket.getsockname()[1]


def ring(name, port):
    """Says where the parts of the store are: one copy of one part, on one disk."""
    builder = RingBuilder(1, 1, 1)
    place = {"ip": "127.0.0.1", "port": port, "replication_ip": "127.0.0.1", "replication_port": port}
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1.0, "device": "one", "meta": "", **place})
    builder.rebalance()
    builder.get_ring().save(os.path.join(ROOT, f"{name}.ring.gz"))


os.makedirs(os.path.join(ROOT, "disks/one"), exist_ok=True)
write("swift.conf", SWIFT)
set_swift_dir(ROOT)
for server in ["account", "container", "object"]:
    ring(server, serve(server, STORAGE.format(server)))
print(f"http://127.0.0.1:{serve('proxy', PROXY)}", flush=True)
# Whoever started it ends it; it does not stay for ever.
eventlet.sleep(1800)
