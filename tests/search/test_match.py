"""Sizes against formulas, and widths against a look at all of them."""

import types

import launch
import pytest

from seqjax.mixers import Mixer
from seqjax.search import match, plan
from seqjax.training import capacity
from seqjax.training.elsewhere import elsewhere
from seqjax.training.experiment import Experiment, resolve
from seqjax.types import ConfigError


def tree(*overrides):
    return resolve(launch.tiny(*overrides))


def built(*overrides):
    return Experiment(tree(*overrides))


ATTENTION = ("model.mixer={'name': 'attention', 'heads': 2, 'kv_heads': 1, 'context': 7}", "model.layers=3")


def test_state_bytes_by_hand():
    assert match.state_bytes(built("model.width=24", "model.layers=2")) == 2 * 24 * 4
    assert match.state_bytes(built("model.mixer=lstm", "model.width=24")) == 2 * 24 * 4
    # Per layer and slot a key and a value of 4 numbers and the position, per layer the count.
    assert match.state_bytes(built(*ATTENTION)) == 3 * (7 * (2 * 4 * 4 + 4) + 4)


def test_what_sees_whole_sequences_has_no_state():
    pytest.importorskip("sklearn")
    sections = ["data={'name': 'digits'}", "task.name=classification"]
    assert match.state_bytes(built(*sections, "model.mixer=bidirectional")) is None
    assert match.state_bytes(built(*sections)) == 8 * 4  # of its layers
    layer = Mixer(width=8)  # of a user, who wrote none
    model = types.SimpleNamespace(stack=lambda parent: [layer])
    assert match.state_bytes(types.SimpleNamespace(model=model)) is None


def test_flops_count_every_round_of_a_loop():
    """A recurrent layer does the same for each token, so twice the tokens are twice the work."""
    one, two, four = (match.flops(built(f"data.length={n}", "data.min_length=1")) for n in (4, 8, 16))
    assert four - two == 2 * (two - one) > 0


def test_measure_says_what_the_parts_say():
    size = match.measure(tree(), 0.5)
    e = built()
    assert (size.width, size.parameters, size.matched) == (8, match.parameters(e), 0.5)
    assert size.flops == match.flops(e) and size.state_bytes == match.state_bytes(e)
    assert size.tokens == e.batches.first["mask"].size and size.temporary_bytes > 0 and size.step_seconds > 0


def test_buckets_cost_what_an_epoch_costs_on_average(tmp_path):
    def cost(*lengths):
        file = tmp_path / "texts.csv"
        file.write_text("text\n" + "".join("ab" * (n // 2) + "\n" for n in lengths))
        data = {"name": "table", "train": str(file), "text": "text"}
        return match.measure(tree(f"data={data!r}", "loader.batch_size=1", "loader.buckets=[4,8]"))

    mixed, short, long = cost(4, 4, 8, 4), cost(4), cost(8)
    assert mixed.flops == pytest.approx((3 * short.flops + long.flops) / 4) and short.flops < long.flops
    assert (mixed.tokens, short.tokens, long.tokens) == (5, 4, 8)
    assert mixed.temporary_bytes == long.temporary_bytes > short.temporary_bytes


@pytest.fixture(scope="module")
def looked():
    """Quantity -> width -> its value, far beyond the targets."""
    widths = {"params": range(1, 25), "state_bytes": range(1, 60)}
    return {q: {w: match.QUANTITIES[q].of(built(f"model.width={w}")) for w in widths[q]} for q in widths}


@pytest.mark.parametrize("quantity", ["params", "state_bytes"])
@pytest.mark.parametrize("target", [700, 1500])
def test_the_width_is_the_nearest_of_all(looked, quantity, target):
    start, values = tree(), looked[quantity]
    if quantity == "state_bytes":
        target //= 10
    solved, ratio = match.solve(start, quantity, target, 0.2)
    best = min(values, key=lambda w: abs(values[w] / target - 1))
    width = solved["model"]["width"]
    assert abs(values[width] / target - 1) == pytest.approx(abs(values[best] / target - 1), abs=0.02)
    assert ratio == values[width] / target and {**solved["model"], "width": 8} == start["model"]


def test_heads_divide_the_width_that_is_found():
    solved, _ = match.solve(tree("model.mixer={'name': 'attention', 'heads': 6}"), "params", 9000, 0.2)
    assert solved["model"]["width"] % 12 == 0  # rotary positions want pairs


def test_flops_are_matched_as_they_are_measured():
    target = match.flops(built("model.width=20"))
    solved, ratio = match.solve(tree("model.mixer=lstm"), "flops", target, 0.1)
    assert match.flops(Experiment(solved)) == pytest.approx(ratio * target)


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ({"name": "hmm", "states": 3}, 300),
        ({"name": "hmm", "states": 3, "transition_width": 2}, 300),
        ({"name": "markov", "order": 1, "smoothing": "witten_bell"}, 150),
    ],
)
def test_states_and_order_stand_for_a_width(model, wanted, tmp_path):
    learner = {"learner": {"name": "fixed"}, "optim": {}} if model["name"] == "markov" else {}
    given, option = resolve(launch.text_tree(tmp_path) | {"model": model} | learner), list(model)[1]
    solved, ratio = match.solve(given, "params", wanted, 0.5)
    counts = {n: match.parameters(Experiment(match.resized(given, n))) for n in range(1, 20)}
    assert solved["model"][option] == min(counts, key=lambda n: abs(counts[n] / wanted - 1))
    assert ratio == counts[solved["model"][option]] / wanted and len(set(counts.values())) == len(counts)
    with pytest.raises(ConfigError, match=rf"no {option} .*Nearest: {option} \d"):
        match.solve(given, "params", wanted, 1e-9)


def test_any_quantity_that_grows_is_solved_for(monkeypatch):
    slow = match.QUANTITIES["step_time"]._replace(of=lambda e: 0.001 * e.model.width**2)
    monkeypatch.setitem(match.QUANTITIES, "step_time", slow)
    solved, ratio = match.solve(tree(), "step_time", 0.4, 0.02)
    assert solved["model"]["width"] == 20 and ratio == pytest.approx(1)


def test_out_of_reach_names_the_nearest():
    nearest = r"of 46\. Nearest: width 11 with 44 \(4\.3% less\), width 12 with 48 \(4\.3% more\)\. .*=0\.044; "
    with pytest.raises(ConfigError, match=nearest):
        match.solve(tree(), "state_bytes", 46, 0.02)
    assert match.solve(tree(), "state_bytes", 46, 0.044)[0]["model"]["width"] == 11
    with pytest.raises(ConfigError, match=r"of 1\. Nearest: width 1 with 4 \(300\.0% more\)\. "):
        match.solve(tree(), "state_bytes", 1, 0.02)
    with pytest.raises(ConfigError, match="lower the target"):
        match.solve(tree(), "state_bytes", 1e9, 0.02)


def test_the_nearest_is_one_that_the_heads_divide():
    heads = tree("model.mixer={'name': 'attention', 'heads': 6}")
    of = lambda width: match.parameters(Experiment(match.resized(heads, width)))
    target = (of(36) + of(48)) // 2 + 1
    with pytest.raises(
        ConfigError, match=r"no width among the multiples of 12, .* Nearest: width 48 .*, width 36 "
    ) as e:
        match.solve(heads, "params", target, 0.02)
    gap = float(str(e.value).partition("set tolerance=")[2].partition(";")[0])
    assert gap == pytest.approx(of(48) / target - 1, abs=1e-3)
    assert match.solve(heads, "params", target, gap)[0]["model"]["width"] == 48


def test_a_refusal_at_every_width_is_said():
    with pytest.raises(ConfigError, match=r"no model.width .*kv_heads=3 does not divide"):
        match.solve(tree("model.mixer={'name': 'attention', 'heads': 2, 'kv_heads': 3}"), "params", 1000, 0.02)


# Caches that hold what the task needs.


def test_a_cache_is_as_large_as_what_is_read():
    given = launch.tiny("model.mixer={'name': 'attention', 'heads': 2}", "data.length=5")
    c = plan.Comparison(base=given, contenders={"a": {}, "b": {"model.mixer.max_length": 30}}, learning_rates=[1, 2])
    fitted = plan.fitted(c, "a", None, Experiment)
    read = capacity.tokens_read(Experiment(fitted))
    assert read == Experiment(fitted).source.spec.length - 1  # the last token is only predicted
    assert fitted["model"]["mixer"]["max_length"] == read
    assert plan.fitted(c, "b", None, Experiment)["model"]["mixer"]["max_length"] == 30  # asked for


def test_a_task_may_read_any_field(tmp_path):
    given = launch.tiny("data=inline.fields", "task=inline.fields", "train.steps=2")
    given["loader"]["buckets"] = [3]
    assert launch.main("train", "--config", launch.write(tmp_path / "c.json", given), "--workdir", tmp_path).code == 0
    c = plan.Comparison(base=given, contenders={"a": {}, "b": {"model.mixer": "lstm"}}, learning_rates=[1, 2])
    e = Experiment(plan.fitted(c, "a", None, Experiment))
    assert capacity.tokens_read(e) == 3 and match.flops(e) > 0


def test_caches_inside_others_are_found():
    section = {"mixer": [{"name": "gru"}, {"name": "stacked", "mixer": {"name": "attention", "max_length": 9}}]}
    assert capacity.fitted(section, 4)["mixer"][1]["mixer"]["max_length"] == 4
    given = {"mixer": ["gru", {"name": "stacked", "mixer": {"name": "attention", "max_length": 9}}]}
    assert capacity.fitted(section, 4, given)["mixer"][1]["mixer"]["max_length"] == 9


def test_the_same_model_on_other_data():
    e = built("model.mixer={'name': 'attention', 'heads': 2, 'context': 7}")
    longer = elsewhere(e, "data.length=20")
    assert longer.source.length == 20 and longer.model.capacity == capacity.tokens_read(longer)
    assert elsewhere(e, "data.length=2").model.capacity == 7
    with pytest.raises(ConfigError, match="embedding is not the trained one"):
        elsewhere(e, "data.symbols=9")
    with pytest.raises(ConfigError, match="a key of data"):
        elsewhere(e, "model.width=16")
