"""The networks that a search climbs: T_c (an ensemble; the paper's ResNet-18) and E_f (ElemNet)."""
