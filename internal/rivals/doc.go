// Package rivals decides which zone may take a volume over when several want to:
// by bids. A zone that is about to take a volume over writes its bid down and
// asks every other zone that may do so, too; who grants it writes that down and
// never takes the volume over under a lower epoch than it granted. A bid that
// all granted may be used, unless a higher one was granted here meanwhile.
//
// So of two zones one at least hears of the other before it begins: whoever
// wrote its bid down later finds the other's. Epochs of two zones are never
// equal (block.NextEpoch), so one of two bids that meet is the higher one.
//
// It is functions of what a zone knows, in its catalog's transactions, without
// I/O of its own. Asking and answering is control's.
package rivals
