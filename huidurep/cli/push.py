"""The command ``huidurep push``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import AsJson, Token
from .output import print_result


def push(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Checkpoint folder, such as finetune writes.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Hub repository owner/name; created if missing.")],
    licence: Annotated[str | None, typer.Option("--license", help="Licence for the card, such as apache-2.0.")] = None,
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Of a repository that is created.", show_default=False)
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch; default: main.")] = None,
    message: Annotated[str, typer.Option(help="Commit message.")] = "Upload model",
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Publish a checkpoint on the Hub.

    The repository receives the weights, card, licence and sorting parameters, and no other files of FOLDER. The
    checkpoint is loaded first: damaged weights are not published.
    """
    from ..models.modeling_huidurep import HuiduRep
    from ..models.publishing import push_folder

    model = HuiduRep.from_pretrained(folder)  # strict, and compares the fingerprint
    options = dict(license=licence, private=private, token=token, revision=revision, commit_message=message)
    info = push_folder(model, folder, repo, **options)
    facts = dict(repository=repo, commit=info.oid, url=info.commit_url)
    print_result(f"{folder} -> {info.commit_url}", facts, as_json=as_json)
