#!/usr/bin/env python3
"""Makes container images out of the static binaries.

    packaging/oci.py [--dist DIR]

Takes those of luat-ota-x86_64, -aarch64, -armv7, -armv6 that are in DIR (dist), and writes beside them:

    luat-ota-docker-TARGET.tar   the image for one machine, for `docker load` and `podman load`
    luat-ota-oci.tar             the images for all machines, to copy into a registry
                                 (`skopeo copy --all oci-archive:luat-ota-oci.tar docker://…`)

The first form is what `docker save` writes: an OCI layout plus manifest.json. Docker reads the pure OCI layout of
the second only with the image store of containerd, which was no default before Docker 29.

An image has the program, its licences and two empty folders, and nothing else: no shell, no library. It runs as a
user that is not root. No image builder is needed to make it, and no root; the same input gives the same bytes.
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


def image(layout, platform, binary, licences, version, repository):
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
        "org.opencontainers.image.source": repository,
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


def write(path, layout, descriptors, platforms):
    """Writes a layout whose index names these."""
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": descriptors}
    layout.files["index.json"] = json.dumps(index, sort_keys=True).encode()
    layout.files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    path.write_bytes(layout.tar([(name, 0o644, 0, data) for name, data in sorted(layout.files.items())]))
    print(f"{path.stat().st_size:12}  {path} ({', '.join(platforms)})")


def docker_manifest(layout, descriptor, tag):
    """The manifest.json of `docker save`: where the image's parts are in the archive."""
    blob = lambda digest: "blobs/sha256/" + digest.removeprefix("sha256:")
    manifest = json.loads(layout.files[blob(descriptor["digest"])])
    layers = [blob(layer["digest"]) for layer in manifest["layers"]]
    return json.dumps([{"Config": blob(manifest["config"]["digest"]), "RepoTags": [tag], "Layers": layers}]).encode()


def main():
    dist = pathlib.Path(sys.argv[2] if sys.argv[1:2] == ["--dist"] else ROOT / "dist")
    manifest = (ROOT / "Cargo.toml").read_text()
    version, repository = (re.search(rf'^{key} = "(.*)"', manifest, re.M)[1] for key in ("version", "repository"))
    date = commit_date()
    licences = (dist / "LICENSES.txt").read_bytes()
    names = {
        "org.opencontainers.image.ref.name": version,
        "io.containerd.image.name": f"docker.io/library/luat-ota:{version}",
    }
    everything, images = Layout(date), []
    for target, platform in PLATFORMS.items():
        if not (dist / f"luat-ota-{target}").exists():
            continue
        binary = (dist / f"luat-ota-{target}").read_bytes()
        images.append(image(everything, platform, binary, licences, version, repository))
        single = Layout(date)
        descriptor = image(single, platform, binary, licences, version, repository)
        single.files["manifest.json"] = docker_manifest(single, descriptor, f"luat-ota:{version}")
        path = dist / f"luat-ota-docker-{target}.tar"
        write(path, single, [descriptor | {"annotations": names}], ["/".join(platform.values())])
    if not images:
        sys.exit(f"oci.py: no binary in {dist}: packaging/build.sh x86_64 aarch64 armv7")
    # One name for all machines: the archive's index names the image's.
    kind = "index.v1+json"
    index = {"schemaVersion": 2, "mediaType": f"application/vnd.oci.image.{kind}", "manifests": images}
    top = everything.json(index, kind) | {"annotations": names}
    write(dist / "luat-ota-oci.tar", everything, [top], ["/".join(image["platform"].values()) for image in images])


main()
