"""Presets: other defaults for all options. The options' own defaults are the paper's recipe."""

from typing import Any

SIZES: dict[str, dict[str, Any]] = {  # what --size sets, with any preset; the rates are those that fit the sizes
    "paper": {"image_size": 256, "base_width": 64, "vgg_width": 64, "fc_width": 4096, "batch_size": 10,
              "vgg_batch_size": 12, "lr": 2e-4, "vgg_lr": 1e-3, "perceptual_lr": 1e-4, "vgg_init": "imagenet"},
    "small": {"image_size": 64, "base_width": 16, "vgg_width": 8, "fc_width": 256, "batch_size": 16,
              "vgg_batch_size": 16, "lr": 2e-3, "vgg_lr": 1e-2, "perceptual_lr": 1e-3, "vgg_init": "stage0"},
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "tuned": {
        "alpha5": False, "scene_truth": True, "mirror": True, "mismatched": True, "lambda_vgg_loss": 16.0,
        "lambda_coarse_loss": 50.0, "lambda_gray_loss": 500.0, "G_max": 1000.0, "even_phases": 2, "ema": 0.999,
        "lr": 1e-3, "mix": 1.0, "guided": True, "balanced": True, "encode_synthesized": True, "targets": "any",
        "vgg_schedule": "cosine",
    },
    "demo": {
        "data_dir": "datasets/demo", "checkpoint_dir": "checkpoint/checkpoint_demo", "image_size": 64,
        "base_width": 16, "vgg_width": 8, "fc_width": 256, "vgg_init": "stage0", "perceptual_epochs": 8,
        "perceptual_lr": 1e-3, "epochs": 20, "batch_size": 12, "lr": 2e-3, "lr_decay_steps": 300, "alpha5": False,
        "G_max": 1000.0, "scene_truth": True, "mirror": True, "mismatched": True, "zero_biases": True, "lazy": 4,
        "ema": 0.995, "d_lr_ratio": 0.25, "d_gain": 8.0,
        "lambda_adv_loss": 0.15, "vgg_loss": False, "lambda_l2_loss": 60.0, "vgg_lr": 1e-2, "vgg_batch_size": 16,
        "round_every": 20, "round_epochs": 10, "mix": 1.0, "vgg_schedule": "cosine",
    },
}
