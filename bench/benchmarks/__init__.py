"""Benchmarks for asv: `asv run --config bench/asv.conf.json --python=same` measures the installed package."""
