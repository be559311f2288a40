"""ONNX files that OpenCV's TrackerNano and TrackerVit take, without learning: they find the red target of smooth_video.

Their box has its size, 30 x 24 px, around the 64 x 64 px of a crop, in steps of 16, that are reddest or least blue.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

REDNESS = np.array([1, -0.5, -0.5])  # of RGB in [0, 1]: 1 on pure red, 0 on grey


def write_nano(folder: Path) -> None:
    """A backbone that takes RGB of 0 to 255, and a head; OpenCV takes 16 i - 1 for the middle of cell i, 16 i + 8."""
    half_w, half_h = 15 * 127 / 53.9, 12 * 127 / 53.9  # crop of 127 px; sqrt((30 + 27) (24 + 27)) = 53.9
    constants = {
        "redness": cells(REDNESS / 255),
        "classes": floats([-30, 30], (2, 1, 1, 1)),
        "bias": floats([6, -6], (2,)),
        "no_slope": floats([0] * 4, (4, 1, 1, 1)),
        "sides": floats([half_w - 9, half_h - 9, half_w + 9, half_h + 9], (4,)),  # left, top, right, bottom
    }
    conv = node("Conv", "input redness", "output", kernel_shape=[64, 64], strides=[16, 16], pads=[24, 24, 25, 25])
    save(folder / "backbone.onnx", [conv], {"input": (1, 3, "h", "w")}, {"output": (1, 1, "y", "x")}, constants)
    nodes = [
        *unused("input1", "input2", "red"),
        node("Conv", "red classes bias", "output1", kernel_shape=[1, 1]),
        node("Conv", "red no_slope sides", "output2", kernel_shape=[1, 1]),
    ]
    inputs = {"input1": (1, 1, 8, 8), "input2": (1, 1, 16, 16)}
    save(folder / "head.onnx", nodes, inputs, {"output1": (1, 2, 16, 16), "output2": (1, 4, 16, 16)}, constants)


def write_vit(folder: Path) -> None:
    """One network that takes BGR, normalised; it sees blue alone.

    OpenCV 5.0 divides by the deviations as if they were a quaternion, which turns green and red around.
    """
    constants = {
        "darkness": cells(np.array([-1, 0, 0])),
        "size": floats([30 / 107.3, 24 / 107.3], (1, 2, 1, 1)),  # of a crop of 4 sqrt(30 * 24) = 107.3 px
        "half": floats([0.5, 0.5], (1, 2, 1, 1)),
        "zero": floats(0, ()),
    }
    nodes = [
        *unused("template", "search", "seen"),
        node("Conv", "seen darkness", "dark", kernel_shape=[64, 64], strides=[16, 16], pads=[24] * 4),
        node("Relu", "dark", "output1"),
        node("Mul", "dark zero", "nothing"),
        node("Add", "nothing size", "output2"),
        node("Add", "nothing half", "output3"),
    ]
    inputs = {"template": (1, 3, 128, 128), "search": (1, 3, 256, 256)}
    outputs = {"output1": (1, 1, 16, 16), "output2": (1, 2, 16, 16), "output3": (1, 2, 16, 16)}
    save(folder / "vittrack.onnx", nodes, inputs, outputs, constants)


def floats(values: object, shape: tuple[int, ...]) -> np.ndarray:
    return np.array(values, np.float32).reshape(shape)


def cells(weights: np.ndarray) -> np.ndarray:
    """A convolution's weights that average a weighted sum of three channels over 64 x 64 pixels."""
    return np.broadcast_to(floats(weights, (1, 3, 1, 1)), (1, 3, 64, 64)) / np.float32(4096)


def node(kind: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def unused(ignored: str, used: str, output: str) -> list[onnx.NodeProto]:
    """`output` is `used`; OpenCV looks for inputs that nothing reads in vain."""
    return [
        node("ReduceMean", ignored, "level", keepdims=1),
        node("Sub", "level level", "none"),
        node("Add", f"{used} none", output),
    ]


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int | str, ...]],
    outputs: dict[str, tuple[int | str, ...]],
    constants: dict[str, np.ndarray],
) -> None:
    """Write a model that onnx finds valid, with the constants that it needs."""
    needed = {name for one in nodes for name in one.input}
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.ascontiguousarray(constants[name]), name) for name in constants if name in needed],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
