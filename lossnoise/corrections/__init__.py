"""Corrections: what a network learns from while some of its labels are wrong.

``CORRECTIONS`` is the one registry, from the name that `NoisyLabelTrainer` takes to the class.
"""

from lossnoise.corrections.backward import BackwardCorrection
from lossnoise.corrections.base import Batch, Correction, Engine, EpochContext
from lossnoise.corrections.bootstrap_hard import BootstrapHard
from lossnoise.corrections.bootstrap_soft import BootstrapSoft
from lossnoise.corrections.co_teaching_plus import CoTeachingPlus
from lossnoise.corrections.cross_entropy import CrossEntropy
from lossnoise.corrections.d2l import D2L
from lossnoise.corrections.dyr_h import DyrH
from lossnoise.corrections.dyr_s import DyrS
from lossnoise.corrections.forward import ForwardCorrection
from lossnoise.corrections.joint_optimization import JointOptimization
from lossnoise.corrections.learning_to_reweight import LearningToReweight
from lossnoise.corrections.m_dyr_h import MDyrH
from lossnoise.corrections.m_dyr_s import MDyrS
from lossnoise.corrections.md_dyr_h import MDDyrH
from lossnoise.corrections.md_dyr_sh import MDDyrSH
from lossnoise.corrections.mentornet_dd import MentorNetDD
from lossnoise.corrections.mentornet_pd import MentorNetPD
from lossnoise.corrections.mixup import Mixup
from lossnoise.corrections.open_set import OpenSet

CORRECTIONS: dict[str, type[Correction]] = {
    "cross-entropy": CrossEntropy,
    "bootstrap-soft": BootstrapSoft,
    "bootstrap-hard": BootstrapHard,
    "forward": ForwardCorrection,
    "backward": BackwardCorrection,
    "mixup": Mixup,
    "dyr-s": DyrS,
    "dyr-h": DyrH,
    "m-dyr-s": MDyrS,
    "m-dyr-h": MDyrH,
    "md-dyr-h": MDDyrH,
    "md-dyr-sh": MDDyrSH,
    "mentornet-pd": MentorNetPD,
    "mentornet-dd": MentorNetDD,
    "learning-to-reweight": LearningToReweight,
    "joint-optimization": JointOptimization,
    "co-teaching-plus": CoTeachingPlus,
    "d2l": D2L,
    "open-set": OpenSet,
}

__all__ = [
    "CORRECTIONS",
    "D2L",
    "BackwardCorrection",
    "Batch",
    "BootstrapHard",
    "BootstrapSoft",
    "CoTeachingPlus",
    "Correction",
    "CrossEntropy",
    "DyrH",
    "DyrS",
    "Engine",
    "EpochContext",
    "ForwardCorrection",
    "JointOptimization",
    "LearningToReweight",
    "MDDyrH",
    "MDDyrSH",
    "MDyrH",
    "MDyrS",
    "MentorNetDD",
    "MentorNetPD",
    "Mixup",
    "OpenSet",
]
