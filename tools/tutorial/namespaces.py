"""Namespaces of Linux for all that a run starts, so that nothing of it can be left behind.

Processes, mounts and networks are in namespaces whose first process is this program, files on a
tmpfs that only those see: when it ends, however it does, the kernel takes away all of it.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading

INSIDE = "EPP_TUTORIAL_PIPE"
NEEDED = ("unshare", "nsenter", "setpriv", "ip", "openssl", "sysctl", "mount", "chroot", "curl")
# Folders that every system has and none of our files are below: one is covered by the tmpfs.
PLACES = ("/mnt", "/media", "/srv", "/opt")


def lacking():
    """What this machine does not let us do, or `None`."""
    if os.geteuid() != 0:
        return "it needs root"
    missing = [tool for tool in NEEDED if not shutil.which(tool)]
    if missing:
        return "it needs " + ", ".join(missing)
    probe = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "sh", "-ec",
             "mount -t tmpfs probe /mnt; ip link add probe type bridge; ip link add probe0 type veth"
             " peer name probe1"]
    result = subprocess.run(probe, capture_output=True, text=True)
    if result.returncode:
        return "it may not make namespaces: " + result.stderr.strip().splitlines()[-1]
    return None


def inside():
    return INSIDE in os.environ


def enter():
    """Runs this program again in namespaces of its own; returns its exit status."""
    why = lacking()
    if why:
        print(f"tutorial: not run, {why}", file=sys.stderr)
        # Who is root in CI means to run it.
        return 1 if os.environ.get("CI") == "true" and os.geteuid() == 0 else 0
    read, write = os.pipe()
    command = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
               "--propagation", "private", sys.executable, "-B", *sys.argv]
    child = subprocess.Popen(command, pass_fds=[read], env={**os.environ, INSIDE: str(read)},
                             stdin=subprocess.DEVNULL)
    os.close(read)

    ended_by = []

    def end(number, _):
        ended_by.append(number)
        child.kill()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    status = child.wait()
    os.close(write)
    if ended_by:
        print("\ntutorial: interrupted", file=sys.stderr)
        return 128 + ended_by[0]
    return status


def end_with_parent():
    """Ends this process, and with it the namespaces, when the one that started it is gone."""
    pipe = int(os.environ[INSIDE])
    # A terminal sends it to everyone; the parent decides.
    signal.signal(signal.SIGINT, lambda *_: None)

    def wait():
        os.read(pipe, 1)
        os._exit(130)
    threading.Thread(target=wait, daemon=True).start()


def scratch(name):
    """An empty folder on a tmpfs."""
    here = pathlib.Path(__file__).resolve()
    used = [here, pathlib.Path(sys.executable).resolve(), *map(pathlib.Path, sys.argv)]
    place = next(place for place in map(pathlib.Path, PLACES)
                 if place.is_dir() and not any(path.is_relative_to(place) for path in used))
    if not os.path.ismount(place):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tutorial", place], check=True)
    folder = place / name
    for below in ("logs", "root", "volumes"):
        (folder / below).mkdir(parents=True)
    return folder
