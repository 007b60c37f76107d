"""Many searches on many machines: Ray runs them, MLflow keeps the record. Thin, and both imported only when used."""
