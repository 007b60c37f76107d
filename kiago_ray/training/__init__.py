"""From public tables to weights with a model card: recipes, fits, calibration, held-out scores."""
