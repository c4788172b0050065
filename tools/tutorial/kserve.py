"""Installs KServe as its quick install does, without helm, cert-manager and a registry."""

import base64

from api import MERGE
from step import eventually

# What the tutorial takes for granted and does not say: without this Gateway KServe's controller
# makes no scheduler.
INGRESS = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: envoy}
spec: {controllerName: gateway.envoyproxy.io/gatewayclass-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: kserve-ingress-gateway, namespace: kserve}
spec:
  gatewayClassName: envoy
  listeners:
  - {name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}
"""
WEBHOOK = "llmisvc-webhook-server-service"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def documents(text):
    return ["\n".join(("---", d)) for d in text.split("\n---\n") if d.strip()]


def kind(document):
    lines = [line for line in document.splitlines() if line.startswith("kind: ")]
    return lines[0].removeprefix("kind: ") if lines else ""


def install(cluster):
    """CRDs, then KServe; returns when its controller is ready."""
    files, api = cluster.kserve, cluster.api
    read = {name: (files / f"{name}.yaml").read_text()
            for name in ("crds", "objects", "presets", "configmap", "gateways", "storage")}
    objects = documents(read["objects"])
    of_kinds = lambda *kinds: "\n".join(d for d in objects if kind(d) in kinds)  # noqa: E731
    crds = [read["crds"], read["gateways"], of_kinds("CustomResourceDefinition")]
    # They are megabytes of schemas: where the machine is busy the API server gives up on some.
    eventually(lambda: f"the CRDs are taken: {cluster.refusal}",
               lambda: applied(cluster, "\n---\n".join(crds), "--force-conflicts"), 180)
    cluster.kubectl("create", "namespace", "kserve")
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    certificate(cluster)
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=of_kinds(
        "ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "Service"))
    cluster.kubectl("apply", "--server-side", "-n", "kserve", "-f", "-", stdin=read["configmap"])
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=INGRESS)
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=of_kinds("Deployment"))
    cluster.kubectl("rollout", "status", "-n", "kserve", "--timeout=60s",
                    "deployment/llmisvc-controller-manager")
    # From here on KServe's webhooks check what is applied, its own presets first.
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=of_kinds(
        "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"))
    trust(cluster)
    presets = read["presets"] + "\n---\n" + read["storage"]
    eventually(lambda: f"KServe takes its presets: {cluster.refusal}",
               lambda: applied(cluster, presets, "-n", "kserve"))


def applied(cluster, text, *options):
    """Whether all of the objects are taken."""
    said = cluster.kubectl("apply", "--server-side", *options, "-f", "-", stdin=text, check=False)
    cluster.refusal = said[-1000:]
    return cluster.status == 0


def certificate(cluster):
    """In the place of cert-manager: the certificate that KServe asks for, as a Secret."""
    name = f"{WEBHOOK}.kserve.svc"
    chain, key = cluster.certificate("webhook", f"/CN={name}", f"DNS:{name}")
    data = {"tls.crt": chain, "tls.key": key}
    cluster.api.call("POST", "/api/v1/namespaces/kserve/secrets", {
        "metadata": {"name": "llmisvc-webhook-server-cert"}, "type": "kubernetes.io/tls",
        "stringData": data})


def trust(cluster):
    """In the place of cert-manager's injector: who calls a webhook of KServe knows its authority."""
    api = cluster.api
    bundle = base64.b64encode((cluster.here / "ca.crt").read_bytes()).decode()
    for kinds in ("validatingwebhookconfigurations", "mutatingwebhookconfigurations"):
        for found in api.items(f"{ADMISSION}/{kinds}"):
            for webhook in found["webhooks"]:
                webhook["clientConfig"]["caBundle"] = bundle
            api.call("PUT", f"{ADMISSION}/{kinds}/{found['metadata']['name']}", found)
    for crd in api.items(DEFINITIONS):
        if crd["spec"].get("conversion", {}).get("strategy") == "Webhook":
            api.call("PATCH", f"{DEFINITIONS}/{crd['metadata']['name']}", {"spec": {"conversion": {
                "webhook": {"clientConfig": {"caBundle": bundle}}}}}, MERGE)
