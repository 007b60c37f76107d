"""MLflow's record of searches, campaigns, sweeps and trainings, and the predictors as a model of its registry."""
