"""The summary of a configuration."""

from __future__ import annotations

from fmrilm.config.schema import LMConfig, TokenizerConfig
from fmrilm.lm.summary.components import ScanSummary
from fmrilm.lm.summary.signals import SignalSummary


def build_summary(scan: TokenizerConfig, config: LMConfig, width: int) -> ScanSummary | None:
    """What stands behind a scan's own tokens; None where nothing does.

    Parameters
    ----------
    scan : TokenizerConfig
    config : LMConfig
    width : int
        Of the language model.
    """
    if not config.summary_tokens:
        return None
    if config.summary == "signals":
        return SignalSummary(scan, config, width)
    shape = scan.num_rois, scan.num_timestamp
    return ScanSummary(
        shape, bool(scan.roi_profile), config.summary_tokens, config.summary_components, width,
        config.summary_dropout,
    )  # fmt: skip
