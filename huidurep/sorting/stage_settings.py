"""The settings of all stages: numbers that were tuned once for all probes, for benchmarks and experts."""

from __future__ import annotations

from dataclasses import dataclass

from .bad_channels import BadChannelSettings
from .caching import CachingSettings
from .clustering import ClusteringSettings
from .curation import CurationSettings
from .matched_filter import MatchedFilterSettings
from .matching import MatchingSettings
from .motion import MotionSettings
from .noise_levels import NoiseLevelSettings
from .peak_signs import PeakSignSettings
from .postprocessing import PostprocessingSettings
from .preprocessing import PreprocessingSettings
from .quality_metrics import QualitySettings


@dataclass(frozen=True)
class StageSettings:
    """Settings of the stages of a sorting, one class a stage, in their order.

    Attributes
    ----------
    noise_levels : NoiseLevelSettings
        Of the traces; matched filter and matching have their own.
    preprocessing : PreprocessingSettings
    bad_channels : BadChannelSettings
    caching : CachingSettings
        Of preprocessed and of motion-corrected traces.
    motion : MotionSettings
    peak_signs : PeakSignSettings
        Also which groups see every spike together, for detection.
    matched_filter : MatchedFilterSettings
    clustering : ClusteringSettings
        Mixture, drift tracking, and merging of templates.
    matching : MatchingSettings
    curation : CurationSettings
    postprocessing : PostprocessingSettings
    quality : QualitySettings
    """

    noise_levels: NoiseLevelSettings = NoiseLevelSettings()
    preprocessing: PreprocessingSettings = PreprocessingSettings()
    bad_channels: BadChannelSettings = BadChannelSettings()
    caching: CachingSettings = CachingSettings()
    motion: MotionSettings = MotionSettings()
    peak_signs: PeakSignSettings = PeakSignSettings()
    matched_filter: MatchedFilterSettings = MatchedFilterSettings()
    clustering: ClusteringSettings = ClusteringSettings()
    matching: MatchingSettings = MatchingSettings()
    curation: CurationSettings = CurationSettings()
    postprocessing: PostprocessingSettings = PostprocessingSettings()
    quality: QualitySettings = QualitySettings()
