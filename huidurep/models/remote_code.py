"""The model's code beside its weights: ``trust_remote_code=True`` opens a published folder without huidurep."""

import json
import logging
from pathlib import Path

logger = logging.getLogger(__name__)
NAMED_HERE = """

# Files that this one needs by way of others; transformers 5.0, for one, copies only those that it finds named here.
"""
# Architecture -> transformers' Auto class -> where the class is. An encoder opens from either kind of folder.
AUTO_MAPS = {
    "HuiduRep": {
        "AutoConfig": "configuration_huidurep.HuiduRepConfig",
        "AutoModel": "modeling_huidurep.HuiduRep",
    },
    "HuiduRepForPreTraining": {
        "AutoConfig": "configuration_huidurep.HuiduRepConfig",
        "AutoModel": "modeling_huidurep.HuiduRep",
        "AutoModelForPreTraining": "modeling_pretraining.HuiduRepForPreTraining",
    },
}


def add_code(folder):
    """Make a checkpoint's folder one that transformers opens by the code in it.

    Done at publication and not with every ``save_pretrained``: whoever has huidurep needs no copies of it.

    Parameters
    ----------
    folder : str or Path
        As :meth:`HuiduRep.save_pretrained` writes it; config.json gets an ``auto_map``.

    Raises
    ------
    OSError
        If there is no config.json.
    """
    path = Path(folder) / "config.json"
    settings = json.loads(path.read_text(encoding="utf8"))
    architecture = (settings.get("architectures") or ["HuiduRep"])[0]
    if architecture not in AUTO_MAPS:
        logger.info("%s is no class of huidurep: it is published without code", architecture)
        return
    settings["auto_map"] = AUTO_MAPS[architecture]
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf8")
    copy_code(folder, architecture)


def copy_code(folder, architecture):
    """Copy the modules of a model, and those that they import, into a folder.

    Parameters
    ----------
    folder : str or Path
        Made if it does not exist.
    architecture : str
        Name of the model's class; nothing is copied for others than those of ``AUTO_MAPS``.
    """
    if architecture not in AUTO_MAPS:
        return
    from transformers.dynamic_module_utils import get_relative_import_files

    folder, here = Path(folder), Path(__file__).parent
    folder.mkdir(parents=True, exist_ok=True)
    entries = {reference.split(".")[0] for reference in AUTO_MAPS[architecture].values()}
    for entry in sorted(entries):
        needed = {Path(path).stem for path in get_relative_import_files(here / f"{entry}.py")}
        for name in needed - entries:
            _write(folder / f"{name}.py", (here / f"{name}.py").read_text(encoding="utf8"))
        _write(folder / f"{entry}.py", _name_all((here / f"{entry}.py").read_text(encoding="utf8"), needed - {entry}))


def _write(path, text):
    """Write a file, unless it is the same already."""
    if not path.is_file() or path.read_text(encoding="utf8") != text:
        path.write_text(text, encoding="utf8")


def _name_all(source, modules):
    """Code of a module that names all the others it needs, once."""
    imports = "".join(f"    from .{module} import __doc__\n" for module in sorted(modules))
    return source.split(NAMED_HERE)[0] + (f"{NAMED_HERE}if False:\n{imports}" if imports else "")
