package catalog

// Next draws the next number of a named sequence: 1, 2, 3, ... A number whose
// transaction does not commit is drawn again.
func (tx *Tx) Next(name string) (int64, error) {
	var n int64
	err := tx.queryRow(`INSERT INTO sequences (name, value) VALUES ($1, 1)
		ON CONFLICT (name) DO UPDATE SET value = sequences.value + 1 RETURNING value`, name).Scan(&n)
	return n, err
}
