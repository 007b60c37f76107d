"""What the paper compares KIAGO with: elemental substitution and SuperDiff (3.4)."""
