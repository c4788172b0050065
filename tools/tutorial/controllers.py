"""What Kubernetes' controllers and an Envoy Gateway would write, as far as the tutorial needs it.

Namespaces get a service account and the authority's certificate, Deployments their pods, Services a
route to a pod. Gateways, routes and pools are said to be accepted.
"""

import hashlib
import json
import subprocess
import sys
import threading
import urllib.error

from images import HERE

PACE = 0.3
GATEWAY = "/apis/gateway.networking.k8s.io/v1"
POOLS = ("/apis/inference.networking.k8s.io/v1", "/apis/inference.networking.x-k8s.io/v1alpha2")


class Controllers:
    def __init__(self, api, kubelet, authority):
        self.api, self.kubelet, self.authority = api, kubelet, authority
        self.routes, self.relays, self.known_namespaces = {}, [], set()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.loop, daemon=True)

    def start(self):
        self.thread.start()

    def stop(self):
        self.ended.set()
        self.thread.join()
        for relay in self.relays:
            relay.kill()
            relay.wait()

    def loop(self):
        while not self.ended.wait(PACE):
            for part in (self.namespaces, self.deployments, self.services, self.accept):
                try:
                    part()
                except (OSError, urllib.error.HTTPError) as error:
                    self.kubelet.say(f"controllers: {error!r}")

    def namespaces(self):
        for namespace in self.api.items("/api/v1/namespaces"):
            name = namespace["metadata"]["name"]
            if name in self.known_namespaces:
                continue
            here = f"/api/v1/namespaces/{name}"
            self.api.write("POST", f"{here}/serviceaccounts", {"metadata": {"name": "default"}})
            self.api.write("POST", f"{here}/configmaps", {
                "metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": self.authority}})
            self.known_namespaces.add(name)

    def deployments(self):
        pods = self.api.items("/api/v1/pods")
        for deployment in self.api.items("/apis/apps/v1/deployments"):
            uid = deployment["metadata"]["uid"]
            owned = [p for p in pods if any(
                o["uid"] == uid for o in p["metadata"].get("ownerReferences", []))]
            self.deploy(deployment, owned)

    def deploy(self, deployment, owned):
        """As many pods of the template as are wanted. Those of an older one go as new ones become
        ready, one for one; surplus ones go at once, the newest first."""
        meta, spec = deployment["metadata"], deployment["spec"]
        template = json.dumps(spec["template"], sort_keys=True).encode()
        digest = hashlib.sha256(template).hexdigest()[:9]
        staying = [p for p in owned if not p["metadata"].get("deletionTimestamp")]
        new = [p for p in staying if p["metadata"]["labels"]["pod-template-hash"] == digest]
        old = [p for p in staying if p not in new]
        wanted = spec.get("replicas", 1)
        ready = [p for p in new if is_ready(p)]
        pods = f"/api/v1/namespaces/{meta['namespace']}/pods"
        for _ in range(wanted - len(new)):
            self.api.write("POST", pods, self.pod(deployment, digest))
        surplus = sorted(new, key=lambda p: p["metadata"]["creationTimestamp"])[wanted:]
        for pod in surplus + old[:max(0, len(ready) + len(old) - wanted)]:
            self.api.write("DELETE", f"{pods}/{pod['metadata']['name']}")
        available = len(ready) + sum(map(is_ready, old))
        good = available >= wanted
        status = {
            "observedGeneration": meta["generation"], "replicas": len(staying),
            "updatedReplicas": len(new), "readyReplicas": available,
            "availableReplicas": available, "unavailableReplicas": max(0, wanted - available),
            "conditions": [
                condition("Available", good, "MinimumReplicas" + ("Available" if good else "Unavailable")),
                condition("Progressing", True, "NewReplicaSetAvailable")],
        }
        if any(deployment.get("status", {}).get(key, 0) != value
               for key, value in status.items() if key != "conditions"):
            self.api.write("PUT", f"/apis/apps/v1/namespaces/{meta['namespace']}/deployments/"
                                  f"{meta['name']}/status", deployment | {"status": status})

    def pod(self, deployment, digest):
        meta, template = deployment["metadata"], deployment["spec"]["template"]
        labels = template["metadata"].get("labels", {}) | {"pod-template-hash": digest}
        return {
            "metadata": {
                "generateName": f"{meta['name']}-{digest}-", "labels": labels,
                "annotations": template["metadata"].get("annotations", {}),
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"],
                    "uid": meta["uid"], "controller": True}],
            },
            "spec": template["spec"] | {"nodeName": "node"},
        }

    def services(self):
        """In the place of kube-proxy the first ready pod of a Service has its address."""
        pods = self.api.items("/api/v1/pods")
        for service in self.api.items("/api/v1/services"):
            spec, meta = service["spec"], service["metadata"]
            selector, ip = spec.get("selector"), spec.get("clusterIP")
            if not selector or not ip or ip == "None":
                continue
            mine = [p for p in pods if p["metadata"]["namespace"] == meta["namespace"]
                    and selector.items() <= p["metadata"].get("labels", {}).items()
                    and is_ready(p) and not p["metadata"].get("deletionTimestamp")]
            has_it = self.routes.get(ip)
            if mine and not any(p["metadata"]["uid"] == has_it for p in mine):
                self.route(ip, mine[0], spec["ports"])

    def route(self, ip, spec, ports):
        pod = self.kubelet.by_name(spec["metadata"]["namespace"], spec["metadata"]["name"])
        if pod is None:
            return
        net = ["nsenter", f"--net=/proc/{pod.sandbox.pid}/ns/net"]
        subprocess.run([*net, "ip", "addr", "replace", f"{ip}/32", "dev", "lo"], check=False)
        subprocess.run(["ip", "route", "replace", f"{ip}/32", "via", pod.ip], check=False)
        for port in ports:
            there = target(port, spec)
            if there and there != port["port"]:
                self.relays.append(subprocess.Popen(
                    [*net, sys.executable, HERE / "relay.py", "--listen",
                     f"{ip}:{port['port']}", "--to", f"{pod.ip}:{there}"],
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
        self.routes[ip] = spec["metadata"]["uid"]

    def accept(self):
        """What a gateway's controller says of what it has taken up."""
        for gateway in self.api.items(f"{GATEWAY}/gateways"):
            self.say(f"{GATEWAY}/namespaces", "gateways", gateway, {
                "addresses": [{"type": "IPAddress", "value": self.kubelet.address}],
                "conditions": accepted(gateway, "Accepted", "Programmed")})
        routes = self.api.items(f"{GATEWAY}/httproutes")
        for route in routes:
            self.say(f"{GATEWAY}/namespaces", "httproutes", route, {"parents": [
                {"parentRef": parent, "controllerName": "tutorial/gateway",
                 "conditions": accepted(route, "Accepted", "ResolvedRefs")}
                for parent in route["spec"].get("parentRefs", [])]})
        for group in POOLS:
            for pool in self.api.items(f"{group}/inferencepools"):
                parents = [{"parentRef": parent,
                            "conditions": accepted(pool, "Accepted", "ResolvedRefs")}
                           for parent in gateways_of(pool, routes)]
                if parents:
                    self.say(f"{group}/namespaces", "inferencepools", pool, {
                        "parents" if group.endswith("/v1") else "parent": parents})

    def say(self, base, kind, thing, status):
        meta = thing["metadata"]
        said = thing.get("status") or {}
        key = next(iter(status.keys() & {"parents", "parent", "conditions"}))
        if generations(said.get(key)) == generations(status[key]):
            return
        self.api.write("PATCH", f"{base}/{meta['namespace']}/{kind}/{meta['name']}/status",
                       {"status": status}, "application/merge-patch+json")


def gateways_of(pool, routes):
    """The gateways of routes that lead to a pool."""
    meta, found = pool["metadata"], {}
    for route in routes:
        rules = route["spec"].get("rules", [])
        backends = [b for rule in rules for b in rule.get("backendRefs", [])]
        here = route["metadata"]["namespace"]
        if here != meta["namespace"] or meta["name"] not in [b["name"] for b in backends]:
            continue
        for parent in route["spec"].get("parentRefs", []):
            namespace = parent.get("namespace", here)
            found[namespace, parent["name"]] = {
                "group": "gateway.networking.k8s.io", "kind": "Gateway",
                "name": parent["name"], "namespace": namespace}
    return list(found.values())


def generations(entries):
    """Which generation each condition of a status is about."""
    flat = [c for e in entries or [] for c in e.get("conditions", [e])]
    return sorted((c.get("type"), c.get("status"), c.get("observedGeneration")) for c in flat)


def accepted(thing, *types):
    return [condition(kind, True, kind, thing["metadata"]["generation"]) for kind in types]


def condition(kind, good, reason, generation=None):
    about = {} if generation is None else {
        "observedGeneration": generation, "lastTransitionTime": "2000-01-01T00:00:00Z"}
    return {"type": kind, "status": str(good), "reason": reason, "message": "", **about}


def is_ready(pod):
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def target(port, pod):
    wanted = port.get("targetPort", port["port"])
    if isinstance(wanted, int):
        return wanted
    ports = [p for c in pod["spec"]["containers"] for p in c.get("ports", [])]
    return next((p["containerPort"] for p in ports if p.get("name") == wanted), None)
