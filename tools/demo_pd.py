#!/usr/bin/env python3
"""Prompts and answers on different workers: simulated prefill and decode workers, epp and Envoy.

Shows which worker computed each prompt, which one answered and why, then leaves everything running
to try. Only the standard library is used. `--once` ends after the requests.
"""

import argparse
import signal
import sys

from gateway import MODEL, Gateway, why

PREFILL, DECODE = 2, 2
# Tokens of text: four bytes each.
WORDS = "All work and no play makes a dull day. "


def text(name, tokens):
    words = f"Document {name}. " + WORDS * (tokens * 4 // len(WORDS) + 1)
    return words[:tokens * 4]


# (what it is, name of its text, tokens, tokens of answer)
REQUESTS = [
    ("a short question", "short", 40, 24),
    ("a long document", "one", 6000, 24),
    ("another one", "two", 6000, 24),
    ("the first again", "one", 6000, 24),
    ("a third", "three", 6000, 24),
    ("the second again", "two", 6000, 24),
]


def reasons(explanation):
    """For each profile that ran, what it is called and why it picked what it picked."""
    if explanation is None:
        return [("?", "?")]
    return [(p["name"], why(p) if p["picks"] else "nobody") for p in explanation["profiles"]]


def talk(gateway):
    print(f"\n{PREFILL} prefill and {DECODE} decode workers, epp with config/prefill-decode.yaml, Envoy in front.")
    print("A prompt of which 512 tokens or more are not cached on the worker that is to answer is")
    print("computed by a prefill worker; the answering one fetches its KV from there.\n")
    print(f"{'request':<18}{'prompt':>7}{'cached':>8}{'prefill':>12}{'decode':>11}{'TTFT':>10}{'ITL':>9}")
    for number, (what, name, tokens, answer_tokens) in enumerate(REQUESTS):
        request_id = f"demo-pd-{number}"
        messages = [{"role": "user", "content": text(name, tokens)}]
        answer = gateway.chat(request_id, messages, answer_tokens)
        prefill = worker_at(gateway, answer.prefill) if answer.prefill else "-"
        print(f"{what:<18}{answer.usage.get('prompt_tokens', 0):>7}{answer.cached():>8}"
              f"{prefill:>12}{answer.worker:>11}{answer.ttft * 1000:>7.0f} ms{answer.itl * 1000:>6.1f} ms")
        for profile, reason in reasons(gateway.explanation(request_id)):
            print(f"{'':<18}{profile}: {reason}")


def worker_at(gateway, address):
    """The name of the worker with this address."""
    for name, (port, _) in gateway.workers.items():
        if address == f"127.0.0.1:{port}":
            return name
    return address


def goodbye(gateway, prefill):
    decode_port = gateway.workers["decode-0"][0]
    print(f"""
Running; Ctrl-C ends it. Until then its logs are in {gateway.dir}. Try:

  curl -s -i {gateway.url()}/v1/completions -H 'content-type: application/json' \\
    -d "{{\\"model\\":\\"{MODEL}\\",\\"prompt\\":\\"$(seq 3000 | tr '\\n' ' ')\\"}}"
                                     x-sim-prefill says who computed the prompt
  curl -s http://127.0.0.1:{decode_port}/metrics | grep -e by_source -e remote_prefill
  curl -s http://127.0.0.1:{gateway.metrics}/metrics | grep -e disagg_decision -e pd_decision

  http://127.0.0.1:{gateway.metrics}/                  epp's own pages: metrics, endpoints, decisions
  kill {prefill.child.pid}                             ends a prefill worker
""", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envoy", required=True, help="path of an Envoy binary")
    parser.add_argument("--once", action="store_true", help="end after the requests")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with Gateway(args.envoy, "epp-demo-pd-") as gateway:
            programs = []
            for role, count in (("prefill", PREFILL), ("decode", DECODE)):
                for i in range(count):
                    labels = {"llm-d.ai/role": role}
                    worker = gateway.start_worker(f"{role}-{i}", "--role", role, labels=labels)
                    programs.append(worker)
            gateway.start_epp("prefill-decode.yaml")
            gateway.start_envoy()
            talk(gateway)
            if not args.once:
                goodbye(gateway, programs[0])
                signal.pause()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
