"""A cluster of one node: etcd, the API server, and what plays the rest of Kubernetes."""

import os
import subprocess

from api import Api
from controllers import Controllers
from images import Images
from kubelet import Kubelet
from step import Failed, eventually

NODE_IP = "10.244.0.1"
POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
API_IP = "10.96.0.1"
ADMIN = "admin-token"

# The bridge is where pods are; a Service's address is a route to a pod that has it. A pod's answer
# comes from that address, and no redirect may tell others to go round us.
NETWORK = f"""
ip link set lo up
ip link show cni0 >/dev/null 2>&1 && ip link del cni0
ip link add cni0 type bridge
ip addr add {NODE_IP}/16 dev cni0
ip link set cni0 up
ip addr replace {API_IP}/32 dev lo
sysctl -qw net.ipv4.ip_forward=1
for of in all cni0; do
  sysctl -qw net.ipv4.conf.$of.rp_filter=0 net.ipv4.conf.$of.send_redirects=0
done
"""


class Cluster:
    def __init__(self, here, args, version):
        self.here, self.args, self.version = here, args, version
        self.processes = []
        self.kserve = args.tools / f"kserve-{version}"
        self.api = self.kubelet = self.controllers = None

    def start(self):
        sh(NETWORK)
        self.certificate("ca", "/CN=tutorial")
        self.certificate("api", "/CN=kubernetes",
                         f"IP:{API_IP},IP:{NODE_IP},DNS:kubernetes.default.svc")
        self.certificate("kubelet", "/CN=node", f"IP:{NODE_IP}")
        sh(f"openssl rsa -in {self.here}/api.key -pubout -out {self.here}/api.pub 2>/dev/null")
        (self.here / "tokens.csv").write_text(f'{ADMIN},admin,admin-uid,"system:masters"\n')
        tools = self.args.tools / "bin"
        assets = os.environ.get("KUBEBUILDER_ASSETS", tools)
        self.process("etcd", [
            f"{assets}/etcd", f"--data-dir={self.here}/etcd", "--unsafe-no-fsync",
            "--listen-client-urls=http://127.0.0.1:2379", "--listen-peer-urls=http://127.0.0.1:2380",
            "--advertise-client-urls=http://127.0.0.1:2379"])
        self.process("kube-apiserver", [
            f"{assets}/kube-apiserver", "--etcd-servers=http://127.0.0.1:2379",
            "--secure-port=443", f"--advertise-address={NODE_IP}",
            f"--tls-cert-file={self.here}/api.crt", f"--tls-private-key-file={self.here}/api.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.here}/api.pub",
            f"--service-account-signing-key-file={self.here}/api.key",
            f"--token-auth-file={self.here}/tokens.csv", "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={SERVICE_NETWORK}", "--allow-privileged=true",
            f"--kubelet-certificate-authority={self.here}/ca.crt"])
        self.api = Api(f"https://{API_IP}", ADMIN, self.here / "ca.crt")
        eventually("the API server is up", self.api.is_up, 120)
        self.write_kubeconfig()
        images = Images(self.args.bin, self.kserve / "llmisvc")
        self.kubelet = Kubelet(self.api, self.here, images, NODE_IP)
        self.kubelet.start()
        self.controllers = Controllers(self.api, self.kubelet, (self.here / "ca.crt").read_text())
        self.controllers.start()

    def process(self, name, command):
        """Starts a program of the node, with a log of its own."""
        with open(self.here / "logs" / f"{name}.log", "ab") as log:
            child = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL,
                                     stdout=log, stderr=log)
        self.processes.append(child)
        return child

    def certificate(self, name, subject, names=None):
        """A key and a certificate, by our own authority unless it is that itself."""
        at, sign = self.here / name, ""
        extensions = "basicConstraints = critical,CA:TRUE"
        if names:
            extensions = f"basicConstraints = CA:FALSE\nsubjectAltName = {names}"
            sign = f"-CA {self.here}/ca.crt -CAkey {self.here}/ca.key"
        at.with_suffix(".cnf").write_text(
            f"[req]\ndistinguished_name = name\n[name]\n[extensions]\n{extensions}\n")
        sh(f"openssl req -x509 -newkey rsa:2048 -nodes -days 30 -keyout {at}.key -out {at}.crt"
           f" -config {at}.cnf -extensions extensions -subj {subject} {sign} 2>/dev/null")
        return (self.here / f"{name}.crt").read_text(), (self.here / f"{name}.key").read_text()

    def write_kubeconfig(self):
        (self.here / "kubeconfig").write_text(f"""
apiVersion: v1
kind: Config
clusters:
- {{name: node, cluster: {{server: "https://{API_IP}", certificate-authority: {self.here}/ca.crt}}}}
users:
- {{name: admin, user: {{token: {ADMIN}}}}}
contexts:
- {{name: node, context: {{cluster: node, user: admin}}}}
current-context: node
""")

    def kubectl(self, *command, stdin=None, check=True):
        """What kubectl prints."""
        result = subprocess.run(
            [self.args.tools / "bin/kubectl", *command], input=stdin, capture_output=True,
            text=True, env={"PATH": os.environ["PATH"], "HOME": str(self.here),
                            "KUBECONFIG": str(self.here / "kubeconfig")})
        self.status = result.returncode
        if result.returncode and check:
            raise Failed(f"kubectl {' '.join(map(str, command))}: {result.stderr.strip()[-2000:]}")
        return result.stdout if check else result.stdout + result.stderr

    def apply(self, *files, stdin=None):
        """Applies objects as the tutorial has it done, but refuses what a schema does not know."""
        names = [part for file in files for part in ("-f", str(file))] or ["-f", "-"]
        return self.kubectl("apply", "--server-side", "--validate=strict", *names, stdin=stdin)

    def last_words(self):
        """The ends of all logs, where something went wrong."""
        for log in sorted((self.here / "logs").iterdir()):
            lines = log.read_text(errors="replace").splitlines()
            print(f"--- {log.name}", *(line[:250] for line in lines[-4:]), sep="\n", flush=True)

    def stop(self):
        if self.controllers:
            self.controllers.stop()
        if self.kubelet:
            self.kubelet.stop()
        for process in reversed(self.processes):
            process.kill()
            process.wait()


def sh(script):
    result = subprocess.run(["sh", "-ec", script], capture_output=True, text=True)
    if result.returncode:
        raise Failed(f"{script.strip()}: {result.stderr.strip()}")
