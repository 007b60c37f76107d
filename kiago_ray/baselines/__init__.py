"""What the paper compares KIAGO with: rule-based rounding (3.3), elemental substitution and SuperDiff (3.4)."""
