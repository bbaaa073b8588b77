"""Parts of the experiment of benchmarks.seed_serverless_edge, each a process of its own environment."""
