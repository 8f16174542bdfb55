"""The registry of studies, by name.

To add a study, write a new module here and add its class to STUDIES.
"""

from engine.studies.clustering import IIC, KMeansLabels
from engine.studies.dp_training import Audit, DPTraining, Membership
from engine.studies.fidelity import DPMERF, GAN, Fidelity
from engine.studies.gradient_sharing import GradientSharing, InitialModel, Inversion
from engine.studies.image_study import ImageStudy
from engine.studies.noise import Noise, NoisyTraining
from engine.studies.synthesis import BNSynthesis, Classifier, Student

STUDIES: dict[str, type[ImageStudy]] = {
    study.NAME: study
    for study in (
        Noise,
        NoisyTraining,
        KMeansLabels,
        IIC,
        DPTraining,
        Audit,
        Membership,
        Classifier,
        BNSynthesis,
        Student,
        GAN,
        DPMERF,
        Fidelity,
        InitialModel,
        GradientSharing,
        Inversion,
    )
}
