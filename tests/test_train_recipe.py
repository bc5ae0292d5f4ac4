from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest

from serpent.config import SerpentConfig
from serpent.degradations import find_task
from serpent.errors import UsageError
from serpent.train import Recipe, create_network, load_recipe, recipe_names


def test_the_recipes_that_ship_are_read_and_name_known_tasks() -> None:
    assert {"deblur-128", "deblur-256", "deblur-512", "sr8-256", "sr8-512"} == set(recipe_names())
    for name in recipe_names():
        find_task(load_recipe(name).task)


def test_the_defaults_are_those_of_the_paper() -> None:
    recipe = load_recipe("deblur-256")
    assert (recipe.optimizer, recipe.batch, recipe.learning_rate, recipe.epochs) == ("adam", 1, 5e-4, 60)
    assert load_recipe("deblur-512").learning_rate == 1e-3
    assert recipe.total_steps(300) == 18000


def test_epochs_become_steps_of_whole_batches() -> None:
    assert Recipe(epochs=2, batch=4).total_steps(9) == 5
    assert Recipe(steps=7, epochs=2).total_steps(9) == 7


def test_the_rate_rises_and_falls_as_a_cosine() -> None:
    recipe = Recipe(learning_rate=1.0, warmup=4, schedule="cosine")
    rates = [recipe.rate(step, 104) for step in range(104)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[54] == pytest.approx(0.5)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[4:]))
    assert rates[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.99)))


def test_a_constant_rate_stays_after_its_warm_up() -> None:
    recipe = Recipe(learning_rate=2e-4, warmup=2, schedule="constant")
    assert [recipe.rate(step, 5) for step in range(5)] == [1e-4, 2e-4, 2e-4, 2e-4, 2e-4]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("crop", 0, "an integer >= 1"),
        ("batch", 1.5, "an integer >= 1"),
        ("steps", 0, "an integer >= 1"),
        ("learning_rate", -1.0, "a number > 0"),
        ("learning_rate", math.nan, "a number > 0"),
        ("ema", 1.0, "a number from 0 to below 1"),
        ("schedule", "linear", "constant or cosine"),
        ("augment", 1, "true or false"),
        ("network", "", "a name"),
    ],
)
def test_a_wrong_value_is_named(field: str, value: Any, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        Recipe.from_dict({field: value})
    assert caught.value.message == f"the recipe's {field} is {value!r}; expected {expected}"


def test_accumulated_passes_share_a_batch_evenly() -> None:
    with pytest.raises(UsageError, match="batch 4 cannot be shared out over 3"):
        Recipe(batch=4, accumulate=3)


def test_a_file_may_be_a_recipe_and_its_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('task = "jpeg"\nlearning_rate = 1\n')
    assert load_recipe(path, {"crop": 64}) == Recipe(task="jpeg", learning_rate=1.0, crop=64)
    path.write_text("momentum = 0.9\n")
    with pytest.raises(UsageError, match="unknown recipe field momentum; known fields are task, network"):
        load_recipe(path)
    path.write_text("crop = \n")
    with pytest.raises(UsageError, match="is no TOML"):
        load_recipe(path)
    with pytest.raises(UsageError, match="cannot read the recipe no-such") as caught:
        load_recipe("no-such")
    assert "deblur-256" in str(caught.value)


def test_a_table_replaces_fields_of_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[config]\nembed_dim = 8\ndepth = 1\n")
    recipe = load_recipe(path, {"config.num_scales": 1, "network": "L"})
    assert recipe.config == {"embed_dim": 8, "depth": 1, "num_scales": 1}
    assert load_recipe("deblur-256", {"config.depth": 1}) == Recipe(config={"depth": 1})
    config = create_network(recipe.network, seed=0, config=recipe.config).config
    assert isinstance(config, SerpentConfig)
    assert config == SerpentConfig.from_variant("L", embed_dim=8, depth=1, num_scales=1)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"config.width": 3}, "unknown configuration field width; known fields are conv_size, d_state"),
        ({"config.depth": 0}, "depth is 0"),
        ({"config": 3}, "the recipe's config is 3; expected a table of fields of SerpentConfig"),
        ({"config.variant": "L"}, "expected no variant in it: the recipe's network names that"),
        ({"config.in_channels": 1}, "the recipe's config is {'in_channels': 1}; expected in_channels 3: pictures"),
        ({"crop.side": 3}, "unknown recipe field crop.side"),
        ({"network": "my:net", "config.depth": 1}, "the recipe's config is .*; expected none: only B, L, H have a"),
    ],
)
def test_a_wrong_configuration_is_named(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        load_recipe("deblur-256", fields)
