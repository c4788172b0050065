"""An LLMInferenceService, what KServe made of it, and its pods."""

import json

from api import MERGE
from envoy import Pool
from step import eventually

SERVICES = "/apis/serving.kserve.io/v1alpha1/namespaces/{}/llminferenceservices/{}"
POOLS = ("/apis/inference.networking.x-k8s.io/v1alpha2", "/apis/inference.networking.k8s.io/v1")


class Service:
    def __init__(self, cluster, name, model, adapters=()):
        self.cluster, self.api, self.namespace = cluster, cluster.api, "kserve-test"
        self.name, self.model, self.adapters = name, model, adapters
        self.conditions = {}

    def path(self):
        return SERVICES.format(self.namespace, self.name)

    def patch(self, change):
        self.api.call("PATCH", self.path(), change, MERGE)

    def set_environment(self, name, value):
        """Gives the workers a variable, as `kubectl edit` would."""
        spec = self.api.get(self.path())["spec"]
        spec["template"]["containers"][0].setdefault("env", []).append(
            {"name": name, "value": value})
        self.patch({"spec": {"template": spec["template"]}})

    def is_ready(self, pickers, workers):
        """Waits until KServe says Ready of what was asked for last, and all pods are there."""
        def ready():
            found = self.api.get(self.path())
            conditions = {c["type"]: c for c in found.get("status", {}).get("conditions", [])}
            self.conditions = {t: c.get("message") for t, c in conditions.items()
                               if c["status"] != "True"}
            there = len(self.pickers()), len(self.workers())
            return (conditions.get("Ready", {}).get("status") == "True"
                    and found["status"].get("observedGeneration") == found["metadata"]["generation"]
                    and all(p.is_ready() for p in self.pickers() + self.workers())
                    and there == (pickers, workers))
        eventually(lambda: f"{self.name} is Ready: {self.conditions}", ready)

    def of(self, component):
        """Pods of a part of the service that are not on their way out."""
        with self.cluster.kubelet.lock:
            pods = list(self.cluster.kubelet.pods.values())
        wanted = {"app.kubernetes.io/name": self.name}
        return [p for p in pods if not p.stopping.is_set()
                and wanted.items() <= p.spec["metadata"]["labels"].items()
                and p.spec["metadata"]["labels"].get("app.kubernetes.io/component") == component]

    def pickers(self):
        return self.of("llminferenceservice-router-scheduler")

    def workers(self):
        return self.of("llminferenceservice-workload")

    def worker_names(self):
        return [p.name for p in self.workers()]

    def picker_deployment(self):
        return f"{self.name}-kserve-router-scheduler"

    def pool(self):
        """What a gateway needs to know of the pool that KServe made."""
        name = f"{self.name}-inference-pool"
        for group in POOLS:
            found = self.api.get(f"{group}/namespaces/{self.namespace}/inferencepools/{name}")
            if found:
                break
        spec = found["spec"]
        picker = spec.get("extensionRef") or spec["endpointPickerRef"]
        port = picker.get("portNumber") or picker.get("port", {}).get("number") or 9002
        service = self.api.get(f"/api/v1/namespaces/{self.namespace}/services/{picker['name']}")
        return Pool([self.model, *self.adapters], name, picker["name"], service["spec"]["clusterIP"], port)

    def handled(self):
        """The lines that the tutorial has its readers look for, with its command."""
        labels = ("app.kubernetes.io/component=llminferenceservice-router-scheduler,"
                  f"app.kubernetes.io/name={self.name}")
        text = self.cluster.kubectl("logs", "-n", self.namespace, "-l", labels, "--tail=-1")
        return [json.loads(line) for line in text.splitlines() if '"Request handled"' in line]
