"""Probes of containers: HTTP, TCP, and gRPC's health service."""

import socket
import ssl
import struct
import urllib.error
import urllib.request

UNVERIFIED = ssl.create_default_context()
UNVERIFIED.check_hostname = False
UNVERIFIED.verify_mode = ssl.CERT_NONE


def passes(probe, ip, container):
    patience = probe.get("timeoutSeconds", 1)
    try:
        if "httpGet" in probe:
            get = probe["httpGet"]
            port = port_of(get["port"], container)
            url = f"{get.get('scheme', 'HTTP').lower()}://{ip}:{port}{get.get('path', '/')}"
            with urllib.request.urlopen(url, timeout=patience, context=UNVERIFIED) as answer:
                return answer.status < 400
        if "tcpSocket" in probe:
            port = port_of(probe["tcpSocket"]["port"], container)
            socket.create_connection((ip, port), patience).close()
            return True
        if "grpc" in probe:
            grpc = probe["grpc"]
            return grpc_serving(ip, grpc["port"], grpc.get("service") or "", patience)
    except (OSError, ValueError):
        return False
    raise NotImplementedError(f"a probe of this kind: {probe}")


def port_of(port, container):
    named = {p.get("name"): p["containerPort"] for p in container.get("ports", [])}
    return port if isinstance(port, int) else named[port]


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name, value):
    """A header of HPACK: not indexed, a name and a value as they are, both short."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def read(connection, length):
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise OSError("the connection was closed")
        data += more
    return data


def grpc_serving(ip, port, service, patience):
    """One `grpc.health.v1.Health/Check` over HTTP/2 without TLS: whether it says SERVING."""
    question = b"\x0a" + bytes([len(service)]) + service.encode() if service else b""
    message = struct.pack(">BI", 0, len(question)) + question
    headers = b"".join(header(*pair) for pair in (
        (":method", "POST"), (":scheme", "http"), (":path", "/grpc.health.v1.Health/Check"),
        (":authority", f"{ip}:{port}"), ("content-type", "application/grpc"), ("te", "trailers")))
    with socket.create_connection((ip, port), patience) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
                           + frame(1, 4, 1, headers) + frame(0, 1, 1, message))
        while True:
            start = read(connection, 9)
            length, kind, flags = int.from_bytes(start[:3], "big"), start[3], start[4]
            stream = int.from_bytes(start[5:9], "big") & 0x7FFFFFFF
            payload = read(connection, length)
            if kind == 0 and stream == 1:
                # After the five bytes of gRPC's frame: field 1, SERVING.
                return payload[5:] == b"\x08\x01"
            if stream == 1 and (kind == 3 or kind == 1 and flags & 1) or kind == 7:
                return False
