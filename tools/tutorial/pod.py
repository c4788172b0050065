"""A pod: a network namespace with an address, volumes, and containers."""

import base64
import os
import re
import subprocess
import threading

from container import Container

PACE = 0.2


class Pod:
    def __init__(self, kubelet, spec, ip):
        self.kubelet, self.api, self.spec, self.ip = kubelet, kubelet.api, spec, ip
        meta = spec["metadata"]
        self.namespace, self.name, self.uid = meta["namespace"], meta["name"], meta["uid"]
        self.grace = spec["spec"].get("terminationGracePeriodSeconds", 30)
        self.volumes, self.containers, self.status = {}, [], None
        self.stopping, self.gone = threading.Event(), threading.Event()
        self.sandbox = None

    def start(self):
        threading.Thread(target=self.live, daemon=True).start()

    def live(self):
        while not self.ready_to_start():
            if self.stopping.wait(PACE):
                break
        while not self.stopping.wait(PACE):
            try:
                for container in self.containers:
                    container.look()
                self.tell()
            except OSError as error:
                self.kubelet.say(f"{self.name}: {error!r}")
        self.end()

    def ready_to_start(self):
        """Its network and volumes; false while something they come from is not there yet."""
        try:
            if not self.sandbox:
                self.make_network()
            for volume in self.spec["spec"].get("volumes", []):
                if volume["name"] not in self.volumes:
                    self.volumes[volume["name"]] = self.make_volume(volume)
        except (OSError, LookupError) as error:
            self.kubelet.say(f"{self.name} waits: {error}")
            return False
        spec = self.spec["spec"]
        # Init containers that end, such as those that fetch a model, have nothing to do here.
        sidecars = [c for c in spec.get("initContainers", []) if c.get("restartPolicy") == "Always"]
        self.containers = [Container(self, c) for c in [*sidecars, *spec["containers"]]]
        return True

    def make_network(self):
        """A namespace that a sleeping process holds, with a cable to the bridge of the node."""
        self.sandbox = subprocess.Popen(["unshare", "--net", "sleep", "infinity"],
                                        stdin=subprocess.DEVNULL)
        pid, host = self.sandbox.pid, self.ip.rsplit(".", 1)[1]
        while os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            pass
        script = f"""
            ip link add pod{host} type veth peer name eth0 netns {pid}
            ip link set pod{host} master cni0 up
            nsenter --net=/proc/{pid}/ns/net sh -ec '
                ip link set lo up
                ip addr add {self.ip}/16 dev eth0
                ip link set eth0 up
                ip route add default via {self.kubelet.address}
                sysctl -qw net.ipv4.ip_unprivileged_port_start=0
                sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0'
        """
        result = subprocess.run(["sh", "-ec", script], capture_output=True, text=True)
        if result.returncode:
            raise OSError(result.stderr)

    def make_volume(self, volume):
        folder = self.kubelet.here / "volumes" / self.uid / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        for source in volume.get("projected", {}).get("sources", [volume]):
            for name, content in self.files(source):
                file = folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
        return folder

    def files(self, source):
        """Names and contents of what a source of a volume brings."""
        if "serviceAccountToken" in source:
            token = source["serviceAccountToken"]
            spec = {"expirationSeconds": token.get("expirationSeconds", 3600),
                    "audiences": [token["audience"]] if "audience" in token else None}
            account = self.spec["spec"].get("serviceAccountName", "default")
            path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
            answer = self.api.call("POST", path, {
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})
            return [(token["path"], answer["status"]["token"].encode())]
        if "downwardAPI" in source:
            return [(item["path"], self.field(item["fieldRef"]["fieldPath"]).encode())
                    for item in source["downwardAPI"]["items"]]
        for key, kind in (("secret", "secrets"), ("configMap", "configmaps")):
            if key in source:
                wanted = source[key]
                name = wanted.get("secretName") or wanted["name"]
                found = self.data(kind, name)
                if found is None and not wanted.get("optional"):
                    raise LookupError(f"no {key} {name}")
                items = wanted.get("items") or [{"key": k, "path": k} for k in found or {}]
                return [(i["path"], found[i["key"]]) for i in items]
        return []

    def data(self, kind, name):
        found = self.api.get(f"/api/v1/namespaces/{self.namespace}/{kind}/{name}")
        if found is None:
            return None
        plain = (lambda v: base64.b64decode(v)) if kind == "secrets" else str.encode
        data = {key: plain(value) for key, value in (found.get("data") or {}).items()}
        binary = found.get("binaryData") or {}
        return data | {key: base64.b64decode(value) for key, value in binary.items()}

    def field(self, path):
        """What the downward API says."""
        meta, spec = self.spec["metadata"], self.spec["spec"]
        known = {"metadata.name": self.name, "metadata.namespace": self.namespace,
                 "metadata.uid": self.uid, "status.podIP": self.ip,
                 "status.hostIP": self.kubelet.address, "spec.nodeName": "node",
                 "spec.serviceAccountName": spec.get("serviceAccountName", "default")}
        label = re.fullmatch(r"metadata\.(labels|annotations)\['(.*)'\]", path)
        return meta.get(label[1], {}).get(label[2], "") if label else known[path]

    def main(self):
        return next(c for c in self.containers if c.spec["name"] == "main")

    def is_ready(self):
        return bool(self.containers) and all(c.ready for c in self.containers)

    def tell(self, ready=None):
        """Writes the pod's status where it is new."""
        ready = self.is_ready() if ready is None else ready
        word = str(ready)
        status = {
            "phase": "Running", "podIP": self.ip, "podIPs": [{"ip": self.ip}],
            "hostIP": self.kubelet.address,
            "conditions": [
                {"type": "PodScheduled", "status": "True"}, {"type": "Initialized", "status": "True"},
                {"type": "ContainersReady", "status": word}, {"type": "Ready", "status": word}],
            "containerStatuses": [c.status() for c in self.containers],
        }
        if status == self.status:
            return
        path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}/status"
        if self.api.write("PATCH", path, {"status": status}, "application/merge-patch+json"):
            self.status = status

    def terminate(self):
        self.stopping.set()

    def end(self):
        """Hooks and SIGTERM, then SIGKILL when the grace period is over."""
        ends = [threading.Thread(target=c.stop, args=[self.grace]) for c in self.containers]
        for thread in ends:
            thread.start()
        for thread in ends:
            thread.join()
        if self.sandbox:
            self.sandbox.kill()
            self.sandbox.wait()
        try:
            self.tell(ready=False)
            self.kubelet.forget(self.spec)
        except OSError as error:
            self.kubelet.say(f"{self.name}: {error!r}")
        self.gone.set()

    def kill(self):
        """Ends it at once, when the whole node ends."""
        self.grace = 0
        self.stopping.set()
        for container in self.containers:
            container.kill()

    def ended(self):
        return self.gone.is_set() or self.sandbox is None
