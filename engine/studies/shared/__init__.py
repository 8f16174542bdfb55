"""Studies that several topics use as inputs."""

from engine.studies.shared.backbone import BACKBONES, DIMENSIONS, Backbone
from engine.studies.shared.features import MAPS, MOST_BYTES, NOT_RELEASED, Features

__all__ = ["BACKBONES", "Backbone", "DIMENSIONS", "Features", "MAPS", "MOST_BYTES", "NOT_RELEASED"]
