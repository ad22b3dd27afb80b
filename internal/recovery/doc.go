// Package recovery turns recovery points into volumes: it chooses the point,
// says what the new volume is, and has the handler that fills it in the
// destination zone alone, whatever has become of the source.
//
// It does not decide who may ask or which requests make sense (that is
// control), it moves no data between zones (that is replication), and it never
// changes a replica: a recovery can be repeated.
package recovery
