#!/usr/bin/env python3
"""The part of `docker` that the README uses, without a daemon, for tests/it/readme.rs.

    docker load -i FILE                       takes the image of an archive for this machine
    docker compose up -d                      starts the program as compose.yaml and the image say
    docker compose exec SERVICE COMMAND...    runs a command with the same folders

A container shares this machine here: its folders are those that it mounts, and `up` stays in the foreground, so that the
test can stop it. packaging/test-guide-docker.sh runs the real image with the real Docker.
"""
import json
import os
import pathlib
import platform
import sys
import tarfile

import yaml

STORE = pathlib.Path(".docker")


def load(path):
    """The image of the archive: its program into the store, with the environment that it sets."""
    with tarfile.open(path) as archive:

        def blob(descriptor):
            return archive.extractfile("blobs/" + descriptor["digest"].replace(":", "/"))

        index = json.load(archive.extractfile("index.json"))
        top = index["manifests"][0]
        name = top["annotations"]["io.containerd.image.name"].removeprefix("docker.io/library/")
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "arm")
        manifest = json.load(blob(top))
        if top["platform"]["architecture"] != machine or "manifest.json" not in archive.getnames():
            sys.exit(f"docker: {path} is not an image for {machine} that every Docker reads")
        config = json.load(blob(manifest["config"]))["config"]
        with tarfile.open(fileobj=blob(manifest["layers"][0])) as layer:
            program = layer.extractfile(config["Entrypoint"][0].lstrip("/")).read()
    STORE.mkdir(exist_ok=True)
    (STORE / "program").write_bytes(program)
    (STORE / "program").chmod(0o755)
    (STORE / "image.json").write_text(json.dumps({"name": name, **config}))
    print(f"Loaded image: {name}")


def start(service, command):
    """Runs a command of the image with the folders of the service."""
    image = json.loads((STORE / "image.json").read_text())
    if service["image"] != image["name"]:
        sys.exit(f"docker: there is no image {service['image']}: only {image['name']} is loaded")
    user = service["user"].removeprefix("${").removesuffix("}").split(":-")
    settings = dict(line.split("=", 1) for line in pathlib.Path(".env").read_text().split())
    if settings.get(user[0]) != f"{os.getuid()}:{os.getgid()}":
        sys.exit(f"docker: the user {settings.get(user[0])} cannot write to the folders")
    published = {str(port).split("/")[0] for port in service["ports"]}
    if missing := {"8080:8080", "2234:2234"} - published:
        sys.exit(f"docker: nobody can reach {missing}")
    environment = dict(setting.split("=", 1) for setting in image["Env"]) | service["environment"]
    for volume in service["volumes"]:
        source, target = volume.split(":")[:2]
        if not pathlib.Path(source).is_dir():
            sys.exit(f"docker: {source} does not exist; the real one would create it for root")
        for name, value in environment.items():
            if value == target or value.startswith(target + "/"):
                environment[name] = source + value.removeprefix(target)
    # The test has chosen free ports: those of the file are for a network of the container's own.
    os.execve(STORE / "program", ["luat-ota", *command], {**environment, **os.environ})


def main():
    match sys.argv[1:]:
        case ["load", "-i", path]:
            load(path)
        case ["compose", "up", "-d"]:
            services = yaml.safe_load(pathlib.Path("compose.yaml").read_text())["services"]
            start(services["luat-ota"], [])
        case ["compose", "exec", name, "/luat-ota", *command]:
            start(yaml.safe_load(pathlib.Path("compose.yaml").read_text())["services"][name], command)
        case _:
            sys.exit(f"docker: the test knows no such command: {sys.argv[1:]}")


main()
