"""Clients of the gateway."""

import http.client
import itertools
import json
import pathlib
import subprocess
import threading

from step import Failed, eventually, must

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
GATEWAY = "10.244.0.1"


def body(model, text, tokens=8, **more):
    return {"model": model, "max_tokens": tokens,
            "messages": [{"role": "user", "content": text}], **more}


def curl(model):
    """The tutorial's request, by curl."""
    result = subprocess.run(
        ["curl", "-sS", "--fail-with-body", "--max-time", "30",
         f"http://{GATEWAY}/v1/chat/completions", "-H", "Content-Type: application/json",
         "-H", "x-user-id: user1", "-d", json.dumps(body(model, "What is Kubernetes?", 100))],
        capture_output=True, text=True)
    if result.returncode:
        raise Failed(f"curl: {result.stdout} {result.stderr}")
    return json.loads(result.stdout)


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.worker = response.headers["x-sim-worker"]
        self.prefill = response.headers["x-sim-prefill"]
        self.text = response.read().decode(errors="replace")


def ask(model, text, tokens=8, good=True, **more):
    connection = http.client.HTTPConnection(GATEWAY, timeout=30)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body(model, text, tokens, **more)),
                           {"content-type": "application/json"})
        answer = Answer(connection.getresponse())
    finally:
        connection.close()
    must(not good or answer.status == 200, f"{answer.status}: {answer.text[:300]}")
    return answer


class Traffic:
    """Requests with prompts of their own, two at a time, until the `with` ends."""

    # How many of the last answers say who serves now.
    RECENT = 60

    def __init__(self, model):
        self.model, self.answers, self.numbers = model, [], itertools.count()
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.loop, daemon=True) for _ in range(2)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def loop(self):
        while not self.ended.wait(0.01):
            text = f"Request {next(self.numbers)} is like no other, " + "and no other is like it. " * 8
            try:
                answer = ask(self.model, text, good=False)
                self.answers.append((answer.status, answer.worker or answer.text[:200]))
            except (OSError, http.client.HTTPException) as error:
                self.answers.append((0, repr(error)))

    def count(self):
        return len(self.answers)

    def failures(self):
        return [a for a in self.answers[:] if a[0] != 200]

    def good_since_failure(self):
        return sum(1 for _ in itertools.takewhile(lambda a: a[0] == 200, reversed(self.answers[:])))

    def recent(self):
        """Who answered lately."""
        return {who for status, who in self.answers[-self.RECENT:] if status == 200}

    def reaches(self, count):
        eventually(lambda: f"{count} requests, not {self.count()}", lambda: self.count() >= count)

    def all_good(self):
        must(not self.failures(), f"{len(self.failures())} of {self.count()} failed, such as"
                                  f" {self.failures()[:3]}")
