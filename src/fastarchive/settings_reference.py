"""The reference page of all settings, ``docs/settings.md``, made from the model; a test keeps it current."""

from __future__ import annotations

from pydantic import ByteSize

from fastarchive.setting_values import size_text
from fastarchive.settings import environment_name, option_name
from fastarchive.settings_model import allowed, fields


def default_text(name: str) -> str:
    """The default as the reference shows it."""
    field = fields()[name]
    if name == "workers":
        return "one for each CPU, at most 4"
    value = field.get_default(call_default_factory=True, validated_data={})
    if field.annotation is ByteSize:
        return size_text(value)
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    if isinstance(value, dict | tuple):
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def reference() -> str:
    """The reference page of all settings, Markdown."""
    lines = [
        "# Settings",
        "",
        "Made from the settings model by `./run settings --markdown > docs/settings.md`; don't edit it by hand.",
        "",
        "A setting is read from a TOML file (`--config FILE` or `FASTARCHIVE_CONFIG`), from the environment and from",
        "options of `fastarchive serve`; what comes later in this list wins. A wrong value or an unknown name stops",
        "the start with a message that says where it came from and what is allowed.",
        "",
        "```toml",
        "# fastarchive.toml",
        'data = "/var/lib/fastarchive"',
        'ae_title = "ARCHIVE"',
        'host = "0.0.0.0"',
        'reserve = "10GiB"',
        "",
        "[peers]",
        'WORKSTATION = "10.1.2.3:11112"',
        "",
        "[character_sets]",
        'CT1 = "GB18030"',
        "",
        "[query_limits.RESEARCH]",
        "matches = 5000",
        "queries = 1",
        "```",
        "",
    ]
    for name, field in fields().items():
        lines += [
            f"## `{name}`",
            "",
            field.description or "",
            "",
            f"- Default: {default_text(name)}",
            f"- Allowed: {allowed(name)}",
            f"- Environment: `{environment_name(name)}`; option: `{option_name(name)}`",
            "",
        ]
    return "\n".join(lines)
