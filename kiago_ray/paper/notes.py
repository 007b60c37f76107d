"""Why our figures can't equal the paper's: what differs in data, predictors and baselines, a sentence each."""

from __future__ import annotations

PREDICTORS = (
    "T_c is predicted by a ResNet-18 of our own, trained on SuperCon v220808 and on compositions of "
    "the Materials Project as non-superconductors; the paper took the Crystallography Open Database "
    "for those. E_f is by an ElemNet trained on 97,425 energies of OQMD. Where T_c of a base, or of "
    "a family of compounds, is predicted otherwise, so is every ΔT_c."
)
ORACLE = (
    "The oracle (boosted trees on element properties) has no part in any search here. It learnt from "
    "the same data, so it is a second opinion and no measurement."
)
SCREENS = (
    "One judge for every method, as in the paper: the ResNet-18's T_c and the screens of the preset "
    "that the family is searched with, on SMACT 4's states of 2014 (smact14); the paper had SMACT 2.5.5."
)
SUPERDIFF = (
    "SuperDiff is a model of our own, of the same kind, trained on the same SuperCon compositions "
    "without normalising them; amounts are rounded to hundredths, and neutrality is decided exactly "
    "for such fractions, where SMACT alone would cut them off to whole numbers. Where it takes fewer than "
    "its 1,000 steps, guidance weighs as many times more in each. A quarter of its samples (ILVR's "
    "scale factor 1) are the base itself with the least noise."
)
GUIDANCE = (
    "The paper doesn't say what the guidance's weight multiplies. Here it is the gradient of the loss's mean over "
    "256 rows, as a batch's mean gives it: with that, Table 4's changes of T_c come out of the paper's size, and with "
    "each row's own gradient some hundred times larger."
)
SUBSTITUTION = (
    "C-ES draws which elements are exchanged, and the partners among those with the same state, at "
    "random; the paper says no more than that. States are the likeliest that balance the base."
)
START = (
    "How many elements a start adds isn't stated in the paper; `paper` adds three, which with "
    "LaNiAsO's four makes the seven of Fig. 3's caption."
)
SEED = "One seed is one draw; the spread over seeds is in S.4."
