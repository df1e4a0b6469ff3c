#!/usr/bin/env bash
# Measures the engines on a machine with an NVIDIA GPU and packs what was measured.
#
#   bench/gpu/measure.sh [EXPERIMENT.yaml] [OUT.tar]      default: flows/experiments/gpu-shootout.yaml, gpu-bundles.tar
#
# Needs Python >= 3.11, gcc, make, nvcc (llama.cpp is compiled for CUDA) and, for TGI, Docker with GPUs. The engines come
# from the package registries (vLLM and SGLang: some 10 GB each, once). To ingest elsewhere, unpack OUT.tar into DYNO_HOME and
# run `dyno rebuild`.
set -euo pipefail
cd "$(dirname "$0")/../.."
experiment=${1:-flows/experiments/gpu-shootout.yaml} out=$(realpath -m "${2:-gpu-bundles.tar}")
command -v nvidia-smi >/dev/null || { echo "no NVIDIA driver here: nvidia-smi is missing" >&2; exit 1; }
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv
make setup
export DYNO_HOME=${DYNO_HOME:-$PWD/gpu-home}
.venv/bin/dyno doctor || true
.venv/bin/dyno evaluate "$experiment" || echo "some launches failed; what was measured is packed" >&2
tar --exclude=prefect -C "$DYNO_HOME" -cf "$out" .
echo "measured: $out ($(du -h "$out" | cut -f1))"
