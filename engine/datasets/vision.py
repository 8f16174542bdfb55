"""The one door to torchvision: `from engine.datasets.vision import torchvision`.

A CPU build of torch beside a CUDA build of torchvision (what pip gives on a machine without a GPU)
cannot load torchvision's operators, and then `import torchvision` fails although data sets,
transforms and models need none of them. Declaring the two operators that its import looks for is
enough.
"""

import torch

# Held for the life of the process: a Library takes its declarations with it when it is collected.
_DECLARED: list[torch.library.Library] = []


def _declare_missing_operators() -> None:
    """Name the operators nms and qnms, without an implementation: calling them still raises."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _DECLARED.append(library)


try:
    import torchvision
# not ImportError: torchvision swallows that of its own library and fails later
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    # Only now: where the real operators load, declaring them a second time would be the error.
    _declare_missing_operators()
    import torchvision

__all__ = ["torchvision"]
