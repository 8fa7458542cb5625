"""Compile every Triton kernel for an H100, which needs no GPU, and print how many fused multiply-adds it holds."""

import re
from types import ModuleType
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from triform.kernels import ball_query_triton_torch as ball_query
from triform.kernels import edge_conv_triton_torch as edge_conv
from triform.kernels import farthest_point_sample_triton_torch as farthest_point_sample
from triform.kernels import k_nearest_triton_torch as k_nearest
from triform.kernels import nearest_neighbors_triton_torch as nearest_neighbors

INDICES = {"start", "indices", "neighbors", "first", "edges"}
NUMBERS = {"num_points", "num_samples", "num_centers", "num_neighbors", "num_queries", "num_vertices", "channels", "k"}


def pointer(name: str) -> str:
    return "*u8" if name == "slot" else "*fp64" if name == "sums" else "*i64" if name in INDICES else "*fp32"


def multiply_adds(module: ModuleType, name: str, num_warps: int = 4, *, fusion: bool = False, **constants: Any) -> None:
    kernel = getattr(module, name)
    types = {argument: pointer(argument) for argument in kernel.arg_names}
    signature = types | dict.fromkeys(NUMBERS & types.keys(), "i32") | dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": num_warps, "enable_fp_fusion": fusion})
    assert compiled.asm["cubin"]
    print(module.__name__.split(".")[-1].removesuffix("_triton_torch"), name, len(re.findall(r"\bfma\.", compiled.asm["ptx"])))


multiply_adds(farthest_point_sample, "_sample_held", 8, BLOCK=2048, RESIDENT=True)
multiply_adds(farthest_point_sample, "_sample_in_tiles", 32, TILE=4096)
multiply_adds(ball_query, "_first_within", SLOTS=32, CENTERS=8, POINTS=128)
multiply_adds(nearest_neighbors, "_search", QUERIES=32, POINTS=64)
multiply_adds(nearest_neighbors, "_gradient_of_queries", QUERIES=256)
multiply_adds(nearest_neighbors, "_gradient_of_points", QUERIES=64, POINTS=32)
multiply_adds(edge_conv, "_largest_neighbors", MOMENTS=True, WIDE=tl.float32, ROWS=16, CHANNELS=64)
multiply_adds(edge_conv, "_gradients_of_centers", WIDE=tl.float32, ROWS=16, CHANNELS=64)
multiply_adds(edge_conv, "_gradients_of_neighbors", 2, WIDE=tl.float32, EDGES=8, CHANNELS=64)
multiply_adds(k_nearest, "_select", fusion=True, SLOTS=32, ROWS=32, COLUMNS=64, CHANNELS=16)
