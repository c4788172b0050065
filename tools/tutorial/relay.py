#!/usr/bin/env python3
"""Passes TCP connections on: `relay.py --listen IP:PORT --to IP:PORT`.

For Services whose port is another than their pods', and in the place of llm-d's routing side-car:
there `--port` and `--vllm-port` say from where to where. What the side-car does with a request for
which another worker is to compute the prompt, epp-sim does by itself.
"""

import argparse
import socket
import threading


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            end.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", type=address)
    parser.add_argument("--to", type=address)
    parser.add_argument("--port", type=int)
    parser.add_argument("--vllm-port", type=int)
    args, _ = parser.parse_known_args()
    server = socket.create_server(args.listen or ("0.0.0.0", args.port), backlog=128)
    while True:
        client, _ = server.accept()
        try:
            there = socket.create_connection(args.to or ("127.0.0.1", args.vllm_port), 5)
            there.settimeout(None)
        except OSError:
            client.close()
            continue
        for pair in ((client, there), (there, client)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


main()
