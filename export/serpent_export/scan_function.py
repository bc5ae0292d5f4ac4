"""The scan as an ONNX model-local function of standard operators: any runtime computes it without our library.

The function has the name and domain of the nodes, so a runtime without the plugin inlines it. Directions
are paired: "forward" holds row-major and column-major, "backward" their reverses, which the ``Scan``
operator itself reads and writes from the end. One step of its loop is one pixel of all four directions,
with channels innermost: broadcasting then runs along whole vectors.
"""

from __future__ import annotations

import onnx
import onnx.parser

from serpent.runtime.onnx_split import DOMAIN, OP_TYPE

PLUGIN_NAMESPACE = "serpent"
PLUGIN_VERSION = "1"
INPUTS = ("x", "x_dbl", "dt_weight", "dt_bias", "A", "D_skip")

# dt is computed for all pixels before the loop. log1p has no operator: with u = 1 + e it is
# log(u) * e / (u - 1), exact to rounding because u - 1 carries the same rounding error as log(u) does
# (Goldberg 1991, theorem 4); where u is 1, it is e.
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
  one = Constant <value_ints = [1]> ()
  two = Constant <value_ints = [2]> ()
  four = Constant <value_ints = [4]> ()

  columns_shape = Concat <axis = 0> (batch, height, width, four, all)
  columns = Reshape (x_dbl32, columns_shape)
  by_direction = Transpose <perm = [3, 0, 1, 2, 4]> (columns)
  widths = Concat <axis = 0> (rank, states, states)
  dt_r, B, C = Split <axis = 4> (by_direction, widths)

  rows_shape = Concat <axis = 0> (four, all, rank)
  dt_rows = Reshape (dt_r, rows_shape)
  weight = Transpose <perm = [0, 2, 1]> (dt_weight)
  projected = MatMul (dt_rows, weight)
  bias = Unsqueeze (dt_bias, one)
  v = Add (projected, bias)
  positive = Relu (v)
  magnitude = Abs (v)
  negative = Neg (magnitude)
  e = Exp (negative)
  one32 = Constant <value = float {1.0}> ()
  zero32 = Constant <value = float {0.0}> ()
  u = Add (one32, e)
  rounded_e = Sub (u, one32)
  tiny = Equal (rounded_e, zero32)
  divisor = Where (tiny, one32, rounded_e)
  log_u = Log (u)
  correction = Div (e, divisor)
  corrected = Mul (log_u, correction)
  log1p = Where (tiny, e, corrected)
  dt_all = Add (positive, log1p)
  dt_shape = Concat <axis = 0> (four, batch, height, width, channels)
  dt = Reshape (dt_all, dt_shape)
  dt_x = Mul (dt, x32)
"""

# NAME (4, B, H, W, F) to two sequences (L, 2, B, ...), pixels first in the order of each direction.
_SEQUENCE = """
  NAME_0, NAME_1, NAME_2, NAME_3 = Split <axis = 0, num_outputs = 4> (NAME)
  NAME_t0 = Transpose <perm = [2, 3, 0, 1, 4]> (NAME_0)
  NAME_t1 = Transpose <perm = [3, 2, 0, 1, 4]> (NAME_1)
  NAME_t2 = Transpose <perm = [2, 3, 0, 1, 4]> (NAME_2)
  NAME_t3 = Transpose <perm = [3, 2, 0, 1, 4]> (NAME_3)
  NAME_steps_shape = Concat <axis = 0> (all, one, batch, TAIL)
  NAME_s0 = Reshape (NAME_t0, NAME_steps_shape)
  NAME_s1 = Reshape (NAME_t1, NAME_steps_shape)
  NAME_s2 = Reshape (NAME_t2, NAME_steps_shape)
  NAME_s3 = Reshape (NAME_t3, NAME_steps_shape)
  NAME_forward = Concat <axis = 1> (NAME_s0, NAME_s1)
  NAME_backward = Concat <axis = 1> (NAME_s2, NAME_s3)
"""

_STEP = """
      decay_arg_KEY = Mul (dt_KEY, A_KEY)
      decay_KEY = Exp (decay_arg_KEY)
      kept_KEY = Mul (decay_KEY, h_KEY)
      drive_KEY = Mul (dt_x_KEY, B_KEY)
      h_next_KEY = Add (kept_KEY, drive_KEY)
      y_KEY = MatMul (C_KEY, h_next_KEY)
"""

_STEP_INPUTS = (
    "float[2,B,1,D] dt_KEY, float[2,B,1,D] dt_x_KEY, float[2,B,N,1] B_KEY, float[2,B,1,N] C_KEY"
)

_LOOP = """
  A_lanes = Transpose <perm = [0, 2, 1]> (A)
  A_forward4, A_backward4 = Split <axis = 0, num_outputs = 2> (A_lanes)
  A_forward = Unsqueeze (A_forward4, one)
  A_backward = Unsqueeze (A_backward4, one)
  state_shape = Concat <axis = 0> (two, batch, states, channels)
  h0 = ConstantOfShape (state_shape)
  last_forward, last_backward, y_all_forward, y_all_backward = Scan <
    num_scan_inputs = 8,
    scan_input_directions = [0, 0, 0, 0, 1, 1, 1, 1],
    scan_output_directions = [0, 1],
    body = step (float[2,B,N,D] h_forward, float[2,B,N,D] h_backward, FORWARD_INPUTS, BACKWARD_INPUTS)
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
  axis0 = Constant <value_ints = [0]> ()
  skip = ReduceSum <keepdims = 0> (D_skip, axis0)
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
    tails = {"dt": "one, channels", "dt_x": "one, channels", "B": "states, one", "C": "one, states"}
    sequences = "".join(_SEQUENCE.replace("NAME", name).replace("TAIL", tail) for name, tail in tails.items())
    loop = _LOOP
    for key in ("forward", "backward"):
        loop = loop.replace(f"{key.upper()}_INPUTS", _STEP_INPUTS.replace("KEY", key))
        loop = loop.replace(f"{key.upper()}_STEP", _STEP.replace("KEY", key))
    header = f'<domain: "{DOMAIN}", opset_import: ["" : {opset}]>'
    return onnx.parser.parse_function(header + _HEAD + sequences + loop + _TAIL)
