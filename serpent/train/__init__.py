"""Training: photographs, degradations of them, and a network that learns to undo these."""

from serpent.train.fitting import Fit, fit
from serpent.train.networks import create_network, load_network, save_network
from serpent.train.recipe import Recipe, load_recipe, recipe_names

__all__ = [
    "Fit",
    "Recipe",
    "create_network",
    "fit",
    "load_network",
    "load_recipe",
    "recipe_names",
    "save_network",
]
