"""microbp's benchmarks over time, for asv: `asv run --config bench/asv.conf.json --python=same` runs them on what is installed."""
