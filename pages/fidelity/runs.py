"""The studies of page Fidelity: three generators, and a measurement of each set of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.core.study import Study
from engine.studies.ensemble import Ensemble
from engine.studies.fidelity import DPMERF, GAN, Fidelity


@dataclass(frozen=True)
class Runs:
    """What one press of Run computes, by name."""

    study: Fidelity  # all settings of the page
    generators: Mapping[str, Study]
    sets: dict[str, Fidelity]  # measurements of the generators' images and of the controls
    together: Ensemble  # trains all generators

    @classmethod
    def of(cls, study: Fidelity) -> Runs:
        """All studies of these settings."""
        generators = study.generators()
        together = Ensemble(members=tuple(generators.values()))
        return cls(study, generators, study.table(), together)

    def all(self) -> dict[str, Study]:
        """Every study under its name."""
        measuring = {f"measuring: {name}": each for name, each in self.sets.items()}
        return {"the generators": self.together, **measuring}

    def steps(self, name: str) -> int:
        """The total number of steps of a generator."""
        generator = self.generators[name]
        if isinstance(generator, DPMERF):
            return generator.merf_steps
        assert isinstance(generator, GAN)  # there is no third kind
        return generator.usual("steps")
