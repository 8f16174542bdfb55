"""Images made from the statistics of a trained network, and a student that learns from them."""

from engine.studies.synthesis.bn_synthesis import SPACES, BNSynthesis
from engine.studies.synthesis.classifier import Classifier, taught
from engine.studies.synthesis.student import Student

__all__ = ["BNSynthesis", "Classifier", "SPACES", "Student", "taught"]
