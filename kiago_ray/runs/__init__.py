"""A campaign: many searches planned, sharded, kept and merged. It knows storage, but neither Ray nor MLflow."""
