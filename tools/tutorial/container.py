"""A container: a process with a root, a user, an environment and probes of its own."""

import json
import re
import shlex
import signal
import subprocess
import time

import probes

# Programs of the machine, which the image has or does not; all else in the root is the image's.
SHARED = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
# Seconds until a container that ended is started again; doubled each time, as Kubernetes does, but
# from one second instead of ten.
FIRST_BACKOFF, LONGEST_BACKOFF = 1, 8


class Container:
    def __init__(self, pod, spec):
        self.pod, self.spec = pod, spec
        self.image = pod.kubelet.images.of(spec)
        self.log = pod.kubelet.here / "logs" / f"{pod.namespace}_{pod.name}_{spec['name']}.log"
        self.root = pod.kubelet.here / "root"
        self.process, self.ready = None, False
        self.restarts, self.next_start, self.started = -1, 0, 0
        self.failures, self.next_liveness = 0, 0

    def look(self):
        """Starts it where it does not run, and asks its probes."""
        if self.image is None:
            self.ready = True
            return
        if not self.runs():
            self.ready = False
            if self.process is not None and self.next_start == 0:
                self.next_start = time.monotonic() + min(
                    FIRST_BACKOFF * 2 ** self.restarts, LONGEST_BACKOFF)
            if time.monotonic() < self.next_start:
                return
            self.start()
        probe = self.spec.get("readinessProbe") or self.spec.get("startupProbe")
        self.ready = probe is None or probes.passes(probe, self.pod.ip, self.spec)
        self.look_alive()

    def look_alive(self):
        """The liveness probe, at its own pace and after its own delay."""
        probe, now = self.spec.get("livenessProbe"), time.monotonic()
        if probe is None or now < self.next_liveness:
            return
        self.next_liveness = now + probe.get("periodSeconds", 10)
        passes = probes.passes(probe, self.pod.ip, self.spec)
        self.failures = 0 if passes else self.failures + 1
        if self.failures >= probe.get("failureThreshold", 3):
            self.pod.kubelet.say(f"{self.pod.name}: {self.spec['name']} is not alive")
            self.process.terminate()

    def start(self):
        environment = self.environment()
        command = self.spec.get("command") or self.image.entrypoint
        argv = [expand(word, environment) for word in [*command, *self.spec.get("args", [])]]
        with open(self.log, "ab") as log:
            log.write(f"--- {json.dumps(argv)}\n".encode())
            log.flush()
            # Envoy and others open /dev/stdout anew, as the user that they run as.
            self.log.chmod(0o666)
            self.process = subprocess.Popen(self.inside(self.setup(), environment, argv),
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
        self.restarts += 1
        self.next_start, self.failures, self.started = 0, 0, time.monotonic()
        delay = (self.spec.get("livenessProbe") or {}).get("initialDelaySeconds", 0)
        self.next_liveness = self.started + max(delay, 1)

    def inside(self, setup, environment, argv):
        """The command line that runs `argv` in a mount namespace that `setup` has furnished."""
        both = (self.pod.spec["spec"].get("securityContext") or {}) | (
            self.spec.get("securityContext") or {})
        user = both.get("runAsUser", self.image.user)
        run_as = ["setpriv", f"--reuid={user}", f"--regid={both.get('runAsGroup', user)}",
                  "--clear-groups"]
        if not both.get("allowPrivilegeEscalation", True):
            run_as.append("--no-new-privs")
        if "ALL" in (both.get("capabilities") or {}).get("drop", []):
            run_as += ["--bounding-set=-all", "--inh-caps=-all"]
        variables = [f"{name}={value}" for name, value in environment.items()]
        folder = self.spec.get("workingDir", "/")
        return ["nsenter", f"--net=/proc/{self.pod.sandbox.pid}/ns/net",
                "unshare", "--mount", "--propagation", "private",
                "sh", "-ec", setup + 'exec "$@"', "sh",
                "chroot", str(self.root), "env", "-i", "-C", folder, *variables, *run_as, *argv]

    def setup(self):
        """A script that makes the root: a tmpfs with the machine's programs, the image's files and
        the pod's volumes. It goes with the mount namespace, so a restart begins with a new one."""
        root, lines = shlex.quote(str(self.root)), []
        lines.append(f"mount -t tmpfs -o mode=755 root {root}; cd {root}")
        lines.append("mkdir -p proc dev sys etc run var app; mkdir -m 1777 tmp; ln -s /run var/run")
        lines.append("for p in proc dev sys; do mount --rbind /$p $p; done")
        lines.append(f"for p in {' '.join(SHARED)}; do"
                     " if [ -L /$p ]; then cp -P /$p $p;"
                     " elif [ -d /$p ]; then mkdir $p; mount --bind -o ro /$p $p; fi; done")
        # Where Debian's links to some of the programs lead.
        lines.append("if [ -d /etc/alternatives ]; then"
                     " mkdir etc/alternatives; mount --bind -o ro /etc/alternatives etc/alternatives; fi")
        lines.append(f"printf '127.0.0.1 localhost\\n{self.pod.ip} {self.pod.name}\\n' >etc/hosts")
        lines.append(": >etc/resolv.conf")
        for path, source in self.image.files.items():
            lines.append(f"touch .{path}; mount --bind {shlex.quote(str(source))} .{path}")
        for mount in self.spec.get("volumeMounts", []):
            source = self.pod.volumes[mount["name"]] / mount.get("subPath", "")
            at = shlex.quote("." + mount["mountPath"].replace("/var/run/", "/run/", 1))
            lines.append(f"mkdir -p {at}; mount --bind {shlex.quote(str(source))} {at}")
            if mount.get("readOnly"):
                lines.append(f"mount -o remount,bind,ro {at}")
        if (self.spec.get("securityContext") or {}).get("readOnlyRootFilesystem"):
            lines.append(f"mount -o remount,ro {root}")
        return "\n".join(lines) + "\ncd /\n"

    def environment(self):
        values = {"PATH": "/app:/usr/local/bin:/usr/bin:/bin", "HOSTNAME": self.pod.name,
                  "KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
        for variable in self.spec.get("env", []):
            values[variable["name"]] = self.value(variable, values)
        return values

    def value(self, variable, values):
        source = variable.get("valueFrom", {})
        if "fieldRef" in source:
            return self.pod.field(source["fieldRef"]["fieldPath"])
        for key, kind in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
            if key in source:
                data = self.pod.data(kind, source[key]["name"]) or {}
                return data.get(source[key]["key"], b"").decode()
        return expand(variable.get("value", ""), values)

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def status(self):
        state = {"running": {}}
        if self.image and not self.runs():
            state = {"waiting": {"reason": "CrashLoopBackOff"}}
        return {"name": self.spec["name"], "image": self.spec["image"], "imageID": "",
                "ready": self.ready, "started": True, "restartCount": max(self.restarts, 0),
                "state": state}

    def stop(self, grace):
        if not self.runs():
            return
        deadline = time.monotonic() + grace
        hook = (self.spec.get("lifecycle") or {}).get("preStop", {}).get("exec")
        try:
            if hook and grace:
                subprocess.run(self.inside(self.setup(), self.environment(), hook["command"]),
                               timeout=grace, stdin=subprocess.DEVNULL, capture_output=True)
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self):
        """What a machine out of memory does to it; it is started again."""
        if self.runs():
            self.process.kill()
            self.process.wait()


def expand(text, values):
    """Kubernetes' `$(NAME)`."""
    return re.sub(r"\$\(([A-Za-z_]\w*)\)", lambda name: values.get(name[1], name[0]), text)
