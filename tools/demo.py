#!/usr/bin/env python3
"""The main job on this machine: simulated workers, epp and Envoy, with real requests through them.

Shows which worker served each request and why, then leaves everything running to try.
Only the standard library is used. `--once` ends after the requests.
"""

import argparse
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Where cargo builds, unless told otherwise.
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
MODEL = "demo-model"
WORKERS = 4


def port(preferred):
    """The preferred port if it is free, else any free one."""
    for wanted in (preferred, 0):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", wanted))
                return s.getsockname()[1]
            except OSError:
                continue
    sys.exit("no free port on 127.0.0.1")


class Demo:
    def __init__(self, args):
        self.args = args
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="epp-demo-"))
        self.children = []
        self.worker_ports = [port(8201 + i) for i in range(WORKERS)]
        self.grpc, self.health, self.metrics = port(9002), port(9003), port(9090)
        self.gateway, self.admin = port(8081), port(19000)

    def start(self, name, command):
        log = open(self.dir / f"{name}.log", "wb")
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.children.append((name, child))

    def stop(self):
        for _, child in reversed(self.children):
            if child.poll() is None:
                child.terminate()
        for _, child in self.children:
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()

    def wait(self, what, url):
        deadline = time.monotonic() + 30
        while True:
            for name, child in self.children:
                if child.poll() is not None:
                    log = (self.dir / f"{name}.log").read_text(errors="replace")
                    sys.exit(f"{name} ended with {child.returncode}:\n{log[-2000:]}")
            try:
                with urllib.request.urlopen(url, timeout=1) as answer:
                    if answer.status == 200:
                        return
            except (OSError, urllib.error.HTTPError):
                pass
            if time.monotonic() > deadline:
                sys.exit(f"waited 30 s for {what} at {url}; logs are in {self.dir}")
            time.sleep(0.05)

    def start_all(self):
        bin_dir = TARGET / "debug"
        for p in self.worker_ports:
            self.start(f"worker-{p}", [bin_dir / "epp-sim", "--port", str(p), "--model", MODEL])
        endpoints = ",".join(f"127.0.0.1:{p}" for p in self.worker_ports)
        for p in self.worker_ports:
            self.wait("a worker", f"http://127.0.0.1:{p}/health")
        self.start("epp", [
            bin_dir / "epp", "--config-file", ROOT / "config" / "tutorial.yaml",
            "--endpoints", endpoints, "--grpc-port", str(self.grpc),
            "--grpc-health-port", str(self.health), "--metrics-port", str(self.metrics),
            "--metrics-endpoint-auth=false", "--explain-decisions", "100",
        ])
        self.wait("epp", f"http://127.0.0.1:{self.metrics}/readyz")
        yaml = (ROOT / "deploy" / "envoy" / "standalone.yaml").read_text()
        for old, new in ((19000, self.admin), (8081, self.gateway), (9002, self.grpc)):
            yaml = yaml.replace(f"port_value: {old}", f"port_value: {new}")
        (self.dir / "envoy.yaml").write_text(yaml)
        self.start("envoy", [
            self.args.envoy, "-c", self.dir / "envoy.yaml", "--concurrency", "1",
            "--use-dynamic-base-id", "--log-level", "warning",
        ])
        self.wait("Envoy", f"http://127.0.0.1:{self.admin}/ready")

    def chat(self, request_id, messages):
        """One streamed chat turn; returns (worker, answer, usage, seconds to the first token)."""
        body = json.dumps({
            "model": MODEL, "messages": messages, "stream": True, "max_tokens": 24,
            "stream_options": {"include_usage": True},
        })
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway, timeout=60)
        started = time.monotonic()
        connection.request("POST", "/v1/chat/completions", body,
                           {"content-type": "application/json", "x-request-id": request_id})
        response = connection.getresponse()
        if response.status != 200:
            sys.exit(f"the gateway answered {response.status}: {response.read().decode()}")
        worker, text, usage, first = response.headers["x-sim-worker"], "", {}, None
        for line in response:
            line = line.decode().strip()
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line[6:])
            usage = chunk.get("usage") or usage
            for choice in chunk["choices"]:
                delta = choice["delta"].get("content") or ""
                if delta and first is None:
                    first = time.monotonic() - started
                text += delta
        connection.close()
        return worker, text, usage, first

    def why(self, request_id):
        """What epp weighed: every scorer's score for the worker it picked."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/debug/decisions") as answer:
            decisions = json.load(answer)["decisions"]
        for decision in decisions:
            if decision["request_id"] != request_id:
                continue
            profile = decision["explanation"]["profiles"][0]
            pick = profile["picks"][0]
            parts = [f"{s['plugin']} {s['scores'][pick]:.2f} x {s['weight']:g}"
                     for s in profile["scorers"]]
            best = profile["totals"][pick]
            ties = sum(1 for t in profile["totals"] if t == best)
            tie = f", one of {ties} equals" if ties > 1 else ""
            return f"{' + '.join(parts)} = {best:.2f}{tie}"
        return "?"

    def talk(self):
        print(f"\n{WORKERS} simulated workers, epp with config/tutorial.yaml, Envoy in front.")
        print("Three chats of four turns, interleaved. A turn carries all turns before it, so the")
        print("worker that served the last turn has most of the prompt in its KV cache.\n")
        print(f"{'chat':<5}{'turn':<5}{'worker':<8}{'prompt':>7}{'cached':>8}{'TTFT':>9}   why")
        chats = {}
        for name in "ABC":
            rules = " ".join(f"Rule {i} of chat {name}: answer in one sentence." for i in range(40))
            chats[name] = [{"role": "system", "content": rules}]
        for turn in range(1, 5):
            for name, messages in chats.items():
                messages.append({"role": "user", "content": f"Question {turn} of chat {name}? " * 8})
                request_id = f"demo-{name}-{turn}"
                worker, text, usage, first = self.chat(request_id, messages)
                messages.append({"role": "assistant", "content": text})
                cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
                shown = worker.rsplit(":", 1)[-1] if worker else "?"
                print(f"{name:<5}{turn:<5}{shown:<8}{usage.get('prompt_tokens', 0):>7}{cached:>8}"
                      f"{first * 1000:>6.0f} ms   {self.why(request_id)}")

    def goodbye(self):
        gateway = f"http://127.0.0.1:{self.gateway}"
        print(f"""
Running; Ctrl-C ends it. Logs are in {self.dir}. Try:

  curl -s {gateway}/v1/models
  curl -s {gateway}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model":"{MODEL}","messages":[{{"role":"user","content":"hello"}}]}}'
  curl -s -i {gateway}/v1/chat/completions -d 'not JSON'

  http://127.0.0.1:{self.metrics}/                  epp's own pages: metrics, endpoints, decisions
  grep 'Request handled' {self.dir}/epp.log
  kill {self.children[0][1].pid}                             ends one worker: see where its chats go
""", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envoy", required=True, help="path of an Envoy binary")
    parser.add_argument("--once", action="store_true", help="end after the requests")
    demo = Demo(parser.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        demo.start_all()
        demo.talk()
        if not demo.args.once:
            demo.goodbye()
            signal.pause()
    except KeyboardInterrupt:
        print()
    finally:
        demo.stop()


if __name__ == "__main__":
    main()
