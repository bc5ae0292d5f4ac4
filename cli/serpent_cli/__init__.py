"""The commands ``serpent``, ``serpent-export``, ``serpent-infer`` and ``serpent-doctor``."""
