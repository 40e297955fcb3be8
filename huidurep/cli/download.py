"""The command ``huidurep download``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .inputs import check_output
from .options import AsJson, Token
from .output import print_result


def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Hub repository owner/name, or embedded checkpoint.")],
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Also copy the checkpoint to this folder.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; default: main.")] = None,
    cache_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Cache; default: HF_HUB_CACHE.")] = None,
    token: Token = None,
    force: Annotated[bool, typer.Option("--force", help="Download again what the cache already has.")] = False,
    as_json: AsJson = False,
) -> None:
    """Download and check a checkpoint, for use without a network.

    For a computer behind a firewall: run `huidurep download NAME --output DIR` on another computer, copy DIR, and use
    its path as the model.
    """
    if output is not None:
        check_output(output, is_replaced=False)
    from ..hub.repository import commit_of
    from ..hub.resolve import resolve_checkpoint
    from ..models.modeling_huidurep import HuiduRep
    from ..models.publishing import copy_files

    options = dict(revision=revision, cache_dir=cache_dir, token=token, force_download=force)
    folder = resolve_checkpoint(name, **options)
    commit = commit_of(folder)
    HuiduRep.from_pretrained(folder)  # strict, and compares the fingerprint: only complete weights are copied
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        copy_files(folder, output)
        folder = output
    facts = dict(name=name, commit=commit, folder=folder)
    print_result(f"{name}{f' at commit {commit}' if commit else ''}, checked -> {folder}", facts, as_json=as_json)
