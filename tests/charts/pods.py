"""Rendered pods as processes of this machine, which takes root: their commands and environment as they are, their user,
Services by name in a network of their own, and a root that nothing can be written to but the pod's volumes.
"""

import base64
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from rendered import Object, Objects

import unsee

SEEN = (sys.prefix, str(Path(unsee.__file__).parents[2]))
"""What the images would hold. It is mounted last, since a volume may hide it."""
INSTALLED = {"PATH": f"{sys.prefix}/bin:{os.defpath}:/usr/sbin:/sbin", "PYTHONPATH": os.pathsep.join(sys.path)}
READ = "dac_read_search"
"""The one capability: images can be read by everyone, directories of this machine perhaps not."""


class Network:
    """One machine on which all Services are."""

    def __init__(self, objects: Objects, namespace: str, directory: Path, *hosts: str):
        services = [f"{name}.{namespace}.svc" for kind, _, name in objects if kind == "Service"]
        self.objects, self.namespace, self.directory = objects, namespace, directory
        self.hosts = " ".join(["127.0.0.1", "localhost", *services, *hosts])
        self.machine = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec sleep 3600"],
            stdout=subprocess.PIPE,
        )
        assert self.machine.stdout.readline() == b"ready\n"  # until then, it is in the network of this machine
        self.started: list[subprocess.Popen[bytes]] = []
        (directory / "root").mkdir()

    def run(self, pod: Object, container: Object) -> subprocess.Popen[bytes]:
        """Start a container. What it says goes to the file of its name."""
        user = pod["securityContext"]["runAsUser"]
        volumes = {mount["mountPath"]: self._volume(pod, mount["name"], user) for mount in container["volumeMounts"]}
        command = shlex.join([*container["command"], *container.get("args", [])])
        with self.log(container).open("ab") as log:
            process = subprocess.Popen(
                [*self.inside, "unshare", "--mount", "sh", "-euc", self._script(volumes, user, command)],
                env={**INSTALLED, **self._environment(container)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    @property
    def inside(self) -> list[str]:
        """What precedes a command that is to run on this network."""
        return ["nsenter", f"--target={self.machine.pid}", "--net"]

    def log(self, container: Object) -> Path:
        """What a container of this name has said."""
        return self.directory / f"{container['name']}.log"

    def kill(self) -> None:
        """Kill all containers; the machine goes on."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def stop(self) -> None:
        """End all that was started."""
        self.kill()
        self.machine.kill()
        self.machine.wait()

    def _script(self, volumes: dict[str, Path], user: int, command: str) -> str:
        base = self.directory / "root"
        root = f"{base}/root"
        binds = [*volumes.items(), *((path, path) for path in SEEN)]
        return "\n".join(
            [
                f"mount -t tmpfs none {base}",
                f"mkdir {base}/upper {base}/work {root}",
                f"mount -t overlay -o lowerdir=/,upperdir={base}/upper,workdir={base}/work none {root}",
                f"echo {self.hosts} > {root}/etc/hosts",
                *(f"mount --rbind /{each} {root}/{each}" for each in ("proc", "dev")),
                *(f"mkdir -p {root}{at}; mount --bind {path} {root}{at}" for at, path in binds),
                f"mount -o remount,ro {root}",
                f"exec chroot {root} setpriv --reuid={user} --regid={user} --clear-groups --no-new-privs "
                f"--inh-caps=-all,+{READ} --ambient-caps=-all,+{READ} --bounding-set=-all,+{READ} {command}",
            ]
        )

    def _volume(self, pod: Object, name: str, user: int) -> Path:
        """The directory of a volume, as it was left by whom had it before."""
        path = self.directory / f"{pod['serviceAccountName']}-{name}"
        path.mkdir(exist_ok=True)
        volume = next((volume for volume in pod["volumes"] if volume["name"] == name), {})
        if "configMap" in volume:
            for file, text in self._object("ConfigMap", volume["configMap"]["name"])["data"].items():
                (path / file).write_text(text)
        else:
            os.chown(path, user, user)
        return path

    def _environment(self, container: Object) -> dict[str, str]:
        return {variable["name"]: self._value(variable, container) for variable in container["env"]}

    def _value(self, variable: Object, container: Object) -> str:
        if "value" in variable:
            return variable["value"]
        [(kind, source)] = variable["valueFrom"].items()
        if kind == "secretKeyRef":
            return base64.b64decode(self._object("Secret", source["name"])["data"][source["key"]]).decode()
        assert source == {"resource": "requests.memory"}
        return str(int(container["resources"]["requests"]["memory"].removesuffix("Mi")) * 2**20)

    def _object(self, kind: str, name: str) -> Object:
        return self.objects[kind, self.namespace, name]
