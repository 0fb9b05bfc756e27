"""The AWD-LSTM recipe, piece by piece, on the Python language reference in sub-words.

    seqjax train --config experiments/awd.py --workdir runs/awd/awd
    seqjax train --config experiments/awd.py:plain --workdir runs/awd/plain
    seqjax evaluate --workdir runs/awd/awd --split test

`plain` is the same model, two stacked LSTMs with a tied table, a carried state and dropout between the layers as in
Zaremba et al. 2014. Merity et al. 2017 (arXiv:1708.02182) add: locked dropout of inputs, layers and outputs, embedding
dropout, dropped recurrent weights, AR and TAR, windows of random length; for their averaging (NT-ASGD), which begins
when validation stops to improve, stands the moving average of `optim.ema_decay`, over the last hundreds of steps.

Needs the extra `text`.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "awd"):
    tiny, awd = variant == "tiny", variant != "plain"
    lstm = dict(name="lstm", weight_dropout=0.3 if awd else 0.0)
    stacked = dict(name="stacked", layers=2, dropout=0.2, locked_dropout=awd, mixer=lstm)
    model = dict(width=8 if tiny else 192, layers=1, expansion=0, tie_embeddings=True, mixer=stacked, dropout=0.2)
    task = dict(carry_state=True)
    if awd:
        model |= dict(
            locked_dropout=True, input_dropout=0.3, output_dropout=0.3, embed=dict(name="tokens", dropout=0.1)
        )
        task |= dict(activation_regularization=2.0, temporal_activation_regularization=1.0)
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="reference", length=8 if tiny else 64, tokenizer=dict(name="bpe", vocabulary=1000)),
            task=dict(name="next_token", monitor="bits_per_character", **task),
            model=dict(name="stack", **model),
            optim=dict(learning_rate=5e-3, warmup_steps=2 if tiny else 50, ema_decay=0.99 if awd else None),
            loader=dict(batch_size=4 if tiny else 16, random_lengths=0.5 if awd else 0.0),
            evaluators=[dict(name="dynamic"), dict(name="neural_cache")],
            train=dict(steps=2 if tiny else 800, log_every=2 if tiny else 50, eval_every=None if tiny else 400),
        )
    )
