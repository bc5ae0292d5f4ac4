"""The scan as an ONNX model-local function of standard operators: any runtime computes it without our library.

The function has the name and domain of the nodes, so a runtime without the plugin inlines it. Directions
are paired: "forward" holds row-major and column-major, "backward" their reverses, which the ``Scan``
operator itself reads and writes from the end. One step of its loop is one pixel of all four directions,
with channels innermost: broadcasting then runs along whole vectors.
"""

from __future__ import annotations

import onnx
import onnx.parser

from serpent.config import NUM_DIRECTIONS
from serpent.runtime.onnx_split import DOMAIN, OP_TYPE

PLUGIN_NAMESPACE = "serpent"
PLUGIN_VERSION = "1"
INPUTS = ("x", "x_dbl", "dt_weight", "dt_bias", "A", "D_skip")

# Sizes, and x as the pixel sequences (L, 2, B, 1, D) that both pairs read.
_HEAD = """
SelectiveScan2D <plugin_namespace, plugin_version> (x, x_dbl, dt_weight, dt_bias, A, D_skip) => (y)
{
  x32 = Cast <to = 1> (x)
  x_dbl32 = Cast <to = 1> (x_dbl)
  batch = Shape <start = 0, end = 1> (x)
  height = Shape <start = 1, end = 2> (x)
  width = Shape <start = 2, end = 3> (x)
  channels = Shape <start = 3, end = 4> (x)
  states = Shape <start = 2, end = 3> (A)
  rank = Shape <start = 2, end = 3> (dt_weight)
  all = Constant <value_ints = [-1]> ()
  zero = Constant <value_ints = [0]> ()
  one = Constant <value_ints = [1]> ()
  two = Constant <value_ints = [2]> ()
  four = Constant <value_ints = [4]> ()
  two32 = Constant <value = float {2.0}> ()

  lanes_shape = Concat <axis = 0> (all, one, batch, one, channels)
  x_by_row = Transpose <perm = [1, 2, 0, 3]> (x32)
  x_by_column = Transpose <perm = [2, 1, 0, 3]> (x32)
  x_rows = Reshape (x_by_row, lanes_shape)
  x_columns = Reshape (x_by_column, lanes_shape)
  x_pair = Concat <axis = 1> (x_rows, x_columns)

  columns_shape = Concat <axis = 0> (batch, height, width, four, all)
  columns = Reshape (x_dbl32, columns_shape)
  by_direction = Transpose <perm = [3, 1, 2, 0, 4]> (columns)
  part_0, part_1, part_2, part_3 = Split <axis = 0, num_outputs = 4> (by_direction)
  weight_0, weight_1, weight_2, weight_3 = Split <axis = 0, num_outputs = 4> (dt_weight)
  bias_0, bias_1, bias_2, bias_3 = Split <axis = 0, num_outputs = 4> (dt_bias)
  widths = Concat <axis = 0> (rank, states, states)
  in_shape = Concat <axis = 0> (all, one, batch, states, one)
  out_shape = Concat <axis = 0> (all, one, batch, one, states)
"""

# Direction K: its pixels in its own order (the loop reverses 2 and 3), and dt before softplus for all of them.
_DIRECTION = """
  ordered_K = Transpose <perm = PERM> (part_K)
  width_K = Shape <start = 4, end = 5> (ordered_K)
  pixels_shape_K = Concat <axis = 0> (all, width_K)
  pixels_K = Reshape (ordered_K, pixels_shape_K)
  dt_r_K, B_pixels_K, C_pixels_K = Split <axis = 1> (pixels_K, widths)
  weight2_K = Squeeze (weight_K, zero)
  raw_pixels_K = Gemm <transB = 1> (dt_r_K, weight2_K, bias_K)
  raw_K = Reshape (raw_pixels_K, lanes_shape)
  B_K = Reshape (B_pixels_K, in_shape)
  C_K = Reshape (C_pixels_K, out_shape)
"""

# softplus(v) = max(v, 0) + log1p(e), e = exp(-|v|). log1p has no operator, but log1p(e) = 2 atanh(e / (2 + e))
# does not cancel at small e.
_PAIR = """
  v_KEY = Concat <axis = 1> (raw_FIRST, raw_SECOND)
  B_KEY = Concat <axis = 1> (B_FIRST, B_SECOND)
  C_KEY = Concat <axis = 1> (C_FIRST, C_SECOND)
  positive_KEY = Relu (v_KEY)
  magnitude_KEY = Abs (v_KEY)
  negative_KEY = Neg (magnitude_KEY)
  e_KEY = Exp (negative_KEY)
  divisor_KEY = Add (two32, e_KEY)
  ratio_KEY = Div (e_KEY, divisor_KEY)
  half_log1p_KEY = Atanh (ratio_KEY)
  log1p_KEY = Mul (two32, half_log1p_KEY)
  dt_KEY = Add (positive_KEY, log1p_KEY)
  dt_x_KEY = Mul (dt_KEY, x_pair)
  A4_KEY = Unsqueeze (A_KEY3, one)
"""

_STEP = """
      decay_arg_KEY = Mul (dt_step_KEY, A4_KEY)
      decay_KEY = Exp (decay_arg_KEY)
      kept_KEY = Mul (decay_KEY, h_KEY)
      drive_KEY = Mul (dt_x_step_KEY, B_step_KEY)
      h_next_KEY = Add (kept_KEY, drive_KEY)
      y_KEY = MatMul (C_step_KEY, h_next_KEY)
"""

_STEP_INPUTS = (
    "float[2,B,1,D] dt_step_KEY, float[2,B,1,D] dt_x_step_KEY, "
    "float[2,B,N,1] B_step_KEY, float[2,B,1,N] C_step_KEY"
)

_LOOP = """
  A_lanes = Transpose <perm = [0, 2, 1]> (A)
  A_forward3, A_backward3 = Split <axis = 0, num_outputs = 2> (A_lanes)
  FORWARD_PAIR BACKWARD_PAIR
  state_shape = Concat <axis = 0> (two, batch, states, channels)
  h0 = ConstantOfShape (state_shape)
  last_forward, last_backward, y_all_forward, y_all_backward = Scan <
    num_scan_inputs = 8,
    scan_input_directions = [0, 0, 0, 0, 1, 1, 1, 1],
    scan_output_directions = [0, 1],
    body = step (float[2,B,N,D] h_forward, float[2,B,N,D] h_backward, FORWARD_STEP_INPUTS, BACKWARD_STEP_INPUTS)
      => (float[2,B,N,D] h_next_forward, float[2,B,N,D] h_next_backward,
          float[2,B,1,D] y_forward, float[2,B,1,D] y_backward)
    {FORWARD_STEP BACKWARD_STEP}
  > (h0, h0, dt_forward, dt_x_forward, B_forward, C_forward, dt_backward, dt_x_backward, B_backward, C_backward)
"""

_TAIL = """
  y_pair = Add (y_all_forward, y_all_backward)
  y_rows, y_columns = Split <axis = 1, num_outputs = 2> (y_pair)
  row_shape = Concat <axis = 0> (height, width, batch, channels)
  column_shape = Concat <axis = 0> (width, height, batch, channels)
  y_row_pixels = Reshape (y_rows, row_shape)
  y_column_pixels = Reshape (y_columns, column_shape)
  y_row_image = Transpose <perm = [2, 0, 1, 3]> (y_row_pixels)
  y_column_image = Transpose <perm = [2, 1, 0, 3]> (y_column_pixels)
  y_scanned = Add (y_row_image, y_column_image)
  skip = ReduceSum <keepdims = 0> (D_skip, zero)
  skipped = Mul (x32, skip)
  y32 = Add (y_scanned, skipped)
  y = CastLike (y32, x)
}
"""


def scan_function(opset: int) -> onnx.FunctionProto:
    """``serpent::SelectiveScan2D`` in operators of the standard domain at ``opset`` (18 or later).

    Takes x (B, H, W, D) and x_dbl in f32, f16 or bf16,
    scan weights in f32; computes in f32 and returns y in the type of x.
    """
    rows, columns = "[0, 1, 2, 3, 4]", "[0, 2, 1, 3, 4]"
    directions = "".join(
        _DIRECTION.replace("PERM", columns if k % 2 else rows).replace("_K", f"_{k}") for k in range(NUM_DIRECTIONS)
    )
    body = _HEAD + directions + _LOOP + _TAIL
    for key, first, second in (("forward", "0", "1"), ("backward", "2", "3")):
        pair = _PAIR.replace("FIRST", first).replace("SECOND", second)
        for mark, text in (("PAIR", pair), ("STEP_INPUTS", _STEP_INPUTS), ("STEP", _STEP)):
            body = body.replace(f"{key.upper()}_{mark}", text.replace("KEY", key))
    header = f'<domain: "{DOMAIN}", opset_import: ["" : {opset}]>'
    return onnx.parser.parse_function(header + body)
