"""The scan as an ONNX model-local function of standard operators: any runtime computes it without our library.

The function has the name and domain of the nodes, so a runtime without the plugin inlines it. One step of
its ``Scan`` is one pixel of each of the four directions, with channels innermost: broadcasting then runs
along whole vectors. What needs no state (dt, dt x) is computed for all pixels before it.
"""

from __future__ import annotations

import re

import onnx
import onnx.parser

from serpent.config import NUM_DIRECTIONS
from serpent.identity import NAMESPACE

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
  four = Constant <value_ints = [4]> ()
  before_first = Constant <value_ints = [-9223372036854775807]> ()
  two32 = Constant <value = float {2.0}> ()

  pixels_shape = Concat <axis = 0> (all, batch, channels)
  columns_shape = Concat <axis = 0> (batch, height, width, four, all)
  widths = Concat <axis = 0> (rank, states, states)
  lanes_shape = Concat <axis = 0> (all, one, batch, one, channels)
  in_shape = Concat <axis = 0> (all, one, batch, states, one)
  out_shape = Concat <axis = 0> (all, one, batch, one, states)

  columns = Reshape (x_dbl32, columns_shape)
  by_direction = Transpose <perm = [3, 1, 2, 0, 4]> (columns)
  part_0, part_1, part_2, part_3 = Split <axis = 0, num_outputs = 4> (by_direction)
  weight_0, weight_1, weight_2, weight_3 = Split <axis = 0, num_outputs = 4> (dt_weight)
  bias_0, bias_1, bias_2, bias_3 = Split <axis = 0, num_outputs = 4> (dt_bias)
"""

# Direction _K: x, dt before softplus, B and C of its pixels (L, 1, B, ...) in the order it visits them.
_DIRECTION = """
  ordered_K = Transpose <perm = PART_ORDER> (part_K)
  width_K = Shape <start = 4, end = 5> (ordered_K)
  steps_shape_K = Concat <axis = 0> (all, batch, width_K)
  columns_forward_K = Reshape (ordered_K, steps_shape_K)
  x_ordered_K = Transpose <perm = X_ORDER> (x32)
  x_forward_K = Reshape (x_ordered_K, pixels_shape)
  columns_K = TURN (columns_forward_K)
  x_turned_K = TURN (x_forward_K)
  x_K = Reshape (x_turned_K, lanes_shape)
  rows_shape_K = Concat <axis = 0> (all, width_K)
  rows_K = Reshape (columns_K, rows_shape_K)
  dt_r_K, B_rows_K, C_rows_K = Split <axis = 1> (rows_K, widths)
  weight2_K = Squeeze (weight_K, zero)
  dt_raw_rows_K = Gemm <transB = 1> (dt_r_K, weight2_K, bias_K)
  dt_raw_K = Reshape (dt_raw_rows_K, lanes_shape)
  B_K = Reshape (B_rows_K, in_shape)
  C_K = Reshape (C_rows_K, out_shape)
"""

# softplus(v) = max(v, 0) + log1p(e), e = exp(-|v|). log1p has no operator, but log1p(e) = 2 atanh(e / (2 + e))
# does not cancel at small e.
_LOOP = """
  v = Concat <axis = 1> (dt_raw_0, dt_raw_1, dt_raw_2, dt_raw_3)
  magnitude = Abs (v)
  negative = Neg (magnitude)
  e = Exp (negative)
  divisor = Add (e, two32)
  ratio = Div (e, divisor)
  half_log1p = Atanh (ratio)
  log1p = Mul (half_log1p, two32)
  positive = Relu (v)
  dt = Add (log1p, positive)
  x_all = Concat <axis = 1> (x_0, x_1, x_2, x_3)
  dt_x = Mul (x_all, dt)
  B = Concat <axis = 1> (B_0, B_1, B_2, B_3)
  C = Concat <axis = 1> (C_0, C_1, C_2, C_3)
  A_lanes = Transpose <perm = [0, 2, 1]> (A)
  decay_rate = Unsqueeze (A_lanes, one)
  state_shape = Concat <axis = 0> (four, batch, states, channels)
  h_first = ConstantOfShape (state_shape)
  h_last, y_all = Scan <
    num_scan_inputs = 4,
    body = step (float[4, B, N, D] h, float[4, B, 1, D] dt_step, float[4, B, 1, D] dt_x_step,
                 float[4, B, N, 1] B_step, float[4, B, 1, N] C_step)
      => (float[4, B, N, D] h_next, float[4, B, 1, D] y_step)
    {
      exponent = Mul (dt_step, decay_rate)
      decay = Exp (exponent)
      kept = Mul (decay, h)
      drive = Mul (dt_x_step, B_step)
      h_next = Add (kept, drive)
      y_step = MatMul (C_step, h_next)
    }
  > (h_first, dt, dt_x, B, C)
"""

_TAIL = """
  y_forward_0, y_forward_1, y_backward_2, y_backward_3 = Split <axis = 1, num_outputs = 4> (y_all)
  y_forward_2 = Slice (y_backward_2, all, before_first, zero, all)
  y_forward_3 = Slice (y_backward_3, all, before_first, zero, all)
  y_rows = Add (y_forward_0, y_forward_2)
  y_columns = Add (y_forward_1, y_forward_3)
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


# The same loop with the decay rates as a second state that no step changes: its body captures nothing.
_CLOSED = (
    ("h_last, y_all = Scan", "h_last, rate_last, y_all = Scan"),
    ("step (float[4, B, N, D] h, ", "step (float[4, B, N, D] h, float[4, 1, N, D] rate, "),
    ("=> (float[4, B, N, D] h_next, ", "=> (float[4, B, N, D] h_next, float[4, 1, N, D] rate_next, "),
    ("exponent = Mul (dt_step, decay_rate)", "rate_next = Identity (rate)\n      exponent = Mul (dt_step, rate)"),
    ("> (h_first, dt,", "> (h_first, decay_rate, dt,"),
)


def scan_function(opset: int, *, closed_body: bool = False) -> onnx.FunctionProto:
    """``serpent::SelectiveScan2D`` in operators of the standard domain at ``opset`` (18 or later).

    With ``closed_body`` the body of its ``Scan`` reads no tensor from outside; the results are the same.

    Takes x (B, H, W, D) and x_dbl in f32, f16 or bf16,
    scan weights in f32; computes in f32 and returns y in the type of x.
    """
    directions = "".join(_direction(k) for k in range(NUM_DIRECTIONS))
    header = f'<domain: "{NAMESPACE}", opset_import: ["" : {opset}]>'
    loop = _LOOP
    for open_form, closed_form in _CLOSED if closed_body else ():
        assert open_form in loop
        loop = loop.replace(open_form, closed_form)
    return onnx.parser.parse_function(header + _HEAD + directions + loop + _TAIL)


def _direction(k: int) -> str:
    by_column = k % 2 == 1
    text = _DIRECTION.replace("PART_ORDER", "[0, 2, 1, 3, 4]" if by_column else "[0, 1, 2, 3, 4]")
    text = text.replace("X_ORDER", "[2, 1, 0, 3]" if by_column else "[1, 2, 0, 3]")
    if k >= 2:  # a reverse order: the same pixels from the last to the first
        text = re.sub(r"TURN \((\w+)\)", r"Slice (\1, all, before_first, zero, all)", text)
    return text.replace("TURN", "Identity").replace("_K", f"_{k}")
