"""Zoology's multi-query recall, its full row: how wide must which mixer be to recall 4, 8 and 16 pairs?

seqjax compare --config experiments/compare/zoology.py --workdir runs/zoology

For a GPU: 228 models, at least six runs each. It was planned, but not run. As in figure 2 of Arora et al. 2023
(arXiv:2312.04927): sequences of 64, 128 and 256 tokens of 8,192 kinds, widths 64 to 512, 100,000 training examples, 64
epochs, batches of 512 (256 of the longest), four learning rates, AdamW with weight decay 0.1 and a cosine to 0; two
blocks without MLPs, one table for embedding and head, positions only in attention. Linear mixers also have a short
convolution before them (`-conv`). `s4d` has a gate, as in H3; `linear_attention` is that of Based.

Different from the paper: validation chooses the learning rate, and at an edge of the grid it is searched further; no
run ends early, and attention has no dropout. The code of the paper gives every mixer but attention four blocks.
"""


def get_comparison(variant: str = ""):
    tiny = variant == "tiny"
    heads = 2 if tiny else 4
    conv = lambda mixer: dict(name="short_conv", mixer=mixer)
    gated = lambda mixer: dict(name="gated", mixer=mixer, activation="silu")
    linear = {
        "linear_attention": dict(name="linear_attention", heads=1, feature_map="taylor"),
        "retnet": dict(name="retnet", heads=heads),
        "gla": dict(name="gla", heads=heads),
    }
    s4d = dict(name="s4d", state_size=64)
    mixers = {
        "attention": dict(name="attention", heads=1, positions="learned"),
        "hyena": dict(name="hyena"),
        "gated_conv": [dict(name="gated_conv", kernel_size=3), dict(name="gated_conv", kernel_size=256)],
        "mamba": dict(name="mamba"),
        "rwkv7": dict(name="rwkv7", heads=heads),
        "s4d": gated(s4d),
        "s4d-conv": gated(conv(s4d)),
        **linear,
        **{f"{name}-conv": conv(mixer) for name, mixer in linear.items()},
    }
    for name in ("mamba2", "delta_net", "gated_delta_net"):  # they have a convolution of their own
        mixers[name] = dict(name=name, heads=heads, conv_width=0)
        mixers[f"{name}-conv"] = dict(name=name, heads=heads)
    if tiny:
        mixers = {name: mixers[name] for name in ("attention", "gla", "gla-conv", "delta_net")}
    examples = 16 if tiny else 100_000
    settings = {}
    for length, pairs, batch in [(8, 2, 8)] if tiny else [(64, 4, 512), (128, 8, 512), (256, 16, 256)]:
        epoch = -(-examples // batch)
        for width in (8,) if tiny else (64, 128, 256, 512):
            settings[f"length-{length}-width-{width}"] = {
                "data.length": length,
                "data.pairs": pairs,
                "loader.batch_size": batch,
                "model.width": width,
                "train.steps": epoch if tiny else 64 * epoch,
                "train.eval_every": epoch,
            }
    return dict(
        base=dict(
            data=dict(
                name="mqar",
                vocabulary=32 if tiny else 8192,
                filler="zero",
                examples=16 if tiny else 3000,
                train_examples=examples,
            ),
            task=dict(name="tag"),
            model=dict(name="stack", layers=2, expansion=0, tie_embeddings=True, mixer="attention"),
            optim=dict(weight_decay=0.1, final_scale=0.0, clip_norm=None),
            loader=dict(num_workers=0 if tiny else 8),
            train=dict(log_every=2 if tiny else 100),
        ),
        vary=settings,
        contenders={name: {"model.mixer": mixer} for name, mixer in mixers.items()},
        metric="accuracy",
        learning_rates=[1e-4, 4.6416e-4, 2.1544e-3, 1e-2],
        seeds=[0, 1, 2],
    )
