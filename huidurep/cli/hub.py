"""The commands ``huidurep download`` and ``huidurep push``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huidurep.cli.inputs import check_output, check_writable
from huidurep.cli.options import AsJson
from huidurep.cli.output import tell_result

Token = Annotated[str | None, typer.Option(help="Access token; default: HF_TOKEN, or that of `hf auth login`.")]


def add_hub(app: typer.Typer) -> None:
    """Register the commands.

    Parameters
    ----------
    app : typer.Typer
    """
    app.command(name="download")(_download)
    app.command(name="push")(_push)


def _download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Hub repository owner/name, or embedded checkpoint.")],
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also copy it to this folder, to carry elsewhere.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; default: main.")] = None,
    cache_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Cache; default: HF_HUB_CACHE.")] = None,
    token: Token = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch all again, for a damaged copy.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch a checkpoint and check it, so that it loads later without a network.

    For a computer behind a firewall: `huidurep download NAME --output DIR` on another one, carry DIR over, and give DIR
    wherever a model is asked for.
    """
    if output is not None:
        check_output(output)
        check_writable(output)
    from huidurep.hub.repository import commit_of
    from huidurep.hub.resolve import resolve_checkpoint
    from huidurep.models.modeling_huidurep import HuiduRep
    from huidurep.models.publishing import copy_files

    options = dict(revision=revision, cache_dir=cache_dir, token=token, force_download=force)
    folder = resolve_checkpoint(name, **options)
    commit = commit_of(folder)
    HuiduRep.from_pretrained(folder)  # strict, with its fingerprint: what is carried away is whole
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        copy_files(folder, output)
        folder = output
    facts = dict(name=name, commit=commit, folder=folder)
    tell_result(f"{name}{f' at commit {commit}' if commit else ''}, checked -> {folder}", facts, as_json=as_json)


def _push(  # noqa: PLR0913 - every command-line option is an argument
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Checkpoint, such as finetune writes.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Hub repository owner/name; made if there is none.")],
    licence: Annotated[str | None, typer.Option("--license", help="Written into the card, such as apache-2.0.")] = None,
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Of a repository that is made.", show_default=False)
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch; default: main.")] = None,
    message: Annotated[str, typer.Option(help="What the commit is for.")] = "Upload model",
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Publish a checkpoint on the Hub, with card, licence and sorting parameters.

    FOLDER is loaded first: weights that are not those that were saved do not leave the house. Only what belongs to a
    checkpoint is sent.
    """
    from huidurep.models.modeling_huidurep import HuiduRep
    from huidurep.models.publishing import push_folder

    model = HuiduRep.from_pretrained(folder)  # strict, with its fingerprint
    options = dict(license=licence, private=private, token=token, revision=revision, commit_message=message)
    info = push_folder(model, folder, repo, **options)
    facts = dict(repository=repo, commit=info.oid, url=info.commit_url)
    tell_result(f"{folder} -> {info.commit_url}", facts, as_json=as_json)
