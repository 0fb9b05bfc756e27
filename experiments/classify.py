"""Classify texts: data (sst2, banking77, ag_news, goemotions) - model (cnn, rcnn, lstm, attention).

seqjax train --config experiments/classify.py:sst2-cnn --config.data.dir=DATA --workdir runs/classify/sst2-cnn
seqjax train --config experiments/classify.py:banking77-lstm --config.data.dir=DATA --workdir runs/classify/banking77
seqjax train --config experiments/classify.py:ag_news-attention --config.data.dir=DATA --workdir runs/classify/ag_news
seqjax train --config experiments/classify.py:goemotions-rcnn --config.data.dir=DATA --workdir runs/classify/goemotions

`cnn` is TextCNN, `lstm` a bidirectional LSTM pooled by attention, `attention` a Transformer. All data go with all
models.
`seqjax evaluate --split test` adds linear models of TF-IDF features as baselines. Numbers: see experiments/README.md.
"""

from ml_collections import ConfigDict

BOTH = dict(name="bidirectional", mixer=dict(name="lstm"))
HEADS = dict(name="attention", heads=4, causal=False, positions="relative")
MODELS = {
    "cnn": dict(pool="max", model=dict(layers=1, expansion=0, mixer=dict(name="cnn"))),
    "rcnn": dict(pool="max", model=dict(layers=1, expansion=0, mixer=dict(name="rcnn", mixer=dict(name="gru")))),
    "lstm": dict(pool="attention", model=dict(layers=1, expansion=0, mixer=BOTH)),
    "attention": dict(pool="mean", model=dict(layers=2, expansion=2, mixer=HEADS)),
}
BUCKETS = {
    "sst2": (12, 20, 28, 56),
    "banking77": (12, 20, 96),
    "ag_news": (40, 60, 243),
    "goemotions": (12, 20, 32, 485),
}
STEPS = {"sst2": 1000, "banking77": 2000, "ag_news": 800, "goemotions": 3000}


def get_config(variant: str = "sst2-cnn"):
    tiny = variant == "tiny"
    data, model = ("sst2", "cnn") if tiny else variant.split("-")
    many = data == "goemotions"
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name=data),
            task=dict(
                name="multi_label" if many else "classification",
                monitor="multi_label_macro_f1" if many else "accuracy",
                head=dict(name="pooled", pool=MODELS[model]["pool"]),
            ),
            model=dict(name="stack", width=8 if tiny else 192, dropout=0.3, **MODELS[model]["model"]),
            optim=dict(
                learning_rate=1e-3 if model == "attention" else 4e-3,
                warmup_steps=1 if tiny else 100,
                weight_decay=0.1,
                ema_decay=0.99,
            ),
            loader=dict(batch_size=8 if tiny else 64, buckets=BUCKETS[data]),
            train=dict(steps=2 if tiny else STEPS[data], log_every=50, eval_every=None if tiny else STEPS[data] // 10),
            evaluators=[dict(name="multi_label")] if many else None,
        )
    )
