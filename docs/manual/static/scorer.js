// The order of results of the search: pages of the manual before READMEs of folders and changes, arguments of C functions last.
var Scorer = {
  score: ([page, , , kind, score]) => score - (/^docs\/(?!manual)/.test(page) ? 0 : 20) - (/parameter/.test(kind) ? 20 : 0),
  objNameMatch: 11, objPartialMatch: 6, objPrio: {0: 15, 1: 5, 2: -5}, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
};
