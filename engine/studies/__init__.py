"""The studies, by name. A new study is a new file here and a line in this list."""

from engine.studies.clustering.iic import IIC
from engine.studies.clustering.kmeans_labels import KMeansLabels
from engine.studies.dp_training.audit import Audit
from engine.studies.dp_training.dp_training import DPTraining
from engine.studies.dp_training.membership import Membership
from engine.studies.fidelity.dp_merf import DPMERF
from engine.studies.fidelity.fidelity import Fidelity
from engine.studies.fidelity.gan import GAN
from engine.studies.gradient_sharing.gradient_sharing import GradientSharing
from engine.studies.gradient_sharing.initial_model import InitialModel
from engine.studies.gradient_sharing.inversion import Inversion
from engine.studies.noise.noise import Noise
from engine.studies.noise.noisy_training import NoisyTraining
from engine.studies.synthesis.bn_synthesis import BNSynthesis
from engine.studies.synthesis.classifier import Classifier
from engine.studies.synthesis.student import Student

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
