"""Makes ahead what `offline.yaml` asks for, so that a GPU paid by the hour does not wait: `python -m bench.gpu.prepare
safetensors|gguf`. The second compiles llama.cpp for CUDA first."""

import sys
import time

from engines import _checkpoints, _llama_build
from engines._hf_checkpoints import hf_checkpoint

MODEL = "synthetic-llama-3.2b"


def main(kind: str) -> None:
    begun = time.monotonic()

    def told(step: str, done: float | None = None, detail: str = "") -> None:
        if done in (None, 0.0, 1.0):
            print(f"{time.monotonic() - begun:6.1f} s  {step} {done} {detail}", flush=True)

    model = _checkpoints.resolve_model(MODEL)
    if kind == "safetensors":
        hf_checkpoint(model, "BF16", told)
    else:
        print(_llama_build.toolchain(cuda=True, progress=told))
        _checkpoints.checkpoint(model, "Q8_0", told)
    print(f"{time.monotonic() - begun:6.1f} s  {kind} ready", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
