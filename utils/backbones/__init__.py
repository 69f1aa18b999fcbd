"""Which networks? Registry, flat networks with heads, the networks from scratch."""

from utils.backbones.flops import count_flops
from utils.backbones.networks import TASKS, build_network, cut
from utils.backbones.registry import BACKBONES, Backbone, get
from utils.backbones.scratch import scratch_classifier, wiki_regressor

__all__ = [
    "BACKBONES",
    "TASKS",
    "Backbone",
    "build_network",
    "count_flops",
    "cut",
    "get",
    "scratch_classifier",
    "wiki_regressor",
]
