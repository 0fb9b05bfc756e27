"""Hidden states: hidden Markov models of the quickstart's characters, by EM, by gradients, and from a network.

seqjax train --config experiments/hmm.py --workdir runs/hmm
seqjax train --config experiments/hmm.py:gradient --config.model.states=256 --workdir runs/hmm-gradient
seqjax train --config experiments/hmm.py:neural --config.model.states=256 --workdir runs/hmm-neural

Python 3.11, windows of 128 characters, 800 steps of 16 windows, seed 0. Bits per character on validation:

    states                          64      256       1,024
    parameters                  10,752   92,160   1,155,072
    EM, decay 0.7                3.270    2.687       2.352
    gradients, rate 0.03         3.385    2.949
    gradients, rate 0.1          3.230    2.743
    network, parameters         36,007   73,255
    network, rate 0.003          3.459
    network, rate 0.01           3.182    2.835

With 64 states gradients get as far as expectation maximisation and a network further; with 256 states, after as many
steps, neither does. One seed says nothing about smaller differences, and the rates are a coarse grid. 1,024 states were
trained once, by EM alone, as they took 5.5 min of CPU; 256 took 40 s, 64 took 13 s.

Counting on the same windows (`experiments/markov.py`, `--config.model.order=N`) is far ahead at any size:

    order                            1        2        3        4        5
    n-grams                      2,719   14,918   45,810  102,004  186,426
    bytes, thousands                15      110      423    1,105    2,258
    modified Kneser-Ney          3.537    2.588    2.018    1.823    1.767

The HMMs take 43, 369 and 4,620 thousand bytes: four for each parameter.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "em"):
    tiny = variant == "tiny"
    network = dict(transition_width=64, emission=dict(name="neural", width=64))
    rate = 1e-1 if variant == "gradient" else 1e-2
    return ConfigDict(
        dict(
            seed=0,
            data=dict(name="reference", length=16 if tiny else 128),
            task=dict(name="next_token", monitor="bits_per_character"),
            model=dict(name="hmm", states=4 if tiny else 64, **(network if variant in ("neural", "tiny") else {})),
            learner=dict(name="em", decay=0.7) if variant == "em" else dict(name="gradient"),
            optim={} if variant == "em" else dict(learning_rate=rate, warmup_steps=2 if tiny else 100),
            loader=dict(batch_size=4 if tiny else 16),
            train=dict(steps=2 if tiny else 800, log_every=25, eval_every=400, checkpoint_every=400),
        )
    )
