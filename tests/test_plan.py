"""The run matrix: what each profile trains, and how runs are told apart."""

import re

import pytest

from utils import plan
from utils.paths import ROOT
from utils.study import load_study


def matrix(name: str) -> list[tuple]:
    """Network, protocol, input size, epochs and seed of every run of a profile."""
    configs = plan.configs(plan.load_profile(name))
    return sorted((c.model, c.protocol, c.input_size, c.epochs, c.seed) for c in configs)


def rows(backbones: str, *more) -> list[tuple]:
    return [(name, *more, 129) for name in backbones.split()]


ALL = "alexnet mobilenetv2 resnet50 vgg19"


def test_the_matrix_of_cpu_gpu_and_paper():
    assert matrix("cpu") == sorted(
        rows(ALL, "linear_probe", 224, 10)
        + rows(ALL, "partial", 96, 10)
        + rows(ALL, "finetune", 128, 10)
        + rows("scratch_cnn", "scratch", 198, 10)
        + rows("wiki_cnn", "regress", 96, 10)
    )
    assert matrix("gpu") == sorted(
        rows(ALL, "linear_probe", 224, 10)
        + rows(ALL, "finetune", 224, 15)
        + rows("scratch_cnn", "scratch", 198, 44)
        + rows("wiki_cnn", "regress", 180, 95)
    )
    assert matrix("paper") == sorted(
        3 * rows(ALL, "linear_probe", 224, 10)
        + rows("scratch_cnn", "scratch", 198, 44)
        + rows("wiki_cnn", "regress", 180, 95)
    )


def test_shared_settings_reach_every_run():
    for name, precision in (("cpu", "auto"), ("gpu", "mixed_bfloat16"), ("paper", "float32")):
        for config in plan.configs(plan.load_profile(name)):
            expected = {"scratch": 32}.get(config.protocol, 64)
            assert (config.precision, config.batch_size) == (precision, expected)
            assert config.dataset == ("wiki" if config.protocol == "regress" else config.dataset)
            assert config.weights == (
                "none" if config.protocol in ("scratch", "regress") else "imagenet"
            )
            assert (config.limit, config.profile, config.study) == (0, name, "")


def test_the_ablations_are_sound():
    profile = plan.load_profile("ablations")
    named = {one.name for one in profile.ablations}
    assert named >= {"start", "image_mode", "age", "tasks", "flip_tta", "first_study"}
    configs = plan.configs(profile)
    later = [bool(config.start_from or config.teachers) for config in configs]
    assert sum(later) == 6 and later[-6:] == [True] * 6  # these come last
    wanted = {k: v for k, v in profile.primary.items() if k in plan.RunConfig.model_fields}
    main = [c for c in configs if wanted.items() <= c.model_dump().items()]
    fair = [c for c in main if c.learning_rate and (c.split, c.study) == ("group", "")]
    main = [(c.model, c.seed) for c in fair if not c.start_from]
    assert sorted(main) == [(name, seed) for name in ALL.split() for seed in (129, 130, 131)]
    odd = {config.run: config.study for config in configs}
    assert odd["utkface-mobilenetv2-partial-96-seed129"] == ""
    assert odd["utkface-mobilenetv2-partial-96-seed129-grey48"] == "ablation"
    assert odd["utkface-mobilenetv2-finetune-128-seed129-none_weights"] == "ablation"
    assert odd["utkface-mobilenetv2-partial-96-seed129-age"] == "ablation"
    minutes = [step.minutes for step in plan.steps(profile)]
    minutes = minutes[: later.index(True)]
    assert minutes == sorted(minutes)  # cheapest first
    without = [config for config in configs if not config.epochs]
    start = "utkface-mobilenetv2-finetune-128-seed129"
    assert [(c.flip_tta, c.zoom_tta, c.start_from) for c in without] == [
        (False, 0.0, start),
        (True, 0.05, f"{start}-rate0.001-distilled"),
        (True, 0.05, "utkface-alexnet-finetune-128-seed129-coral_split-rate0.0003"),
    ]
    assert [bool(config.teachers) for config in configs[-6:]] == [True, *[False] * 5]


def test_the_published_runs_are_found_by_their_settings():
    study = load_study(ROOT / "reports" / "study")
    profile = plan.load_profile("ablations")
    configs = plan.configs(profile)
    assert sum(bool(study.matching(config)) for config in configs) >= 39
    # Some are of earlier versions, in folders of other names.
    named = {one.name: plan.variants(profile, one) for one in profile.ablations}
    for name in ("age", "tasks", "first_study", "first_study_networks"):
        assert all(study.matching(config) for _, config in named[name]), name


def test_a_new_backbone_can_be_asked_for_and_others_are_left_out():
    configs = plan.configs(plan.load_profile("cpu"), ("densenet121",))
    assert {config.model for config in configs} == {"densenet121", "scratch_cnn", "wiki_cnn"}
    steps = plan.steps(plan.load_profile("cpu"), ("vgg19",), (1, 2))
    trained = {(step.config.model, step.config.seed) for step in steps if step.config}
    assert trained >= {("vgg19", 1), ("vgg19", 2), ("scratch_cnn", 2)}
    assert not {model for model, _ in trained} & {"alexnet", "resnet50"}


def test_a_gallery_needs_runs_of_its_protocol():
    content = plan.load_profile("cpu").model_dump() | {"gallery": {"protocol": "partial", "n": 3}}
    content["trainings"] = [one for one in content["trainings"] if "partial" not in str(one)]
    content["gallery"]["protocol"] = "partial"
    with pytest.raises(ValueError, match="gallery: no training has protocol 'partial'"):
        plan.Profile(**content)


PHASE = {"epochs": 1, "rate": 1e-3, "factor": 0.5, "every": 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs=0: expected at least 1, or a run in start_from"),
        ({"model": "vgg19", "weights": "shipped"}, "there are none of vgg19; expected 'imagenet'"),
        ({"phases": [{"epochs": 1}]}, "phase {'epochs': 1} of phases"),
        ({"phases": [PHASE | {"until": 3}]}, "expected numbers ['epochs', 'every', 'factor', "),
        ({"phases": [PHASE | {"epochs": 1.5}]}, "expected numbers"),
        ({"phases": [PHASE | {"epochs": 2.0}]}, "expected numbers"),
        ({"phases": [PHASE | {"every": 0}]}, "=0: Input should be greater"),
        ({"protocol": "scratch", "age_loss": "class"}, "protocol scratch has fixed heads"),
        ({"colour": 1}, "unknown parameter 'colour' (1)"),
    ],
)
def test_a_wrong_setting_gets_one_line(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        plan.RunConfig(**settings)
    assert "\n" not in str(caught.value)


def test_every_setting_that_is_not_the_usual_is_in_the_name():
    plain = {"dataset": "utkface", "model": "vgg19", "protocol": "linear_probe", "input_size": 96}
    assert plan.RunConfig(**plain).run == "utkface-vgg19-linear_probe-96-seed129"
    odd = {"image_mode": "grey48", "age_loss": "class", "head_width": 1000, "flip_tta": False}
    name = plan.RunConfig(**plain, **odd, limit=9).run
    assert name == "utkface-vgg19-linear_probe-96-seed129-grey48-class-wide1000-no_flip-n9"


def test_a_network_from_scratch_may_go_on_and_its_schedule_is_in_its_name():
    first, then = (
        plan.RunConfig(
            dataset="wiki", protocol="regress", phases=[PHASE | {"epochs": n}], start_from=s
        )
        for n, s in ((45, ""), (50, "the first"))
    )
    assert first.label == "WIKI regressor, 96 px, 45 epochs" and first.study == then.study == ""
    assert then.label == "WIKI regressor, 96 px, 50 epochs, continued"
    assert plan.RunConfig(start_from="a backbone's").study == "ablation"
