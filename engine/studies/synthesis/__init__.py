"""Images made from what a network remembers, and what a student learns from them."""

from engine.studies.synthesis.bn_synthesis import SPACES, BNSynthesis
from engine.studies.synthesis.classifier import Classifier, taught
from engine.studies.synthesis.student import Student

__all__ = ["BNSynthesis", "Classifier", "SPACES", "Student", "taught"]
