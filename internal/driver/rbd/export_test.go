package rbd

// Remembered is of how many volumes something is remembered.
func (d *Driver) Remembered() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.volumes)
}

// PoolCapacity is for tests from outside.
var PoolCapacity = poolCapacity
