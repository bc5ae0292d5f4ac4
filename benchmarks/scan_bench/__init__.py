"""Parts of ``benchmarks/bench_scan.py``; they need torch, a C++ compiler (nvcc for the CUDA ceilings), no numpy."""
