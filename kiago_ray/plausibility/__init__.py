"""How likely a composition is to be made and reported, learnt from what was; and what that says of a base's family."""
