"""How each server is started, and the folders that they serve."""

import json
import os
import random
from pathlib import Path

from processes import EVERYWHERE, MeasureError, Server, fetch, free_port, wait_until

HERE = Path(__file__).resolve().parent.parent
IMEI = "862991443753386"
KIB, MIB = 1 << 10, 1 << 20


def noise(seed, size):
    return random.Random(seed).randbytes(size)


def target(project, version, imei=IMEI):
    """The check of a module of the LuaTask generation."""
    return (
        f"/luat/update?project_key=k&imei={imei}&device_key="
        f"&firmware_name={project}_Luat_V0017_ASR1802&version={version}"
    )


def message(project, version, imei=IMEI):
    """The same of the first edition, over UDP."""
    return f"{imei},{project},{version}"


class Place:
    """A firmware folder, a web root with the same files and a state folder."""

    def __init__(self, root):
        self.root = Path(root)
        self.firmware = self.root / "firmware"
        self.web = self.root / "web"
        for folder in (self.firmware, self.web):
            folder.mkdir(parents=True, exist_ok=True)

    def release(self, project, version, data, rules=None):
        folder = self.firmware / project / version
        folder.mkdir(parents=True)
        if rules is not None:
            (folder / "release.json").write_text(json.dumps(rules))
        (folder / "update.bin").write_bytes(data)
        (self.web / f"{project}.bin").write_bytes(data)
        return folder / "update.bin"


class Peers:
    """Starts servers. `built`: where the programs of peers/ and load/ are, `ours`: our binary."""

    def __init__(self, ours, built, root):
        self.ours, self.built, self.root = Path(ours), Path(built), Path(root)
        self.count = 0

    def _folder(self, name):
        self.count += 1
        folder = self.root / f"{name}-{self.count}"
        folder.mkdir()
        return folder

    def luat_ota(self, place, *flags, state=None, ready=True):
        """Us, with the limits on one address and one network lifted: all loads come from 127.0.0.1."""
        http, udp = free_port(), free_port()
        command = [self.ours, place.firmware, "--state", state or self._folder("state")]
        # Several run at once, and the operator's port is no part of what is measured.
        command += ["--http", f"127.0.0.1:{http}", "--udp", f"127.0.0.1:{udp}", "--operator", "off"]
        command += ["--udp-gets", "0", "--udp-checks", "0", "--max-connections-per-address", "100000"]
        server = Server("luat-ota", command + list(flags), http)
        server.udp = udp
        if ready:
            self._wait(server)
        return server

    def wait_until_offered(self, server, project, size):
        """Waits until a file of this size is offered."""
        asked = target(project, "1.0.0")
        length = f"Content-Length: {size}\r\n".encode()
        wait_until(
            f"{project} is offered",
            60,
            lambda: length in (fetch(server.port, asked) or b"")[:1024],
            server.process,
        )

    def nginx(self, place, listen="", location="", connections=None):
        """nginx with one worker and its defaults, but for sendfile and the access log."""
        folder, port = self._folder("nginx"), free_port()
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""
        more = f"worker_connections {connections};" if connections else ""
        files = f"worker_rlimit_nofile {connections + 100};" if connections else ""
        (folder / "nginx.conf").write_text(
            f"""{user}
daemon off;
worker_processes 1;
{files}
pid {folder}/pid;
error_log {folder}/error.log;
events {{ {more} }}
http {{
    access_log /dev/null;
    sendfile on;
    default_type application/octet-stream;
    {temporary}
    server {{
        listen 127.0.0.1:{port} {listen};
        root {place.web};
        {location}
    }}
}}
"""
        )
        nginx = "/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else "nginx"
        command = [nginx, "-e", folder / "error.log", "-p", folder, "-c", folder / "nginx.conf"]
        server = Server("nginx", command, port)
        self._wait(server)
        return server

    def nginx_404(self, place, size, listen=""):
        """nginx that answers every check with a 404 of `size` bytes, as large as ours."""
        body = "x"
        for _ in range(2):
            location = f"location /luat {{ default_type text/plain; return 404 '{body}'; }}"
            server = self.nginx(place, listen, location)
            got = fetch(server.port, target("HTTP", "9.9.9"))
            if len(got) == size:
                return server
            server.stop()
            body = "x" * max(1, size - len(got) + len(body))
        raise MeasureError(f"nginx's 404 cannot be made {size} bytes long: it has {len(got)}")

    def constant(self):
        port = free_port()
        return Server("constant", [self.built / "constant", port], port)

    def seed(self, project, file):
        port = free_port()
        python = self.built / "venv/bin/python"
        if not python.exists():
            raise MeasureError("the seed's server has no gevent and SQLAlchemy (pip could not install them)")
        return Server("seed", [python, HERE / "peers/seed.py", port, project, file], port)

    def tftpd(self, place):
        port = free_port()
        tftpd = "/usr/sbin/in.tftpd" if Path("/usr/sbin/in.tftpd").exists() else "in.tftpd"
        command = [tftpd, "-L", "-4", "-a", f"127.0.0.1:{port}"]
        # As root it goes into the folder and becomes another user.
        command += ["-s", place.web, "-u", "nobody"] if os.geteuid() == 0 else [place.web]
        return Server("tftpd-hpa", command, port, where=EVERYWHERE)

    def _wait(self, server):
        wait_until(f"{server.name} answers", 60, lambda: fetch(server.port, "/healthz"), server.process)
