"""Series to measures to sentences: families of text descriptors, fitted on training scans."""

from fmrilm.descriptors.activation import Activation
from fmrilm.descriptors.base import COUNTS, DESCRIPTORS, Descriptor
from fmrilm.descriptors.connectivity import Connectivity
from fmrilm.descriptors.dynamics import Dynamics
from fmrilm.descriptors.gradients import Gradients
from fmrilm.descriptors.graph import Graph
from fmrilm.descriptors.ica import ICA
from fmrilm.descriptors.regions import Regions
from fmrilm.descriptors.text.facts import Fact, Quantity, Sentence, Statement
from fmrilm.descriptors.text.verify import Verdict, Verification, verify

__all__ = [
    "COUNTS",
    "DESCRIPTORS",
    "ICA",
    "Activation",
    "Connectivity",
    "Descriptor",
    "Dynamics",
    "Fact",
    "Gradients",
    "Graph",
    "Quantity",
    "Regions",
    "Sentence",
    "Statement",
    "Verdict",
    "Verification",
    "verify",
]
