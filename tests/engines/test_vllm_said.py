"""What vLLM says of itself in its log and metrics."""

import pytest

from engines.vllm import ADAPTER


@pytest.mark.parametrize(("usage", "overhead_gib"), [
    ("15.27 GiB for consumed memory (weights + non-torch), 1.25 GiB for peak activation, and 0.50 GiB for CUDAGraph "
     "memory.", 15.27 - 14.99 + 1.25 + 0.50),
    ("14.99 GiB for weight, 1.25 GiB for peak activation, 0.09 GiB for non-torch memory, and 0.50 GiB for CUDAGraph "
     "memory.", 1.25 + 0.09 + 0.50)])
def test_the_memory_of_a_gpu_is_read_from_the_log(usage: str, overhead_gib: float) -> None:
    """Lines as the sources of 0.32 and 0.26 write them."""
    log = ("INFO [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='m', dtype=torch.bfloat16, "
           "quantization=None, enforce_eager=False, enable_prefix_caching=True, tensor_parallel_size=2\n"
           "INFO Model loading took 14.99 GiB memory and 5.100000 seconds\n"
           "INFO Chunked prefill is enabled with max_num_batched_tokens=8192.\n"
           "INFO GPU KV cache size: 401,232 tokens, Maximum concurrency for 4,096 tokens per request: 97.96x\n"
           "INFO Free memory on device (78.70/79.11 GiB) on startup. Desired GPU memory utilization is (0.9, 71.2 "
           f"GiB). Actual usage is {usage}\n")
    said = ADAPTER.inspect(None, lambda path: None, log)
    assert said.kv_cache_tokens == 401_232
    assert said.weights_bytes == round(14.99 * 2**30)
    assert said.overhead_bytes == pytest.approx(overhead_gib * 2**30, rel=1e-6)
    assert said.settings == {"dtype": "bfloat16", "quantization": None, "enforce_eager": False,
                             "enable_prefix_caching": True, "tensor_parallel_size": 2,
                             "max_num_batched_tokens": 8192}


def test_the_cache_s_size_is_in_the_metrics_of_a_server_that_says_no_more() -> None:
    for labels in ('kv_cache_size_tokens="131072"', 'num_gpu_blocks="1024",block_size="128"'):
        text = f'# TYPE vllm:cache_config_info gauge\nvllm:cache_config_info{{{labels}}} 1.0\n'
        said = ADAPTER.inspect(None, {"/metrics": text}.get)
        assert said.kv_cache_tokens == 131_072
