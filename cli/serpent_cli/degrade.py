"""``serpent-degrade``: make degraded pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from serpent_cli.console import counting, show_json, show_table
from serpent_cli.options import json_option, seed_option, task_option, version_option


def _list_tasks(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from serpent.degradations import describe, task_names

        show_table(("task", ""), [(task, describe(task)) for task in task_names()])
        context.exit()


@click.command(short_help="Make degraded pictures.")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@task_option
@seed_option
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_list_tasks, help="List the tasks.")
@click.option("--overwrite", is_flag=True, help="Replace existing results.")
@json_option
@version_option
def degrade(source: Path, target: Path, task: str, seed: int, overwrite: bool, as_json: bool) -> int:
    """Degrade the picture IN, or every picture below the folder IN, into OUT.

    A result depends on the picture, the task, the seed, and the picture's name (its path below the folder IN), so
    serpent-eval degrades the same file alike. Depth, format, transparency and metadata follow the picture; a .png keeps
    what a .jpg would compress.
    """
    from serpent.errors import SerpentError
    from serpent.evaluation.degraded_files import Degradation, degraded_jobs, make_folder_of

    degradation = Degradation(task, seed, overwrite)
    folder = source.is_dir()
    jobs = degraded_jobs(source, target)
    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    with counting(len(jobs)) as progress:
        for name, job in jobs.items():
            try:
                if folder:
                    make_folder_of(job)
                notes = degradation.apply(job, name)
                done.append({"picture": str(job.source), "output": str(job.target), "notes": list(notes)})
            except SerpentError as error:
                if not folder:
                    raise
                reason = {"message": error.message, "hint": error.hint}
                failed.append({"picture": str(job.source), "output": str(job.target), "error": reason})
            progress.advance(name)
    if as_json:
        show_json({"task": task, "seed": seed, "degraded": done, "failed": failed})
        return 1 if failed else 0
    for each in done:
        for note in each["notes"]:
            click.echo(f"note: {note}")
    click.echo(f"{target}  {len(done)} degraded ({task}, seed {seed})" + (f", {len(failed)} failed" if failed else ""))
    for each in failed:
        hint = each["error"]["hint"]
        click.echo(f"failed: {each['error']['message']}" + (f"\n  {hint}" if hint else ""), err=True)
    return 1 if failed else 0
