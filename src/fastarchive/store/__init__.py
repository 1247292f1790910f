"""The log that is the truth: packs of records, appended, followed, read and recovered. Format: ``docs/format.md``."""
