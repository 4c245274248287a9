"""Recipes are read strictly: what nobody knows is an error that says what was meant."""

import json
from pathlib import Path

import pytest

from earthgpt import lookup
from earthgpt.config import BuildRecipe, NewModel, Recipe, load_recipe, save_recipe
from earthgpt.types import EarthGPTError

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = [path for path in sorted(FOLDER.glob("*.toml")) if not path.stem.startswith("build")]  # training
SMALL = """
output = "runs/x"
model = "earthgpt-tiny"
steps = 10

[[sources]]
dataset = "rsicd"
root = "data/RSICD"

[[sources]]
dataset = "synthetic"
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def test_there_are_recipes_for_both_stages():
    assert {"align", "instruct", "debug", "tiny"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_loads_and_names_data_sets_splits_and_tasks_that_exist(path):
    # A stage starts from a model of the user's own.
    recipe = load_recipe(path, () if "model" in path.read_text().split("[[sources]]")[0] else ("model=runs/x/model",))
    for source in recipe.sources:
        dataset = lookup.find("datasets", source.dataset)
        assert source.split in dataset.splits
        for task in source.tasks:
            lookup.find("tasks", task)


def test_a_recipe_has_the_defaults_of_the_paper(small):
    recipe = load_recipe(small)
    assert (recipe.betas, recipe.learning_rate, recipe.warmup, recipe.clip) == ((0.9, 0.95), 2e-5, 0.03, 8.0)
    assert (recipe.trainable, recipe.decimals, recipe.weight_decay) == (("*",), 3, 0.0)
    assert recipe.sources[1].root == "" and recipe.sources[0].split == "train"


@pytest.mark.parametrize(
    ("override", "attribute", "value"),
    [
        ("steps=3", "steps", 3),
        ("learning_rate=1e-3", "learning_rate", 1e-3),
        ("augment=true", "augment", True),
        ("output=runs/other", "output", "runs/other"),
        ('output="runs/other"', "output", "runs/other"),
        ('trainable=["mm_projector.*"]', "trainable", ("mm_projector.*",)),
        ("model=a=b", "model", "a=b"),
        ("model=1", "model", None),
    ],
)
def test_an_override_stands_for_what_is_in_the_file(small, override, attribute, value):
    if value is None:
        with pytest.raises(EarthGPTError, match="model"):
            load_recipe(small, [override])
    else:
        assert getattr(load_recipe(small, [override]), attribute) == value


def test_an_override_reaches_into_sources_and_tables(small):
    recipe = load_recipe(small, ["sources.0.root=/data/of mine", "sources.1.repeat=0.5", "sources.0.tasks=['x']"])
    assert recipe.sources[0].root == "/data/of mine"
    assert recipe.sources[0].tasks == ("x",)
    assert recipe.sources[1].repeat == 0.5
    debug = next(path for path in RECIPES if path.stem == "debug")
    changed = load_recipe(debug, ["model.text.hidden_size=32", "model.vocabulary=600"])
    assert isinstance(changed.model, NewModel)
    assert (changed.model.text["hidden_size"], changed.model.vocabulary) == (32, 600)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("step=3", "unknown key 'step'; did you mean 'steps'?"),
        ("sources.0.datset=x", "unknown key 'sources.0.datset'; did you mean 'dataset'?"),
        ("zzzzzz=3", "unknown key 'zzzzzz'."),
        ('tasks=["x"]', "unknown key 'tasks'; it belongs into sources."),
        ("rank=3", "unknown key 'rank'; it belongs into lora."),
        ("steps", "An override is key=value, not 'steps'"),
        ("sources.5.root=x", "nothing to override at 'sources.5.root'"),
        ("sources.first.root=x", "nothing to override at 'sources.first.root'"),
        ("steps.deep=3", "nothing to override at 'steps.deep'"),
        ("steps=many", "steps: "),
        ("steps=0", "steps: Input should be greater than 0"),
        ("warmup=1.5", "warmup: "),
        ("decimals=4", "decimals: "),
        ("sources=[]", "sources: "),
        ("sources.0.part=test", "sources.0.part: "),
        ("precision=float16", "precision: "),
    ],
)
def test_a_wrong_override_is_told_in_one_line(small, override, says):
    with pytest.raises(EarthGPTError) as told:
        load_recipe(small, [override])
    assert says in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"steps = ", "is not valid TOML"),
        (b"\xff\xfe", "is not valid TOML"),
        (b"", "Field required"),
        (SMALL.replace("steps = 10\n", "").encode(), "steps: Field required"),
        (SMALL.replace('model = "earthgpt-tiny"\n', "").encode(), "model: Field required"),
        (SMALL.replace("steps", "stepps").encode(), "unknown key 'stepps'; did you mean 'steps'?"),
        (SMALL.replace('"earthgpt-tiny"', "{vit={}, cnn={}, text={}, vocab=9}").encode(), "unknown key 'model.vocab'"),
        (SMALL.replace('"earthgpt-tiny"', "{vit={}, text={}}").encode(), "model.cnn: Field required"),
        (SMALL.replace("root =", "rot =").encode(), "did you mean 'root'?"),
        ((SMALL.replace("steps", "cache = true\naugment = true\nsteps", 1)).encode(), "broken.toml: cache keeps what"),
        ((SMALL.replace("root =", "shards =")).encode(), "sources.0: name one of dataset, records and shards."),
    ],
)
def test_a_broken_recipe_is_told_in_one_line_with_its_name(tmp_path, content, says):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(EarthGPTError) as told:
        load_recipe(path)
    assert says in str(told.value) and "broken.toml" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_recipe_that_is_not_there_is_told(tmp_path):
    with pytest.raises(EarthGPTError, match=r"Cannot read the recipe .*none\.toml: No such file or directory"):
        load_recipe(tmp_path / "none.toml")


def test_a_recipe_of_the_package_is_called_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_recipe("debug", ["steps=7"]).steps == 7
    assert load_recipe("build_mmrs", (), BuildRecipe).sources
    assert load_recipe("tiny").model == "runs/tiny-encoders/model", "the stage before it is found beside it"
    with pytest.raises(EarthGPTError, match=r"no recipe recipes/debug\.toml; .* called debug"):
        load_recipe("recipes/debug.toml")
    with pytest.raises(EarthGPTError, match=r"no recipe 'Tiny'\. Did you mean 'tiny'"):
        load_recipe("Tiny")
    (tmp_path / "align").mkdir()
    assert load_recipe("align", ["model=x"]).model == "x", "a folder is no recipe"
    (tmp_path / "debug").write_text("steps = 1")
    with pytest.raises(EarthGPTError, match="debug: output: Field required"):
        load_recipe("debug")


def test_a_saved_recipe_is_the_same_recipe(small, tmp_path):
    recipe = load_recipe(small, ["steps=7"])
    save_recipe(recipe, tmp_path / "recipe.json")
    assert Recipe(**json.loads((tmp_path / "recipe.json").read_text())) == recipe


def test_a_recipe_cannot_be_changed(small):
    with pytest.raises(ValueError, match="frozen"):
        load_recipe(small).steps = 5


@pytest.mark.parametrize(("given", "kind"), [(None, Recipe), ({}, BuildRecipe)])
def test_what_is_no_recipe_and_no_file_is_told(given, kind):
    with pytest.raises(EarthGPTError, match=f"A recipe is a {kind.__name__} or the path of its TOML file"):
        load_recipe(given, kind=kind)
