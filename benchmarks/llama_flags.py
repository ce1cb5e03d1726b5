"""`python -m benchmarks.llama_flags`: how llama.cpp is built for this processor, as CMAKE_ARGS.

Every instruction set by name and never -march=native, which made a library that died of an illegal
instruction on a virtual machine that hides some of what its processor has. AMX is left out: untried.
"""

from pathlib import Path

OPTIONS = {
    "GGML_AVX": {"avx"},
    "GGML_AVX2": {"avx2"},
    "GGML_FMA": {"fma"},
    "GGML_F16C": {"f16c"},
    "GGML_BMI2": {"bmi2"},
    "GGML_AVX512": {"avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"},
    "GGML_AVX512_VBMI": {"avx512vbmi"},
    "GGML_AVX512_VNNI": {"avx512_vnni"},
    "GGML_AVX512_BF16": {"avx512_bf16"},
}


def options(cpuinfo: str) -> list[str]:
    """The options for the first processor that the text of /proc/cpuinfo describes."""
    line = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    known = set(line.partition(":")[2].split())
    sets = [f"-D{name}={'ON' if needed <= known else 'OFF'}" for name, needed in OPTIONS.items()]
    return ["-DGGML_NATIVE=OFF", "-DLLAVA_BUILD=OFF", *sets]


if __name__ == "__main__":
    print(" ".join(options(Path("/proc/cpuinfo").read_text())))
