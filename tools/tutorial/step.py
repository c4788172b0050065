"""Steps that are told as they go, and conditions that are waited for."""

import time


class Failed(Exception):
    """A step did not do what it has to."""


class Reporter:
    """Prints a line for every step: what it was, and how long it took."""

    def __init__(self, version):
        self.version = version
        self.at = time.monotonic()
        self.what = "start"

    def step(self, what):
        self.at, self.what = time.monotonic(), what

    def done(self, found=""):
        seconds = time.monotonic() - self.at
        found = f": {found}" if found else ""
        print(f"KServe {self.version}  {seconds:5.1f} s  {self.what}{found}", flush=True)

    def skipped(self, what):
        print(f"KServe {self.version}  skipped  {what}", flush=True)

    def failed(self, failure):
        print(f"KServe {self.version}  FAILED   {self.what}: {failure}", flush=True)


def eventually(what, condition, seconds=180, every=0.1):
    """The first true value of `condition()`; an error where there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(every)


def must(condition, why):
    if not condition:
        raise Failed(why)
