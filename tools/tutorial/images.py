"""What stands in the place of container images."""

import pathlib
import re

HERE = pathlib.Path(__file__).resolve().parent


class Image:
    """Files that a container finds in its root, what it starts without a command, and as whom."""

    def __init__(self, files, entrypoint=(), user=65532):
        self.files, self.entrypoint, self.user = files, list(entrypoint), user


class Images:
    def __init__(self, programs, kserve):
        epp = Image({"/app/epp": programs / "epp"}, ["/app/epp"])
        self.known = [
            (r"(^|/)epp:", epp),
            # The schedulers that KServe's presets name, 0.16 and 0.20.
            (r"llm-d-inference-scheduler|llm-d-router-endpoint-picker", epp),
            (r"llm-d-dev|llm-d-cuda", Image({"/app/vllm": HERE / "vllm.sh",
                                             "/app/epp-sim": programs / "epp-sim"})),
            (r"routing-sidecar|disagg-sidecar", Image({"/app/pd-sidecar": HERE / "relay.py"},
                                                      ["/app/pd-sidecar"])),
            (r"llmisvc-controller", Image({"/manager": kserve}, ["/manager"])),
        ]

    def of(self, container):
        """The image of a container, or `None`: it is then not run, and counts as ready. Those are
        the ones that fetch a model, and KServe's tokenizer, which epp does without."""
        found = (image for name, image in self.known if re.search(name, container["image"]))
        return next(found, None)
