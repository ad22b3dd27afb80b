// Package control holds the rules of block storage: what may be asked, by
// whom, and in which state. It writes each intent together with its job in one
// transaction, and has the handlers that carry the jobs out on drivers. Front
// ends call it; it decides and speaks in Cinder's sentences.
//
// It is not a front end: it knows no HTTP, no JSON form and no microversion.
// It is not the catalog: it holds no state of its own but the devices that are
// open in this process. Where it refuses, the kind of the error says the code
// that a front end answers with.
package control
