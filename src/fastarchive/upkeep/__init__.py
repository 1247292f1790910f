"""Looking after an archive: export, backup and restore, deletion, a new index. Works beside running processes."""
