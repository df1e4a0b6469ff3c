#!/usr/bin/env bash
# dyno, llama.cpp (compiled for CUDA), vLLM and SGLang on a GPU machine without a network, from what offline_pack.py packed.
#
#   bench/gpu/offline.sh engine PACK WORK     dyno's environment; llama.cpp, by dyno's own build; the models' files
#   bench/gpu/offline.sh vllm|sglang PACK WORK     that engine beside the torch that is here
#   bench/gpu/offline.sh live ENGINE WORK     the contract's live tests of llama-server, vllm or sglang
#   bench/gpu/offline.sh measure WORK [EXPERIMENT.yaml]
#
# PACK is the pack's folder of that name. PYTHON (python3) has torch; nvcc, gcc and Python's headers are here too. On an H200
# of 16 cores: some 5 minutes for `engine`, half a minute for `vllm`, 11 minutes for `measure`.
# Elsewhere, unpack WORK/gpu-bundles.tar.gz into DYNO_HOME and run `dyno rebuild`.
set -euo pipefail
part=$1; shift
here=$(cd "$(dirname "$0")/../.." && pwd)
python=$(command -v "${PYTHON:-python3}")
site=$($python -c 'import torch, pathlib; print(pathlib.Path(torch.__file__).parents[1])')
export PIP_NO_INDEX=1 UV_OFFLINE=1 HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1

packages_of() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

# An environment that falls back on the packages of the Python that has torch.
environment() {  # FOLDER WHEEL...
  local folder=$1; shift
  "$python" -m venv --without-pip "$folder"
  printf '%s\n' "$site" ${fallback:+"$fallback"} > "$(packages_of "$folder")/zz-fallback.pth"
  "$python" -m pip --python "$folder/bin/python" install -q --no-deps --no-compile --no-warn-script-location "$@"
}

# A toolkit may come without cuBLAS, which torch's own packages bring.
cublas() {  # WORK
  local root packaged=$site/nvidia/cu13
  root=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")
  if [ ! -e "$root/include/cublas_v2.h" ] && [ -e "$packaged/include/cublas_v2.h" ]; then
    mkdir -p "$1/cuda/include" "$1/cuda/lib64"
    ln -sf "$packaged"/include/* "$root"/include/* "$1/cuda/include/"
    ln -sf "$packaged"/lib/* "$root"/lib64/* "$1/cuda/lib64/"
    for library in "$1"/cuda/lib64/lib*.so.1?; do ln -sf "$(readlink -f "$library")" "${library%.so.*}.so"; done
    ln -sfn "$root/bin" "$1/cuda/bin"; ln -sfn "$root/nvvm" "$1/cuda/nvvm"
    export CUDAToolkit_ROOT=$1/cuda CUDACXX=$root/bin/nvcc CPATH=$1/cuda/include LIBRARY_PATH=$1/cuda/lib64
    export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$1/cuda/lib64
  fi
}

# What engines are run with: SGLang compiles kernels when it starts.
running() {  # WORK
  export DYNO_CACHE=$1/cache DYNO_HOME=$1/home LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$1/cuda/lib64
  if [ -d "$1/cuda" ]; then export CUDA_HOME=$1/cuda; fi
  for engine_here in vllm sglang; do
    if [ -d "$1/$engine_here-env" ]; then export "DYNO_${engine_here^^}_PYTHON=$1/$engine_here-env/bin/python"; fi
  done
}

case $part in
engine)
  pack=$(realpath "$1") work=$(realpath -m "$2"); export PIP_FIND_LINKS=$pack/wheels DYNO_CACHE=$work/cache
  environment "$work/dyno-env" "$pack"/wheels/*.whl
  cp -r "$here" "$work/source"
  "$python" -m pip --python "$work/dyno-env/bin/python" install -q --no-deps --no-build-isolation -e "$work/source"
  cublas "$work"
  cd "$work/source"
  "$work/dyno-env/bin/python" -m bench.gpu.prepare safetensors & safetensors=$!
  trap 'kill "$safetensors" 2>/dev/null || true' EXIT
  "$work/dyno-env/bin/python" -m bench.gpu.prepare gguf
  wait "$safetensors"
  ;;
vllm|sglang)
  pack=$(realpath "$1") work=$(realpath "$2"); fallback=$(packages_of "$work/dyno-env")
  environment "$work/$part-env" "$pack"/wheels/*.whl
  cp -r "$pack"/packages/* "$(packages_of "$work/$part-env")/"
  "$work/$part-env/bin/python" -I -c "import $part; print('$part', $part.__version__)"
  ;;
live)
  engine=$1 work=$(realpath "$2"); running "$work"
  cd "$work/source"
  "$work/dyno-env/bin/python" -m pytest -q -rxf -p no:cacheprovider tests/test_engine_live.py -m gpu -k "$engine and GPU"
  ;;
measure)
  work=$(realpath "$1") experiment=$(realpath "${2:-$here/bench/gpu/offline.yaml}"); running "$work"
  cd "$work"   # the experiment's paths begin here
  dyno-env/bin/dyno evaluate "$experiment" --price "${PRICE:-1.59}" || echo "some of it failed; what was measured is packed" >&2
  tar --exclude=prefect -C "$DYNO_HOME" -czf gpu-bundles.tar.gz .
  ;;
esac
