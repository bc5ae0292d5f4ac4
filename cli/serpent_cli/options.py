"""Options that several commands share."""

from __future__ import annotations

import click


def _show_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        import serpent

        click.echo(f"serpent {serpent.__version__}")
        context.exit()


version_option = click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
native_code_option = click.option(
    "--allow-native-code",
    is_flag=True,
    help="For .plan: run one that carries its plugin (serpent-export --embed-plugin). That is code from the file; only "
    "where you trust its source.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Write one JSON object to stdout, errors included.")
task_option = click.option(
    "--task",
    default="deblur",
    show_default=True,
    help="Degradation: deblur, sr8, denoise, jpeg, motion, inpaint, or module:function of your own.",
)
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the degradations' random numbers."
)
