// The elements: symbols, names, and where they stand in the periodic table.

const TEXT =
  "H hydrogen He helium Li lithium Be beryllium B boron C carbon N nitrogen O oxygen F fluorine Ne neon " +
  "Na sodium Mg magnesium Al aluminium Si silicon P phosphorus S sulfur Cl chlorine Ar argon K potassium " +
  "Ca calcium Sc scandium Ti titanium V vanadium Cr chromium Mn manganese Fe iron Co cobalt Ni nickel Cu copper " +
  "Zn zinc Ga gallium Ge germanium As arsenic Se selenium Br bromine Kr krypton Rb rubidium Sr strontium " +
  "Y yttrium Zr zirconium Nb niobium Mo molybdenum Tc technetium Ru ruthenium Rh rhodium Pd palladium Ag silver " +
  "Cd cadmium In indium Sn tin Sb antimony Te tellurium I iodine Xe xenon Cs caesium Ba barium La lanthanum " +
  "Ce cerium Pr praseodymium Nd neodymium Pm promethium Sm samarium Eu europium Gd gadolinium Tb terbium " +
  "Dy dysprosium Ho holmium Er erbium Tm thulium Yb ytterbium Lu lutetium Hf hafnium Ta tantalum W tungsten " +
  "Re rhenium Os osmium Ir iridium Pt platinum Au gold Hg mercury Tl thallium Pb lead Bi bismuth Po polonium " +
  "At astatine Rn radon Fr francium Ra radium Ac actinium Th thorium Pa protactinium U uranium Np neptunium " +
  "Pu plutonium Am americium Cm curium Bk berkelium Cf californium Es einsteinium Fm fermium Md mendelevium " +
  "No nobelium Lr lawrencium Rf rutherfordium Db dubnium Sg seaborgium Bh bohrium Hs hassium Mt meitnerium " +
  "Ds darmstadtium Rg roentgenium Cn copernicium Nh nihonium Fl flerovium Mc moscovium Lv livermorium " +
  "Ts tennessine Og oganesson";

const words = TEXT.split(" ");
export const SYMBOLS = words.filter((_, at) => at % 2 === 0);
export const NAMES = words.filter((_, at) => at % 2 === 1);
export const INDEX = Object.fromEntries(SYMBOLS.map((symbol, at) => [symbol, at]));

const NOBLE = [0, 2, 10, 18, 36, 54, 86, 118];

// Row and column from 1; lanthanides and actinides (without Lu and Lr) stand in rows 9 and 10.
export function place(at) {
  const number = at + 1;
  const period = NOBLE.findIndex((last) => number <= last);
  const before = NOBLE[period - 1];
  const length = NOBLE[period] - before;
  const nth = number - before;
  if (length === 2) return [1, nth === 1 ? 1 : 18];
  if (length === 8) return [period, nth <= 2 ? nth : nth + 10];
  if (length === 18) return [period, nth];
  if (nth <= 2) return [period, nth];
  if (nth <= 16) return [period + 3, nth + 1];
  return [period, nth - 14];
}
