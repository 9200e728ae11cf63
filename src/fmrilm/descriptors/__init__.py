"""Series to measures to sentences: families of text descriptors, fitted on training scans."""

from fmrilm.descriptors.activation import Activation
from fmrilm.descriptors.base import COUNTS, DESCRIPTORS, Descriptor
from fmrilm.descriptors.connectivity import Connectivity
from fmrilm.descriptors.facts import Fact, Quantity, Sentence, Statement

__all__ = [
    "COUNTS",
    "DESCRIPTORS",
    "Activation",
    "Connectivity",
    "Descriptor",
    "Fact",
    "Quantity",
    "Sentence",
    "Statement",
]
