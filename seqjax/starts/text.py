"""A language model of the characters of your own text."""

# 1. Name your text below, in data.path.
# 2. Look at the model and its cost, then train it. The same command resumes a run that was stopped:
#   seqjax train --config text.py --dry_run
#   seqjax train --config text.py --workdir runs/text
# 3. Look at it:
#   seqjax evaluate --workdir runs/text --split test
#   seqjax generate --workdir runs/text --tokens 500
#   seqjax report runs/text
#   tensorboard --logdir runs          (also while it trains; pip install tensorboard)

from ml_collections import ConfigDict


def get_config():
    """What `seqjax train` trains."""
    return ConfigDict(
        dict(
            seed=0,
            data=dict(
                name="text",
                path="text.txt",  # UTF-8, also .gz; "books/*.txt" makes each file a document
                tokenizer="character",  # or "byte", "word", dict(name="bpe", vocabulary=4096)
                length=128,  # predictions in a window
                validation=0.1,  # the part of the text before test: it chooses the best checkpoint
                test=0.1,  # the end of the text
            ),
            task=dict(name="next_token"),
            model=dict(
                name="stack",
                width=256,
                layers=2,
                expansion=0,  # no MLP after the mixer
                dropout=0.1,  # use more for a short text
                mixer=dict(name="gru"),  # or dict(name="attention", heads=4), with expansion=4
            ),
            optim=dict(learning_rate=3e-3, warmup_steps=100),
            loader=dict(batch_size=16),
            evaluators=[dict(name="full_context")],  # also as one text, not cut into windows
            train=dict(
                steps=2000,
                log_every=50,
                eval_every=200,
                checkpoint_every=200,
                patience=3,  # evaluations without a better one until training stops; None: never
            ),
        )
    )
