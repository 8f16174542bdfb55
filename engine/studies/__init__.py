"""The studies, by name. A new study is a new file here and a line in this list."""

from engine.studies.audit import Audit
from engine.studies.bn_synthesis import BNSynthesis
from engine.studies.classifier import Classifier
from engine.studies.dp_merf import DPMERF
from engine.studies.dp_training import DPTraining
from engine.studies.fidelity import Fidelity
from engine.studies.gan import GAN
from engine.studies.gradient_sharing import GradientSharing
from engine.studies.iic import IIC
from engine.studies.initial_model import InitialModel
from engine.studies.inversion import Inversion
from engine.studies.kmeans_labels import KMeansLabels
from engine.studies.membership import Membership
from engine.studies.noise import Noise
from engine.studies.noisy_training import NoisyTraining
from engine.studies.student import Student

STUDIES = {
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
