"""Does a hypothesis follow from a premise? Pairs of sentences, of which people changed one word or two.

seqjax train --config experiments/nli.py:esim --config.data.dir=DATA --workdir runs/nli/esim
seqjax train --config experiments/nli.py:siamese --config.data.dir=DATA --workdir runs/nli/siamese
seqjax train --config experiments/nli.py:decomposable --config.data.dir=DATA --workdir runs/nli/decomposable
seqjax evaluate --workdir runs/nli/esim --split test --at data.test=original

The bidirectional LSTM of `esim` reads each sentence; then each reads the other by interactive attention. `siamese` goes
without, `decomposable` reads words in the place of sequences. Numbers: see experiments/README.md.
"""

from ml_collections import ConfigDict

BOTH = dict(name="bidirectional", mixer=dict(name="lstm"))
WORDS = dict(name="cnn", kernel_sizes=(1,))
READ = dict(name="interactive", causal=False, score="scaled_dot")
MODELS = {
    "siamese": dict(mixer=BOTH),
    "decomposable": dict(mixer=WORDS, interaction=READ, expansion=2.0),
    "esim": dict(mixer=BOTH, interaction=READ, composition_layers=1),
}


def get_config(variant: str = "esim"):
    tiny = variant == "tiny"
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="cad_nli"),
            task=dict(name="classification", head=dict(name="pooled", pool="max")),
            model=dict(
                name="pair",
                width=8 if tiny else 128,
                layers=1,
                dropout=0.3,
                **{"expansion": 0.0, **MODELS["esim" if tiny else variant]},
            ),
            optim=dict(learning_rate=2e-3, warmup_steps=1 if tiny else 100, weight_decay=0.1, ema_decay=0.99),
            loader=dict(batch_size=8 if tiny else 64, buckets=(64,) if tiny else (16, 32, 64)),
            train=dict(steps=2 if tiny else 1200, log_every=100, eval_every=None if tiny else 200),
        )
    )
