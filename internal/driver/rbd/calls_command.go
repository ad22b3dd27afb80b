//go:build !ceph

package rbd

func newCalls(d *Driver) calls { return commands{d} }
