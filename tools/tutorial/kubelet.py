"""A kubelet without containers: every pod a network namespace, every container a root of its own.

It takes what the API server says of a pod as it is: command, arguments, environment, volumes, user,
probes, hooks, the service account's token. Of probes only the delays and periods are left out
where a person would wait for them: readiness is asked for several times a second.
"""

import http.server
import ssl
import threading
import urllib.parse

from pod import Pod
from step import eventually

# Seconds between two looks at the API server.
PACE = 0.2


class Kubelet:
    def __init__(self, api, here, images, address):
        self.api, self.here, self.images, self.address = api, here, images, address
        self.pods = {}
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.next_host = 10

    def start(self):
        self.serve_logs()
        self.api.call("POST", "/api/v1/nodes", {"metadata": {"name": "node"}})
        self.api.call("PATCH", "/api/v1/nodes/node/status", {"status": {
            "addresses": [{"type": "InternalIP", "address": self.address}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "conditions": [{"type": "Ready", "status": "True"}],
        }}, "application/strategic-merge-patch+json")
        threading.Thread(target=self.loop, daemon=True).start()

    def serve_logs(self):
        """What the API server asks a node for when someone says `kubectl logs`."""
        logs = self.here / "logs"

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                parts = urllib.parse.urlparse(self.path)
                names = parts.path.strip("/").split("/")
                file = logs / ("_".join(names[1:]) + ".log")
                found = names[0] == "containerLogs" and len(names) == 4 and file.is_file()
                text = file.read_bytes() if found else b"no such container\n"
                tail = urllib.parse.parse_qs(parts.query).get("tailLines")
                if tail:
                    text = b"".join(text.splitlines(True)[-int(tail[0]):])
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((self.address, 10250), Handler)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.here / "kubelet.crt", self.here / "kubelet.key")
        self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def loop(self):
        while not self.ended.wait(PACE):
            try:
                self.look()
            except OSError as error:
                self.say(f"kubelet: {error!r}")

    def look(self):
        """Starts pods that are new, and has those stopped that are to go."""
        there = self.api.items("/api/v1/pods?fieldSelector=spec.nodeName%3Dnode")
        for spec in there:
            uid = spec["metadata"]["uid"]
            pod = self.pods.get(uid)
            if spec["metadata"].get("deletionTimestamp"):
                if pod:
                    pod.terminate()
                else:
                    self.forget(spec)
            elif not pod:
                self.next_host += 1
                pod = Pod(self, spec, f"10.244.0.{self.next_host}")
                with self.lock:
                    self.pods[uid] = pod
                pod.start()
        uids = {spec["metadata"]["uid"] for spec in there}
        for uid, pod in list(self.pods.items()):
            if uid not in uids:
                pod.terminate()
            if pod.gone.is_set():
                with self.lock:
                    del self.pods[uid]

    def forget(self, spec):
        """Takes a pod out of the API server for good."""
        meta = spec["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        self.api.write("DELETE", path, {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}})

    def by_name(self, namespace, name):
        with self.lock:
            pods = list(self.pods.values())
        return next((p for p in pods if (p.namespace, p.name) == (namespace, name)), None)

    def say(self, text):
        with open(self.here / "logs/node.log", "a") as log:
            log.write(text + "\n")

    def stop(self):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
        with self.lock:
            pods = list(self.pods.values())
        for pod in pods:
            pod.kill()
        eventually("pods have ended", lambda: all(p.ended() for p in pods), 20)
