#!/usr/bin/env bash
# Counts the lines of code, the longest file, duplicate type names, `unsafe`, import cycles and loose files, and fails
# above the bounds in tools/bounds.py. --list names what is behind each count.
set -euo pipefail
exec python3 "$(dirname "$0")/bounds.py" "$@"
