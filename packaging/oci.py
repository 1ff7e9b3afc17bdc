#!/usr/bin/env python3
"""Makes a container image for several machines out of the static binaries, as an OCI archive.

    packaging/oci.py [--dist DIR]

Takes those of luat-ota-x86_64, -aarch64, -armv7, -armv6 that are in DIR (dist), writes luat-ota-oci.tar
beside them. `docker load`, `podman load` and `skopeo copy oci-archive:` read it. The image has the
program, its licences and two empty folders, and nothing else: no shell, no library, no root.

No image builder is needed for that, and so no root either; and the same input gives the same bytes.
"""
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import time

# Our name, then the platform's.
PLATFORMS = {
    "x86_64": {"architecture": "amd64", "os": "linux"},
    "aarch64": {"architecture": "arm64", "os": "linux", "variant": "v8"},
    "armv7": {"architecture": "arm", "os": "linux", "variant": "v7"},
    "armv6": {"architecture": "arm", "os": "linux", "variant": "v6"},
}
# Nobody's on any usual machine.
USER = 65532
SECOND = 1_000_000_000
ROOT = pathlib.Path(__file__).resolve().parent.parent


class Layout:
    """What goes into the archive: files, and blobs by their digest."""

    def __init__(self, date):
        self.date, self.files = date, {}

    def blob(self, data, kind):
        digest = hashlib.sha256(data).hexdigest()
        self.files[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    def json(self, value, kind):
        return self.blob(json.dumps(value, sort_keys=True).encode(), kind)

    def tar(self, entries):
        """entries: (name, mode, owner, bytes or None for a folder)."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for name, mode, owner, data in entries:
                info = tarfile.TarInfo(name)
                info.mode, info.uid, info.gid, info.mtime = mode, owner, owner, self.date
                info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
                info.size = len(data or b"")
                archive.addfile(info, None if data is None else io.BytesIO(data))
        return out.getvalue()


def image(layout, platform, binary, licences, version):
    """One machine's image; its descriptor."""
    layer = layout.tar(
        [
            ("luat-ota", 0o755, 0, binary),
            ("LICENSES.txt", 0o644, 0, licences),
            # Volumes that are made empty take over owner and mode of these.
            ("firmware", 0o755, USER, None),
            ("state", 0o700, USER, None),
        ]
    )
    packed = layout.blob(gzip.compress(layer, 9, mtime=0), "layer.v1.tar+gzip")
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(layout.date))
    labels = {
        "org.opencontainers.image.title": "luat-ota",
        "org.opencontainers.image.description": "Update server for Luat and LuatOS cellular modules",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.licenses": "MIT",
    }
    config = layout.json(
        {
            **platform,
            "created": date,
            "config": {
                "User": f"{USER}:{USER}",
                "Entrypoint": ["/luat-ota"],
                "Env": ["LUAT_OTA_DIR=/firmware", "LUAT_OTA_STATE=/state"],
                "ExposedPorts": {"8080/tcp": {}, "2234/udp": {}, "2234/tcp": {}},
                "Volumes": {"/firmware": {}, "/state": {}},
                "StopSignal": "SIGTERM",
                "Labels": labels,
                # Docker's addition to the format.
                "Healthcheck": {
                    "Test": ["CMD", "/luat-ota", "health"],
                    "Interval": 30 * SECOND,
                    "Timeout": 10 * SECOND,
                    "StartPeriod": 10 * SECOND,
                    "Retries": 3,
                },
            },
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
            "history": [{"created": date, "created_by": "packaging/oci.py"}],
        },
        "config.v1+json",
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [packed],
        "annotations": labels,
    }
    return layout.json(manifest, "manifest.v1+json") | {"platform": platform}


def commit_date():
    if date := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(date)
    done = subprocess.run(["git", "-C", ROOT, "log", "-1", "--format=%ct"], stdout=subprocess.PIPE)
    return int(done.stdout or 0)


def main():
    dist = pathlib.Path(sys.argv[2] if sys.argv[1:2] == ["--dist"] else ROOT / "dist")
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    layout = Layout(commit_date())
    licences = (dist / "LICENSES.txt").read_bytes()
    images = [
        image(layout, platform, (dist / f"luat-ota-{name}").read_bytes(), licences, version)
        for name, platform in PLATFORMS.items()
        if (dist / f"luat-ota-{name}").exists()
    ]
    if not images:
        sys.exit(f"oci.py: no binary in {dist}: packaging/build.sh x86_64 aarch64 armv7")
    kind = "index.v1+json"
    index = {"schemaVersion": 2, "mediaType": f"application/vnd.oci.image.{kind}", "manifests": images}
    # One name for all machines: the archive's index names the image's.
    name = {
        "org.opencontainers.image.ref.name": version,
        "io.containerd.image.name": f"docker.io/library/luat-ota:{version}",
    }
    top = layout.json(index, kind) | {"annotations": name}
    layout.files["index.json"] = json.dumps({**index, "manifests": [top]}, sort_keys=True).encode()
    layout.files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    path = dist / "luat-ota-oci.tar"
    path.write_bytes(layout.tar([(name, 0o644, 0, data) for name, data in sorted(layout.files.items())]))
    platforms = ", ".join("/".join(image["platform"].values()) for image in images)
    print(f"{path.stat().st_size:12}  {path} ({platforms})")


main()
