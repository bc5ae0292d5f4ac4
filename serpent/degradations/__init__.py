"""Degradations: what the networks learn to undo. Seeded functions in numpy, the same for training and evaluation.

A task of one's own takes a few lines::

    from serpent.degradations import register

    @register("darken")
    def darken(picture, random):
        '''Exposure too short by a random factor.'''
        return picture * random.uniform(0.2, 0.5)
"""

from serpent.degradations import tasks as _tasks  # noqa: F401 (registers what ships)
from serpent.degradations.registry import Degradation, degrade, find_task, generator, register, task_names

__all__ = ["Degradation", "degrade", "find_task", "generator", "register", "task_names"]
