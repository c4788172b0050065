"""Simulated workers, epp and Envoy on this machine, and a client's view of them.

Shared by the demos. Only the standard library is used.
"""

import http.client
import json
import sys
import time
import urllib.parse
import urllib.request

from launcher import ROOT, TARGET, Launcher, answers, free_port

MODEL = "demo-model"
BIN = TARGET / "debug"

# An Envoy that knows the workers and takes them in turn.
ROUND_ROBIN = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: http
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: /}}, route: {{cluster: workers, timeout: 0s}}}}]
          http_filters:
          - name: router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: workers
    lb_policy: ROUND_ROBIN
    load_assignment: {{cluster_name: workers, endpoints: [{{lb_endpoints: [{workers}]}}]}}
"""
ROUND_ROBIN_WORKER = (
    "{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}"
)


class Answer:
    """What came back of a request, and when."""

    def __init__(self, response):
        self.worker = response.headers["x-sim-worker"] or "?"
        # Where the prompt was computed, if not there.
        self.prefill = response.headers["x-sim-prefill"]
        self.text, self.usage = "", {}
        # Seconds from the request to the first token, and between tokens on average.
        self.ttft = self.itl = None

    def cached(self):
        return (self.usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)


class Gateway(Launcher):
    """Workers, epp and Envoy; `with` ends them."""

    def __init__(self, envoy, prefix="epp-demo-"):
        super().__init__(prefix)
        self.envoy = envoy
        # Addresses by the names that workers call themselves, with their labels.
        self.workers = {}
        self.grpc, self.health, self.metrics = free_port(9002), free_port(9003), free_port(9090)
        self.port, self.admin = free_port(8081), free_port(19000)

    def start_worker(self, name, *args, labels=None):
        port = free_port(8201 + len(self.workers))
        command = [BIN / "epp-sim", "--port", port, "--name", name, "--model", MODEL, *args]
        program = self.start(name, command, lambda p: "listening on http://" in p.output())
        self.workers[name] = (port, labels or {})
        return program

    def start_epp(self, config):
        """epp with a configuration of `config/`, and the workers in a file of endpoints."""
        rows = []
        for name, (port, labels) in self.workers.items():
            rows.append(f"- {{name: {name}, address: 127.0.0.1, port: {port}, "
                        f"labels: {json.dumps(labels)}}}\n")
        (self.dir / "endpoints.yaml").write_text("endpoints:\n" + "".join(rows))
        text = (ROOT / "config" / config).read_text()
        discovery = f"- type: file-discovery\n  parameters: {{path: {self.dir}/endpoints.yaml}}\n"
        text = text.replace("plugins:\n", "plugins:\n" + discovery, 1)
        text += "dataLayer:\n  discovery: {pluginRef: file-discovery}\n"
        (self.dir / config).write_text(text)
        ready = f"http://127.0.0.1:{self.metrics}/readyz"
        self.start("epp", [
            BIN / "epp", "--config-file", self.dir / config, "--grpc-port", self.grpc,
            "--grpc-health-port", self.health, "--metrics-port", self.metrics,
            "--metrics-endpoint-auth=false", "--explain-decisions", "100",
        ], lambda _: answers(ready))

    def start_envoy(self):
        yaml = (ROOT / "deploy" / "envoy" / "standalone.yaml").read_text()
        for old, new in ((19000, self.admin), (8081, self.port), (9002, self.grpc)):
            yaml = yaml.replace(f"port_value: {old}", f"port_value: {new}")
        (self.dir / "envoy.yaml").write_text(yaml)
        self.start("envoy", [
            self.envoy, "-c", self.dir / "envoy.yaml", "--concurrency", "1",
            # Hot restart would leave a file in /dev/shm.
            "--disable-hot-restart", "--log-level", "warning",
        ], lambda _: answers(f"http://127.0.0.1:{self.admin}/ready"))

    def start_round_robin(self):
        """Another Envoy before the same workers, which takes them in turn; returns its port."""
        port = free_port()
        workers = ", ".join(ROUND_ROBIN_WORKER.format(port=port)
                            for port, _ in self.workers.values())
        text = ROUND_ROBIN.format(port=port, workers=workers)
        (self.dir / "round-robin.yaml").write_text(text)
        self.start("round-robin", [
            self.envoy, "-c", self.dir / "round-robin.yaml", "--concurrency", "1",
            "--disable-hot-restart", "--log-level", "warning",
        ], lambda _: answers(f"http://127.0.0.1:{port}/health"))
        return port

    def empty_caches(self):
        """Makes every worker forget the prompts it has seen."""
        for port, _ in self.workers.values():
            url = f"http://127.0.0.1:{port}/reset_prefix_cache"
            urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=5).close()

    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def chat(self, request_id, messages, max_tokens=24, port=None):
        """One streamed chat turn, through Envoy with epp unless another port is given."""
        body = json.dumps({
            "model": MODEL, "messages": messages, "stream": True, "max_tokens": max_tokens,
            "ignore_eos": True, "stream_options": {"include_usage": True},
        })
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=60)
        started = time.monotonic()
        connection.request("POST", "/v1/chat/completions", body,
                           {"content-type": "application/json", "x-request-id": request_id})
        response = connection.getresponse()
        if response.status != 200:
            sys.exit(f"the gateway answered {response.status}: {response.read().decode()}")
        answer, tokens, last = Answer(response), 0, started
        for line in response:
            line = line.decode().strip()
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line[6:])
            answer.usage = chunk.get("usage") or answer.usage
            for choice in chunk["choices"]:
                delta = choice["delta"].get("content") or ""
                if delta:
                    last, tokens = time.monotonic(), tokens + 1
                    answer.ttft = answer.ttft or last - started
                answer.text += delta
        connection.close()
        if tokens > 1:
            answer.itl = (last - started - answer.ttft) / (tokens - 1)
        return answer

    def explanation(self, request_id):
        """What epp looked at when it decided; `None` if it does not say."""
        wanted = urllib.parse.urlencode({"request_id": request_id})
        page = f"http://127.0.0.1:{self.metrics}/debug/decisions?{wanted}"
        with urllib.request.urlopen(page) as response:
            decisions = json.load(response)["decisions"]
        found = [d for d in decisions if d["request_id"] == request_id]
        return found[0]["explanation"] if found else None


def why(profile):
    """Every scorer's score for the worker that a profile picked."""
    pick = profile["picks"][0]
    parts = [f"{s['plugin']} {s['scores'][pick]:.2f} x {s['weight']:g}"
             for s in profile["scorers"]]
    best = profile["totals"][pick]
    ties = sum(1 for t in profile["totals"] if t == best)
    tie = f", one of {ties} equals" if ties > 1 else ""
    return f"{' + '.join(parts)} = {best:.2f}{tie}"
