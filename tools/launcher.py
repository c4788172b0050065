"""Programs that a tool starts on this machine: their ports, their logs, and their end.

Shared by the tools of this folder. Only the standard library is used.
"""

import os
import pathlib
import shutil
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
# Seconds that a program may take until it serves, and until it ends when asked to.
PATIENCE = 30
GRACE = 5


def free_port(preferred=0):
    """The preferred port of the loopback if it is free, else any free one."""
    for wanted in (preferred, 0):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", wanted))
                return s.getsockname()[1]
            except OSError:
                continue
    sys.exit("no free port on 127.0.0.1")


def answers(url, errors=False):
    """Whether a GET is answered: with 200, or with anything where errors count too."""
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return errors or answer.status == 200
    except urllib.error.HTTPError:
        return errors
    except OSError:
        return False


class Program:
    """A running program and the file with what it printed."""

    def __init__(self, name, command, log):
        self.name, self.log = name, log
        with open(log, "wb") as out:
            self.child = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL,
                                          stdout=out, stderr=subprocess.STDOUT)

    def output(self):
        return self.log.read_text(errors="replace")


class Launcher:
    """Starts programs, each with a log in one folder, and ends them all.

    Used with `with`: at its end the programs are gone, and so is the folder.
    """

    def __init__(self, prefix):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=prefix))
        self.programs = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def start(self, name, command, ready):
        """Starts a program and waits until `ready(program)` is true; exits with its last words
        where it ends before, or takes too long."""
        program = Program(name, command, self.dir / f"{name}.log")
        self.programs.append(program)
        deadline = time.monotonic() + PATIENCE
        while not ready(program):
            code = program.child.poll()
            if code is not None or time.monotonic() > deadline:
                why = f"ended with {code}" if code is not None else f"not ready after {PATIENCE} s"
                sys.exit(f"{name}: {why}\n{program.output()[-2000:]}")
            time.sleep(0.05)
        return program

    def stop(self, programs=None, grace=GRACE):
        """Asks these programs to end, all without an argument, and kills those that have not
        after so many seconds."""
        programs = list(self.programs if programs is None else programs)
        for program in reversed(programs):
            program.child.terminate()
        for program in programs:
            try:
                program.child.wait(timeout=grace)
            except subprocess.TimeoutExpired:
                program.child.kill()
                program.child.wait()
        self.programs = [p for p in self.programs if p not in programs]
