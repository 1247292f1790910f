"""What the archive shows over HTTP: health, readiness, metrics, status."""
