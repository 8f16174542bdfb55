"""The only place that imports torchvision: `from engine.datasets.vision import torchvision`.

A CPU build of torch with a CUDA build of torchvision (which pip installs on a machine without a
GPU) cannot load torchvision's operators. `import torchvision` then fails, although data sets,
transforms and models need none of them. Declaring the two operators that its import looks up is
enough.
"""

import torch

# Kept for the life of the process: a Library removes its declarations when it is collected.
_DECLARED: list[torch.library.Library] = []


def _declare_missing_operators() -> None:
    """Declare the operators nms and qnms without an implementation; calling them still raises."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _DECLARED.append(library)


try:
    import torchvision
# not ImportError: torchvision catches that of its own library and fails later
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    # Only in this case: where the real operators load, declaring them again would be an error.
    _declare_missing_operators()
    import torchvision

__all__ = ["torchvision"]
