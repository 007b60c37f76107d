"""What the paper compares with: elemental substitution and others. Each gives formulas; judging is the search's."""
