"""A client of the Kubernetes API."""

import json
import ssl
import urllib.error
import urllib.request

MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


class Api:
    def __init__(self, address, token, authority):
        self.address, self.token = address, token
        self.tls = ssl.create_default_context(cafile=authority)

    def call(self, method, path, body=None, kind="application/json"):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        with urllib.request.urlopen(request, context=self.tls, timeout=20) as answer:
            return json.load(answer)

    def get(self, path):
        """The object, or `None` where there is none."""
        try:
            return self.call("GET", path)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def items(self, path):
        found = self.get(path)
        return found["items"] if found else []

    def write(self, method, path, body=None, kind="application/json"):
        """Like `call`; `None` where someone else was faster."""
        try:
            return self.call(method, path, body, kind)
        except urllib.error.HTTPError as error:
            if error.code in (404, 409):
                return None
            raise OSError(f"{method} {path}: {error.code} {error.read().decode()[:500]}") from error

    def is_up(self):
        try:
            with urllib.request.urlopen(self.address + "/readyz", context=self.tls, timeout=2):
                return True
        except OSError:
            return False
