"""A classifier of your own labelled records, from jsonl, csv or parquet files."""

# 1. Name your files and columns below, in data.
# 2. Look at the model and its cost, then train it. The same command resumes a run that was stopped:
#   seqjax train --config table.py --dry_run
#   seqjax train --config table.py --workdir runs/table
# 3. Look at it:
#   seqjax evaluate --workdir runs/table
#   seqjax report runs/table
#   tensorboard --logdir runs          (also while it trains; pip install tensorboard)

from ml_collections import ConfigDict


def get_config():
    """What `seqjax train` trains."""
    return ConfigDict(
        dict(
            seed=0,
            data=dict(
                name="table",
                train="train.csv",  # or a pattern, "train-*.jsonl"
                validation="validation.csv",  # none of the records of train
                # test="test.csv",
                text="text",  # the column to read; for lists of numbers: features="column" instead
                label="label",  # the column to predict; for any number of labels: labels="column", task multi_label
                tokenizer="character",  # or "byte", "word", dict(name="bpe", vocabulary=4096); not for features
            ),
            task=dict(
                name="classification",
                monitor="loss",  # with many records: "accuracy"
                head=dict(name="pooled", pool="mean"),  # or "last", "max", "attention"
            ),
            model=dict(
                name="stack",
                width=128,
                layers=2,
                expansion=0,  # no MLP after the mixer
                dropout=0.2,
                mixer=dict(name="bidirectional"),  # two GRUs, one in each direction
            ),
            optim=dict(learning_rate=3e-3, warmup_steps=50, weight_decay=0.1),
            # Rows are padded to the shortest of these lengths that is long enough; longer rows are truncated.
            loader=dict(batch_size=32, buckets=(32, 64, 128, 256), too_long="truncate"),
            train=dict(
                steps=1500,
                log_every=50,
                eval_every=100,
                checkpoint_every=300,
                patience=5,  # evaluations without a better one until training stops; None: never
            ),
        )
    )
