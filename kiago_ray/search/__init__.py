"""The search: from a specification and two predictors to scored integer formulas. Pure torch and numpy."""
