"""Named ways of sorting: values of `SortingParameters` that belong together and cannot be changed one by one."""

from __future__ import annotations

PAPER = "paper"
# preset -> what it sets; everything else stays as given, or as it ships with the checkpoint
PRESETS = {PAPER: dict(detection="locally_exclusive", motion=None, matching=None, adapt=False)}


def preset_values(preset: str | None) -> dict:
    """What a preset sets.

    Parameters
    ----------
    preset : str | None
        None, and names that are none, set nothing.

    Returns
    -------
    dict
        Fields of `SortingParameters`.
    """
    return dict(PRESETS.get(preset, {})) if isinstance(preset, str) else {}


def refuse_changed_preset(values: dict) -> None:
    """Refuse values beside a preset that say something else than it.

    Parameters
    ----------
    values : dict
        Fields of `SortingParameters` as they were given, `preset` among them or not.

    Raises
    ------
    ValueError
        The first value that the preset sets otherwise.
    """
    for name, expected in preset_values(values.get("preset")).items():
        if values.get(name, expected) != expected:
            raise ValueError(
                f"expected {name}={expected!r}, which preset={values['preset']!r} sets, found {values[name]!r}; leave "
                f"out {name} or the preset"
            )


def check_preset(preset: str | None, num_units: int | None) -> None:
    """Refuse a preset without what it needs.

    Parameters
    ----------
    preset : str | None
    num_units : int | None
        Of `SortingParameters`.

    Raises
    ------
    ValueError
        "paper" without a number of units.
    """
    if preset == PAPER and num_units is None:
        raise ValueError(
            "expected num_units with preset='paper', whose mixture does not find the number of units, found None; give "
            "it, as in num_units=10"
        )


def check_groups(preset: str | None, groups: list, num_channels: int) -> None:
    """Refuse groups that a preset cannot sort, before anything is computed.

    Parameters
    ----------
    preset : str | None
        Of `SortingParameters`.
    groups : list of ChannelGroup
        What is to be sorted.
    num_channels : int
        Channels that the model takes.

    Raises
    ------
    ValueError
        "paper" on a group with more channels: its snippets are of different channels, which no one mixture can hold.
    """
    for group in groups:
        found = group.recording.get_num_channels()
        if preset == PAPER and found > num_channels:
            raise ValueError(
                f"expected groups of at most {num_channels} channels, which the model takes, for preset='paper' fits "
                f"one mixture to all spikes of a group; found {found} in group {group.name}; leave the preset out, or "
                "split the recording by the property 'group'"
            )
