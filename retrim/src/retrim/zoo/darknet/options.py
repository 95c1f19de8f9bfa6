"""Which options of a section are known, and what is said about others.

Three kinds: options that are read; options of darknet's training, which are of no concern
here; and options that change what a layer computes in a way that is not supported, which
must have the value that leaves it alone.  All others are warned of and passed over.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from retrim.errors import ConfigError
from retrim.zoo.darknet.sections import NET, Section

_READ = {
    NET: "width height channels",
    "convolutional": "filters size stride stride_x stride_y pad padding groups batch_normalize activation",
    "maxpool": "size stride stride_x stride_y padding",
    "upsample": "stride",
    "route": "layers groups group_id",
    "shortcut": "from activation",
    "dropout": "probability",
    "avgpool": "",
    "yolo": "mask anchors classes num ignore_thresh iou_thresh scale_x_y",
}

_TRAINING = {
    NET: (
        "batch subdivisions time_steps track augment_speed sequential_subdivisions momentum decay angle saturation "
        "exposure hue aspect max_crop min_crop flip blur gaussian_noise mosaic mosaic_bound mixup cutmix letter_box "
        "learning_rate learning_rate_min burn_in power max_batches policy steps scales step scale gamma seq_scales "
        "adam B1 B2 eps ema_alpha label_smooth_eps max_chart_loss num_steps_per_cycle sgdr_cycle sgdr_mult "
        "optimized_memory workspace_size_limit_MB dynamic_minibatch try_fix_nan loss_scale cudnn_half notruth "
        "show_receptive_field inputs"
    ),
    "convolutional": "stopbackward train_only_bn dontload dontloadscales learning_scale_coef burnin_update",
    "dropout": "dropblock_size_rel dropblock_size_abs",
    "yolo": (
        "jitter truth_thresh random resize max map counters_per_class label_smooth_eps focal_loss nms_kind beta_nms "
        "iou_loss iou_normalizer iou_thresh_kind cls_normalizer obj_normalizer uc_normalizer delta_normalizer "
        "max_delta objectness_smooth track show_details truth_scale"
    ),
}

_NEUTRAL = {
    "convolutional": {
        "dilation": "1",
        "antialiasing": "0",
        "binary": "0",
        "xnor": "0",
        "bin_output": "0",
        "flipped": "0",
        "deform": "0",
        "rotate": "0",
        "stretch": "0",
        "sway": "0",
        "assisted_excitation": "0",
        "coordconv": "0",
        "cbn": "0",
    },
    "maxpool": {"antialiasing": "0", "maxpool_depth": "0"},
    "upsample": {"scale": "1"},
    "shortcut": {"weights_type": "none", "alpha": "1", "beta": "1"},
    "dropout": {"dropblock": "0"},
    "yolo": {"new_coords": "0", "embedding_layer": "0"},
}

SUPPORTED = tuple(name for name in _READ if name != NET)
"""Names of layers."""


def check_options(sections: Sequence[Section]) -> None:
    """Warn of unknown options, once each.

    Raises
    ------
    ConfigError
        If a layer is none of `SUPPORTED`, or an option asks for what is not supported.
    """
    seen: set[tuple[str, str]] = set()
    for section in sections:
        if section.name not in _READ:
            raise ConfigError(
                f"{section.place} must be one of {', '.join(SUPPORTED)}, but is [{section.name}]: choose a network "
                "without it"
            )
        stride = section.options.get("stride", "1")
        neutral = {**_NEUTRAL.get(section.name, {}), "stride_x": stride, "stride_y": stride}
        for key, value in section.options.items():
            if value != neutral.get(key, value):
                raise section.wrong(
                    f"leave {key} at {neutral[key]}", f"{key}={value}", "choose a network without it"
                )
            if not _known(section.name, key) and (section.name, key) not in seen:
                seen.add((section.name, key))
                warnings.warn(f"option {key!r} of {section.place} is unknown and passed over", stacklevel=3)


def _known(name: str, key: str) -> bool:
    listed = f"{_READ[name]} {_TRAINING.get(name, '')}".split()
    return key in listed or key in _NEUTRAL.get(name, {})
