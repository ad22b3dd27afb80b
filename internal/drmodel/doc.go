// Package drmodel is disaster recovery as a state machine, small enough to be
// looked at as a whole: one volume and what becomes of it by protection, planned
// failover, forced recovery, failback, drills and the return of lost zones.
//
// It is data and functions without I/O. Explore visits every state that can be
// reached within bounds and checks what must hold in each. The code is held to
// it: what zones that run write down is read as States, and Connected says
// whether the model has a way from one to the next.
//
// What is simplified: a message may be late for ever, come twice or never, which
// covers lost connections as well; a step of the model is a transaction of the
// code; time-outs may strike at any time. A second recovery of a volume in the
// same zone is left out: kvol's document has it make another volume, and so the
// operator has two by wish. The destination of a planned failover asks third
// zones in one step. In scopes that are Whole a point is sent, committed and
// heard of in one step, so that three zones and their bids can be seen at once.
//
// A protection's lease only takes from a zone that is cut off what it may do
// here; the machine has none.
package drmodel
